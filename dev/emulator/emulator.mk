# CUDA kernels without a GPU: the emulator, the kernels that run on it, and its own tests.
#
# The emulator (dev/emulator) runs .cu files that the host compiler has built. -fsanitize=thread makes the compiler insert a call
# before every access, -fsanitize=bounds,… inserts checks of language rules. The emulator defines the calls, so the sanitizers' own
# libraries must not be linked. Reports take names from the symbol table and lines from -g1. EXTRA, with which make sanitize passes
# its flags, is left out here: the emulator checks these files.
EMULATOR       := $(wildcard dev/emulator/*.cpp)
EMULATOR_TESTS := $(wildcard dev/emulator/tests/*.cpp)
EMULATED       := $(wildcard dev/emulator/tests/*.cu) dev/gpu/probe_kernels.cu
EMULATED_FLAGS = -Idev/emulator/include -fsanitize=thread -fsanitize=bounds,alignment,shift,integer-divide-by-zero,signed-integer-overflow,float-cast-overflow \
  -fno-strict-aliasing -fno-optimize-sibling-calls $(CONTRACT) -Wno-unknown-pragmas -Wno-tsan \
  $(if $(CLANG),-gdwarf-4 -mllvm -tsan-instrument-func-entry-exit=0 -mllvm -tsan-instrument-read-before-write=1 \
  -Wno-unknown-warning-option,--param tsan-instrument-func-entry-exit=0)
# A GPU may or may not use fma, so the tests must also pass with CONTRACT="-ffp-contract=fast -mfma".
CONTRACT ?= -ffp-contract=off
$(BUILD)/dev/emulator/%.o $(patsubst %,$(BUILD)/tests/%.o,test_gradients attention_wgmma_test device_choice_test cuda_run_test gpu_time_test nccl_test ranks_run_test): CXXFLAGS += -Idev/emulator/include
$(BUILD)/dev/emulator/%.o: OPT := $(subst -O3,-O2,$(OPT))
$(BUILD)/emulated/%.o: %.cu
	$(call say,c++ $< on the emulator)
	@$(CXX) -x c++ $(filter-out $(EXTRA),$(subst -O3,-O2,$(CXXFLAGS))) $(EMULATED_FLAGS) -c $< -o $@$(if $(CLANG),; \
	objcopy --redefine-sym memcpy=__tsan_memcpy --redefine-sym memmove=__tsan_memmove --redefine-sym memset=__tsan_memset $@)
$(BUILD)/libemulated.a: $(EMULATED_OBJ) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/libemulator.a: $(EMULATOR:%.cpp=$(BUILD)/%.o) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/emulator_tests: $(EMULATOR_TESTS:%.cpp=$(BUILD)/%.o) $(EMULATED:%.cu=$(BUILD)/emulated/%.o) $(BUILD)/libemulator.a
	$(call say,link $@)
	@$(CXX) $(CXXFLAGS) $^ -o $@ -lboost_context -lfmt -lpthread -lgtest -lgtest_main
emulator_test: $(BUILD)/emulator_tests ; $< --gtest_brief=1
