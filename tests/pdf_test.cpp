// PDF documents through pdftotext, and programs in its place that fail in every way.
#include "data/pdf.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "data/data_source.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

// A document of one page for each text; pdftotext mends the missing table of objects.
std::string document(const std::vector<std::string>& pages) {
  std::string kids, objects;
  int number = 3;
  for (const std::string& page : pages) {
    const std::string content = page.empty() ? "" : "BT /F1 12 Tf 72 720 Td (" + page + ") Tj ET";
    kids += fmt::format("{} 0 R ", number);
    objects += fmt::format(
        "{} 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {} 0 R/Resources<</Font<</F1 "
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>\nendobj\n{} 0 obj\n<</Length "
        "{}>>\nstream\n{}\nendstream\nendobj\n",
        number, number + 1, number + 1, content.size(), content);
    number += 2;
  }
  return fmt::format(
      "%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Count {}/Kids[{}]>>\nendobj\n{}trailer\n"
      "<</Root 1 0 R/Size {}>>\n%%EOF\n",
      pages.size(), kids, objects, number);
}

class Pdf : public testing::Test {
 protected:
  // Puts a shell script in the place of pdftotext.
  void replace_program(const std::string& script) {
    directory_.write("bin/pdftotext", "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(directory_ / "bin/pdftotext", std::filesystem::perms::owner_all);
    set_path((directory_ / "bin").string());
  }
  void set_path(const std::string& path) { ::setenv("PATH", path.c_str(), 1); }
  void TearDown() override { set_path(path_); }
  std::string refusal(const PdfLimits& limits = {}) {
    return refusal_of([&] { pdf_text(directory_ / "f.pdf", "f.pdf", limits); });
  }

  const std::string path_ = std::getenv("PATH");
  const TemporaryDirectory directory_;
};

TEST_F(Pdf, TextOfRealDocuments) {
  if (std::system("pdftotext -v >/dev/null 2>&1") != 0) GTEST_SKIP() << "there is no pdftotext";
  directory_.write("f.pdf", document({"Once upon a time", "the end"}))
      .write("folder/a.pdf", document({"one"}))
      .write("folder/b.txt", "two");
  const auto source = DataSource::open(directory_ / "f.pdf", {});
  EXPECT_EQ(source->facts().format, DataFormat::kText);
  EXPECT_TRUE(says(source->facts().decision, "(PDF)"));
  SourceFindings findings;
  const std::vector<Example> examples = source->parse(*source->next(), findings);
  ASSERT_EQ(examples.size(), 1u);
  EXPECT_TRUE(says(examples[0].text, "Once upon a time\n"));
  EXPECT_TRUE(says(examples[0].text, "the end\n"));
  EXPECT_EQ(examples[0].text.find('\f'), std::string::npos);
  EXPECT_EQ(DataSource::open(directory_ / "folder", {})->facts().rows, 2);
  directory_.write("f.pdf", document({"", ""}));
  EXPECT_TRUE(says(refusal(), "has no text, only pictures"));
  directory_.write("f.pdf", "%PDF-1.4\nnothing");
  EXPECT_TRUE(says(refusal(), "damaged or locked"));
  directory_.write("f.pdf", document({"Once upon a time"}));
  EXPECT_TRUE(says(refusal({.memory_bytes = 1 << 20}), "pdftotext"));
  EXPECT_TRUE(says(refusal({.text_bytes = 4}), "more than 4 B of text"));
  PrepareOptions options;
  options.format = DataFormat::kAlpaca;
  EXPECT_TRUE(says(refusal_of([&] { DataSource::open(directory_ / "f.pdf", options); }), "no rows for --format alpaca"));
}

TEST_F(Pdf, ProgramsThatFail) {
  directory_.write("f.pdf", document({"x"}));
  set_path((directory_ / "nothing").string());
  EXPECT_TRUE(says(refusal(), "apt-get install poppler-utils"));
  replace_program("exit 3");
  EXPECT_TRUE(says(refusal(), "does not permit"));
  replace_program("exec /bin/sleep 30");
  EXPECT_TRUE(says(refusal({.seconds = 1}), "needed more than 1 s"));
  replace_program("echo text; exec >&-; exec /bin/sleep 30");
  EXPECT_TRUE(says(refusal({.seconds = 1}), "needed more than 1 s")) << "its output ends before it does";
  replace_program("kill -9 $$");
  EXPECT_TRUE(says(refusal(), "ended by signal 9"));
  replace_program("while :; do echo text; done");
  EXPECT_TRUE(says(refusal({.text_bytes = 100000}), "more than 97.7 KiB of text"));
  replace_program("echo \"$@\"");
  const std::string text = pdf_text(directory_ / "-f.pdf", "f.pdf");
  EXPECT_TRUE(says(text, "-q -enc UTF-8 -eol unix /")) << "a name with a dash is no option";
}

}  // namespace
}  // namespace tll
