# The tests of the ops on arm64, without an arm64 machine: Debian's cross compiler builds them, qemu runs them. The libraries are
# Debian's arm64 packages, unpacked into build-arm64-sysroot; nothing is installed but the compiler and qemu.
ARM64_CXX     := aarch64-linux-gnu-g++ --sysroot=$(CURDIR)/build-arm64-sysroot
ARM64_RUN     := qemu-aarch64 -L build-arm64-sysroot
build-arm64-sysroot/ready: dev/arm64/sysroot.sh ; $< build-arm64-sysroot
arm64-test: build-arm64-sysroot/ready
	@$(MAKE) --no-print-directory -j$$(nproc) BUILD=build-arm64 CXX="$(ARM64_CXX)" NVCC= $(addprefix build-arm64/,arm64/train_llama_lora arm64/op_tests arm64/test_gradients)
	$(ARM64_RUN) build-arm64/arm64/train_llama_lora train --model tests/goldens/gqa_tied --data tests/goldens/gqa_tied/data.jsonl \
	  --seq-len 64 --dtype fp32 --rank 4 --max-steps 5 --output build-arm64/adapter
	$(ARM64_RUN) build-arm64/arm64/op_tests --gtest_brief=1
	$(ARM64_RUN) build-arm64/arm64/test_gradients

$(BUILD)/arm64/train_llama_lora: $(BUILD)/train_llama_lora.o $(ENGINE) $(BUILD)/libkernels.a ; $(call link,none)
$(BUILD)/arm64/op_tests: $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard tests/op_*_test.cpp)) $(BUILD)/tests/main.o $(BUILD)/libcases.a $(ENGINE) $(emulated)
	$(call link,emulated) -lgtest
$(BUILD)/arm64/test_gradients: $(BUILD)/tests/test_gradients.o $(BUILD)/libcases.a $(BUILD)/libsrc.a $(emulated) ; $(call link,emulated)
