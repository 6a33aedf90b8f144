// Every case of every op: in double against its definition and the complex step, in each training type on each device.
#include <gtest/gtest.h>

#include "tests/op_case.h"

namespace tll::test {
namespace {

constexpr uint64_t kSeed = 42;

class OpCases : public testing::TestWithParam<OpCase> {};

TEST_P(OpCases, ForwardAndBackwardAreRight) {
  // On the emulator it is ./test_gradients that runs them.
  std::vector<TestDevice> devices = devices_here();
  std::erase_if(devices, [](const TestDevice& d) { return d.name == "cuda-emulated"; });
  for (const Row& row : check(GetParam(), devices))
    EXPECT_EQ(row.problem, "") << row.op << " " << row.shape << " " << row.dtype << " on " << row.device;
}

INSTANTIATE_TEST_SUITE_P(All, OpCases, testing::ValuesIn(all_cases(kSeed)), [](const auto& info) {
  std::string name = fmt::format("{}_{}_", info.index, info.param.op);
  for (char c : info.param.shape) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace

// What gtest prints of a parameter.
void PrintTo(const OpCase& op, std::ostream* out) { *out << op.op << " " << op.shape; }

}  // namespace tll::test
