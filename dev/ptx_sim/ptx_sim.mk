# The interpreter of what nvcc makes of the .cu files (PTX), and its tests. It needs no CUDA.
$(BUILD)/dev/ptx_sim/%.o: CXXFLAGS += -ffp-contract=off
$(BUILD)/libptx_sim.a: $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard dev/ptx_sim/*.cpp)) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/ptx_sim_tests: $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard dev/ptx_sim/tests/*.cpp)) $(BUILD)/libptx_sim.a
	$(call say,link $@)
	@$(CXX) $(CXXFLAGS) $^ -o $@ -lpthread -lgtest -lgtest_main
