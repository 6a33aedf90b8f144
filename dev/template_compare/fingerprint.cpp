// Prints the fingerprint of each chat_template in the files named, for fingerprints.py.
#include <fmt/format.h>

#include "data/chat_template.h"
#include "src/base/file.h"

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) fmt::print("{:016x}\n", tll::jinja_fingerprint(tll::read_file(argv[i])));
}
