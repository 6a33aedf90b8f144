#include "src/ranks/collectives.h"

#include <algorithm>
#include <array>

#include "src/base/process.h"

namespace tll {

std::vector<std::string> gather_texts(Collectives& collectives, const std::string& own) {
  std::vector<int64_t> lengths(static_cast<size_t>(collectives.size()));
  lengths[static_cast<size_t>(collectives.rank())] = static_cast<int64_t>(own.size());
  collectives.all_gather_host(lengths.data(), sizeof(int64_t));
  std::vector<std::string> texts;
  for (int rank = 0; rank < collectives.size(); rank++) {
    std::string& text = texts.emplace_back(rank == collectives.rank() ? own : std::string());
    text.resize(static_cast<size_t>(lengths[static_cast<size_t>(rank)]));
    collectives.broadcast_host(text.data(), lengths[static_cast<size_t>(rank)], rank);
  }
  return texts;
}

std::string text_of_first(Collectives& collectives, std::string text) {
  size_t length = text.size();
  collectives.broadcast_host(&length, sizeof(length), 0);
  text.resize(length);
  collectives.broadcast_host(text.data(), static_cast<int64_t>(length), 0);
  return text;
}

void agree_to_stop(Collectives& collectives) {
  std::array<char, kMostRanks> signalled{};
  signalled[static_cast<size_t>(collectives.rank())] = stop_signalled();
  collectives.all_gather_host(signalled.data(), 1);
  agree_to_stop(std::count(signalled.begin(), signalled.begin() + collectives.size(), 1) > 0);
}

}  // namespace tll
