// The text of a PDF document, through pdftotext (poppler-utils), a program of its own.
#pragma once

#include <filesystem>
#include <string>

namespace tll {

struct PdfLimits {
  int64_t memory_bytes = int64_t(4) << 30;  // address space of the child process
  int64_t text_bytes = int64_t(256) << 20;
  int seconds = 120;
};

// The text in UTF-8, with an empty line between pages. Error (kExitBadFile) if there is no pdftotext, if it cannot read the file,
// if the document is above the limits, or has no text because its pages are pictures. `name` stands for the file in messages.
std::string pdf_text(const std::filesystem::path& path, const std::string& name, const PdfLimits& limits = {});

}  // namespace tll
