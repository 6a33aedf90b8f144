// Runs every test of the binary, and closes with one plain line: how many passed, failed and were skipped.
#include <gtest/gtest.h>

#include <cstdio>


int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
  const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  for (int s = 0; s < tests.total_test_suite_count(); s++) {
    const testing::TestSuite& suite = *tests.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); t++) {
      const testing::TestInfo& test = *suite.GetTestInfo(t);
      if (!test.result()->Skipped()) continue;
      std::printf("skipped: %s.%s: %s\n", suite.name(), test.name(), test.result()->GetTestPartResult(0).message());
    }
  }
  std::printf("%d passed, %d failed, %d skipped\n", tests.successful_test_count(), tests.failed_test_count(),
              tests.skipped_test_count());
  return result;
}
