# dev/ladder: every rung on the emulator. The linker redirects the calls of every access to on_emulator.cpp, which counts the bytes.
LADDER       := $(wildcard dev/ladder/*.cu)
LADDER_HOST  := $(filter-out dev/ladder/on_%.cpp,$(wildcard dev/ladder/*.cpp))
COUNTED      := $(foreach n,1 2 4 8 16 _range,read$(n) write$(n)) $(foreach n,2 4 8 16,unaligned_read$(n) unaligned_write$(n))
$(BUILD)/dev/ladder/%.o: CXXFLAGS += -Idev/emulator/include
$(BUILD)/dev/ladder/%.o: OPT := $(subst -O3,-O2,$(OPT))
$(BUILD)/ladder_tests: $(LADDER_HOST:%.cpp=$(BUILD)/%.o) $(BUILD)/dev/ladder/on_emulator.o $(LADDER:%.cu=$(BUILD)/emulated/%.o) $(BUILD)/libemulator.a
	$(call say,link $@)
	@$(CXX) $(CXXFLAGS) $^ -o $@ $(COUNTED:%=-Wl,--wrap=__tsan_%) -Wl,--wrap=_ZN8emulator8cp_asyncEPvPKvii -lboost_context -lfmt -lpthread
# The same for a GPU. build/ladder --tables measures it.
$(BUILD)/cuda/dev/ladder/%.o: dev/ladder/%.cpp
	$(call say,nvcc $<)
	@$(NVCC) $(NVCCFLAGS) $(GPU_FLAGS) -c $< -o $@
$(BUILD)/ladder: $(LADDER_HOST:%.cpp=$(BUILD)/cuda/%.o) $(BUILD)/cuda/dev/ladder/on_gpu.o $(LADDER:%.cu=$(BUILD)/cuda/%.o)
	$(call say,link $@)
	@$(NVCC) $^ -o $@ -lfmt
