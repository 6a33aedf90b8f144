# dev/fuzz: a fuzzer for each reader of files. clang's libFuzzer and both sanitizers watch all that reads and plans; the kernels are
# those of the program.
FUZZ_CXX      ?= $(firstword $(foreach c,clang++-19 clang++-16 clang++,$(shell command -v $(c))))
FUZZ_PACKAGES := clang-16 libclang-rt-16-dev llvm-16
FUZZ_FLAGS    := -std=c++20 -O2 -g1 -I. -MMD -MP -Wall -Wextra $(if $(WERROR),-Werror) \
                 -Wno-unknown-pragmas -Wno-deprecated-declarations -Wno-missing-field-initializers -D_GLIBCXX_ASSERTIONS \
                 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
                 -fprofile-instr-generate -fcoverage-mapping
FUZZERS       := $(patsubst dev/fuzz/%.cpp,%,$(wildcard dev/fuzz/*.cpp))
FUZZ_ROOMS    := src/base src/files src/model src/train data tokenizer
FUZZ_READERS  := $(patsubst %.cpp,$(BUILD)/fuzz/%.o,$(filter-out data/parquet_arrow.cpp,$(wildcard $(FUZZ_ROOMS:%=%/*.cpp))))

.PHONY: fuzz fuzz_check
.SECONDARY: $(FUZZERS:%=$(BUILD)/fuzz/dev/fuzz/%.o)
$(BUILD)/fuzz/%.o: %.cpp ; @mkdir -p $(@D); $(FUZZ_CXX) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -c $< -o $@
$(BUILD)/libfuzz.a: $(FUZZ_READERS) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/fuzz_%: $(BUILD)/fuzz/dev/fuzz/%.o $(BUILD)/libfuzz.a $(BUILD)/libkernels.a
	$(FUZZ_CXX) $(FUZZ_FLAGS) -fsanitize=fuzzer $< -o $@ -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS)
$(BUILD)/fuzz_seeds: $(BUILD)/fuzz/dev/fuzz/seeds/make_seeds.o $(BUILD)/libfuzz.a $(BUILD)/libkernels.a
	$(FUZZ_CXX) $(FUZZ_FLAGS) $< -o $@ -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS) -lgtest
# The unit tests of these rooms, for dev/fuzz/coverage.sh.
READER_TESTS  := $(if $(filter %fuzz_reader_tests,$(MAKECMDGOALS)),$(shell grep -lE '"(data|tokenizer|tests/tokenizer|src/files|src/base|src/train/checkpoint)' tests/*_test.cpp | \
                   xargs grep -LE '"(src/(commands|options|report|model/[^r]|train/[^c])|dev/|tests/(tiny|op_))|sys/wait'))
$(BUILD)/fuzz_reader_tests: $(READER_TESTS:%.cpp=$(BUILD)/fuzz/%.o) $(BUILD)/fuzz/tests/main.o $(BUILD)/libfuzz.a $(BUILD)/libkernels.a
	$(FUZZ_CXX) $(FUZZ_FLAGS) $(filter %.o,$^) -o $@ -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS) -lgtest

fuzz_check:
	@echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' | \
	  $(or $(FUZZ_CXX),false) -x c++ -fsanitize=fuzzer,address,undefined - -o /dev/null 2>/dev/null || \
	  { echo "error: the fuzzers need clang's libFuzzer and sanitizers: install $(FUZZ_PACKAGES), or name a clang++ by FUZZ_CXX"; exit 1; }
fuzz: fuzz_check
	@$(MAKE) --no-print-directory $(FUZZERS:%=$(BUILD)/fuzz_%) $(BUILD)/fuzz_seeds
