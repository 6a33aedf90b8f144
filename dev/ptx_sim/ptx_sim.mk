# nvcc's kernels without a GPU: the interpreter of what nvcc makes of the .cu files (PTX), and its own tests.
#
# The interpreter needs no CUDA. The runtime that takes the place of NVIDIA's needs its headers. The objects that nvcc compiles for it
# hold PTX of one architecture, as text, and no machine code. Of the program's own functions runtime/hooks.cpp replaces some, which
# become weak.
PTX_ARCH    ?= 90
PTX_RUNTIME := $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard dev/ptx_sim/runtime/*.cpp))
PTX_HOOKS   := *cuda_name_tensor* *cuda_forget_tensors* *cuda_begin_tensor* *cuda_end_tensor* *cuda_faults* *open_cublas*
$(BUILD)/dev/ptx_sim/%.o: CXXFLAGS += -ffp-contract=off
$(BUILD)/dev/ptx_sim/runtime/%.o: CXXFLAGS += -isystem $(CUDA_HOME)/include
$(BUILD)/libptx_sim.a: $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard dev/ptx_sim/*.cpp)) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/ptx_sim_tests: $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard dev/ptx_sim/tests/*.cpp)) $(BUILD)/libptx_sim.a
	$(call say,link $@)
	@$(CXX) $(CXXFLAGS) $^ -o $@ -lpthread -lgtest -lgtest_main

# The interpreter's tests that need nvcc. Their object holds PTX for compute_90 as well, where its kernels are traps.
PTX_NVCC_TESTS := $(BUILD)/dev/ptx_sim/tests/nvcc
$(PTX_NVCC_TESTS)/wgmma_test.o: CXXFLAGS += -isystem $(CUDA_HOME)/include
$(PTX_NVCC_TESTS)/wgmma.o: dev/ptx_sim/tests/nvcc/wgmma.cu
	$(call say,nvcc $< to PTX of compute_90 and compute_90a)
	@$(NVCC) $(NVCCFLAGS) -O3 -no-compress $(if $(WERROR),-Werror all-warnings) -MMD -MP \
	  -gencode arch=compute_90,code=compute_90 -gencode arch=compute_90a,code=compute_90a -c $< -o $@
$(BUILD)/ptx_sim_nvcc_tests: $(PTX_NVCC_TESTS)/wgmma.o $(PTX_NVCC_TESTS)/wgmma_test.o $(filter %/launches.o %/memory.o,$(PTX_RUNTIME)) $(BUILD)/libptx_sim.a
	$(call say,link $@)
	@$(CXX) $(CXXFLAGS) $^ -o $@ -lpthread -ldl -lgtest -lgtest_main

PTX_TARGET = $(PTX_ARCH)
$(BUILD)/ptx90/%_wgmma.o: PTX_TARGET = 90a
$(BUILD)/ptx$(PTX_ARCH)/%.o: %.cu
	@$(if $(NVCC),,echo "error: make ptx_test needs nvcc, which was not found; NVCC=… names it"; exit 1)
	$(call say,nvcc $< to PTX of compute_$(PTX_ARCH))
	@$(NVCC) $(NVCCFLAGS) -O3 -lineinfo -no-compress $(if $(WERROR),-Werror all-warnings) -MMD -MP \
	  -gencode arch=compute_$(PTX_TARGET),code=compute_$(PTX_TARGET) -c $< -o $@
	@$(if $(filter %/cuda_device.o %/cublas_lt.o,$@),objcopy -w $(PTX_HOOKS:%=--weaken-symbol='%') $@)
$(BUILD)/libptx$(PTX_ARCH).a: $(CU:%.cu=$(BUILD)/ptx$(PTX_ARCH)/%.o) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/test_gradients_ptx$(PTX_ARCH): $(BUILD)/tests/test_gradients.o $(PTX_RUNTIME) $(BUILD)/libcases.a $(BUILD)/libsrc.a \
  $(BUILD)/libptx$(PTX_ARCH).a $(BUILD)/libptx_sim.a $(BUILD)/libkernels.a ; $(call link,ptx) -ldl
# What nothing launches on an architecture: attention in bf16 is refused on sm_75, where its other kernels are traps; those with wgmma
# are empty but on sm_90.
PTX_UNREACHED_75 := delta_kernel<tll::bf16> _wgmma_kernel<
PTX_UNREACHED_80 := _wgmma_kernel<
ptx_test: $(BUILD)/test_gradients_ptx$(PTX_ARCH) $(BUILD)/ptx_sim_nvcc_tests
	$(BUILD)/ptx_sim_nvcc_tests --gtest_brief=1
	TLL_PTX_SIM="report=$(BUILD)/ptx$(PTX_ARCH).txt" $< --device cuda
	@head -n 1 $(BUILD)/ptx$(PTX_ARCH).txt
	@! grep '^0 launches' $(BUILD)/ptx$(PTX_ARCH).txt $(PTX_UNREACHED_$(PTX_ARCH):%=| grep -vF '%') || { echo "error: no case of test_gradients launches these kernels"; exit 1; }
