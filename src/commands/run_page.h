// report.html: one page about a run that needs no network and no script. It is made of what run.json says.
#pragma once

#include <string>

#include "src/base/json.h"
#include "src/report/run_history.h"

namespace tll {

// `plan_svg`: the picture of the plan (src/model/plan_picture.h); empty: there is none. Whatever is not in `run` is left out.
// Texts of a run (answers, paths, options) are untrusted: none of them is markup on the page.
std::string run_page(const Json& run, const RunHistory& history, const std::string& plan_svg);

}  // namespace tll
