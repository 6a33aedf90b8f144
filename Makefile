# make train && ./train_llama_lora --data squad.bin
CXX      ?= g++
BUILD    ?= build
ISAS     := base avx2 avx512
WARN     := -Wall -Wextra -Werror
CXXFLAGS := -std=c++20 -O3 -g1 -fno-fast-math -ffp-contract=off -fopenmp $(WARN) -I. -MMD -MP $(EXTRA)
LIBS     := -ldnnl -lfmt -lxxhash -lpthread
# A kernel's .cpp is compiled once for each instruction set; the program picks one at start.
MARCH_base   := -march=x86-64
MARCH_avx2   := -march=x86-64-v3
MARCH_avx512 := -march=x86-64-v4

ONCE      := kernels/device.cpp kernels/matmul_bf16.cpp
KERNELS   := $(filter-out $(ONCE),$(wildcard kernels/*.cpp))
objs       = $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard $(1)/*.cpp))
KERNELOBJ := $(ONCE:%.cpp=$(BUILD)/%.o) $(foreach isa,$(ISAS),$(patsubst %.cpp,$(BUILD)/%.$(isa).o,$(KERNELS)))
TESTS     ?= $(wildcard tests/*_test.cpp)

.DEFAULT_GOAL := program
program: train_llama_lora

$(BUILD)/%.base.o: %.cpp ; @mkdir -p $(@D); $(CXX) $(CXXFLAGS) $(MARCH_base) -DTLL_ISA=base -DTLL_ORACLE -c $< -o $@
$(BUILD)/%.avx2.o: %.cpp ; @mkdir -p $(@D); $(CXX) $(CXXFLAGS) $(MARCH_avx2) -ffp-contract=fast -DTLL_ISA=avx2 -c $< -o $@
$(BUILD)/%.avx512.o: %.cpp ; @mkdir -p $(@D); $(CXX) $(CXXFLAGS) $(MARCH_avx512) -ffp-contract=fast -mprefer-vector-width=512 -DTLL_ISA=avx512 -c $< -o $@
$(BUILD)/%.o: %.cpp ; @mkdir -p $(@D); $(CXX) $(CXXFLAGS) -c $< -o $@

$(BUILD)/libkernels.a: $(KERNELOBJ) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/libsrc.a: $(call objs,src) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/libtokenizer.a: $(call objs,tokenizer) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/libdata.a: $(call objs,data) ; @rm -f $@; ar rcs $@ $^
ARCHIVES := $(BUILD)/libsrc.a $(BUILD)/libdata.a $(BUILD)/libtokenizer.a $(BUILD)/libkernels.a
link = $(CXX) $(CXXFLAGS) $(1) -o $@ -Wl,--start-group $(ARCHIVES) -Wl,--end-group $(LIBS)

train_llama_lora: $(BUILD)/train_llama_lora.o $(ARCHIVES) ; $(call link,$<)
$(BUILD)/train_llama_lora.o: train_llama_lora.cu ; @mkdir -p $(@D); $(CXX) -x c++ $(CXXFLAGS) -c $< -o $@

# The cases of every op: what op_cases_test checks and what ./test_gradients prints.
$(BUILD)/libcases.a: $(patsubst %.cpp,$(BUILD)/%.o,$(filter-out %_test.cpp,$(wildcard tests/op_*.cpp))) ; @rm -f $@; ar rcs $@ $^
test_gradients: $(BUILD)/tests/test_gradients.o $(BUILD)/libcases.a $(BUILD)/libkernels.a ; $(CXX) $(CXXFLAGS) $^ -o $@ $(LIBS)

# One test file alone: make build/one/NAME_test && build/one/NAME_test
$(BUILD)/one/%: $(BUILD)/tests/%.o $(BUILD)/libcases.a $(ARCHIVES) ; @mkdir -p $(@D); $(call link,$(filter-out $(ARCHIVES),$^)) -lgtest -lgtest_main

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
