# make train && ./train_llama_lora --data squad.bin        trains an adapter on the demo model
# make test                                                builds and runs every test
# make help                                                lists the other targets
CXX      ?= g++
BUILD    ?= build
OPT      ?= -O3 -g1

# What the compiler is and compiles for, in five words: of a macro that it does not define, the name. Empty: there is no compiler.
MACROS   := __clang_major__ __GNUC__ __linux__ __x86_64__ __aarch64__
COMPILER := $(shell echo $(MACROS) | $(CXX) -E -P -x c++ - 2>/dev/null)
macro     = $(filter-out __%,$(word $(1),$(COMPILER)))
CLANG    := $(or $(call macro,1),$(if $(COMPILER),,$(findstring clang,$(CXX))))
ARCH     := $(if $(call macro,4),x86_64,$(if $(call macro,5),aarch64))
ifneq ($(COMPILER),)
ifneq ($(call macro,3)$(if $(ARCH),,no),1)
$(error $(CXX) compiles for $(shell $(CXX) -dumpmachine): this program needs Linux (on Windows inside WSL) on x86-64 or arm64)
endif
ifneq ($(filter $(if $(CLANG),1 2 3 4 5 6 7 8 9 10 11 12 13,1 2 3 4 5 6 7 8 9 10 11),$(or $(CLANG),$(call macro,2))),)
$(error $(CXX) is $(if $(CLANG),clang $(CLANG),g++ $(call macro,2)): this program needs g++ 12 or clang 14, or later; choose one with CXX=…)
endif
endif

# Warnings of g++ that are wrong: of 12 in std::string's operator+ (GCC bug 105651) and in {fmt} 9's buffers, and of 13 and later about
# references that a JsonNode, which is a view, has given.
# clang warns about each loop over an oracle type that it does not vectorise. WERROR=1, as in CI: warnings are errors.
WARN     := -Wall -Wextra $(if $(WERROR),-Werror) $(if $(CLANG),-Wno-pass-failed,-Wno-restrict -Wno-array-bounds -Wno-stringop-overflow -Wno-dangling-reference)
# No fast-math anywhere: what is reordered is reordered in the source.
# On arm64 a char is unsigned unless the flag says otherwise.
CXXFLAGS = -std=c++20 $(OPT) -fopenmp-simd $(if $(filter aarch64,$(ARCH)),-fsigned-char) $(WARN) -I. -MMD -MP $(EXTRA)
LIBS     := -lfmt -lxxhash -lpcre2-8 -lz -lzstd -lpthread
COMMA    := ,
# ARROW=DIR: Apache Arrow's library, whose headers are in DIR/include and which is in DIR or DIR/lib, reads Parquet files.
ARROW    ?=
ARROW_LIBS := $(foreach lib,parquet arrow,$(firstword $(wildcard $(ARROW:%=%/lib/lib$(lib).so %/lib$(lib).so)) $(wildcard $(ARROW:%=%/lib/lib$(lib).so.* %/lib$(lib).so.*))))
LIBS     += $(if $(ARROW),$(ARROW_LIBS) $(patsubst %,-Wl$(COMMA)-rpath$(COMMA)%,$(sort $(abspath $(dir $(ARROW_LIBS))))))

# A kernel's .cpp is compiled once for each instruction set; the program picks one at start. The oracle types of the tests
# (double, complex) need no fast instructions: the base objects hold them. -ffp-contract=fast: fma, where the instruction set has it.
# Nobody reads errno or the floating-point exception flags. Without them loops over exponentials are vectorised; no value changes.
KERNEL_MATH  := -fno-math-errno -fno-trapping-math
MARCH_base   := $(if $(filter x86_64,$(ARCH)),-march=x86-64) -ffp-contract=off -DTLL_ORACLE
MARCH_avx2   := -march=x86-64-v3 -ffp-contract=fast
MARCH_avx512 := -march=x86-64-v4 -ffp-contract=fast -mprefer-vector-width=512
MARCH_neon   := -ffp-contract=fast
# What multiplies bf16 is compiled once, for all processors that do. g++ 12 warns wrongly about the masks of its own intrinsics.
MARCH_bf16   := -march=x86-64-v4 -mavx512bf16 -mamx-tile -mamx-bf16 $(if $(CLANG),,-Wno-maybe-uninitialized -Wno-uninitialized)
ISAS         := base $(if $(filter aarch64,$(ARCH)),neon,avx2 avx512)
ONLY_BF16    := kernels/matmul_bf16.cpp kernels/attention_bf16.cpp
ONCE         := kernels/device.cpp kernels/gpu_time.cpp kernels/bf16_instructions.cpp kernels/cuda_none.cpp
KERNELS      := $(filter-out $(ONCE) $(ONLY_BF16),$(wildcard kernels/*.cpp))
KERNEL_OBJ   := $(ONCE:%.cpp=$(BUILD)/%.o) $(foreach isa,$(ISAS),$(patsubst %.cpp,$(BUILD)/%.$(isa).o,$(KERNELS))) \
                $(if $(filter x86_64,$(ARCH)),$(ONLY_BF16:%.cpp=$(BUILD)/%.o))
CASES        := $(filter-out %_test.cpp,$(wildcard tests/op_*.cpp))
TESTS        := $(wildcard tests/*_test.cpp)
objects       = $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard $(1)/*.cpp))

# The .cu files of the ops are compiled twice: by nvcc for a GPU, and by the host compiler for the emulator, which the tests use.
NVCC         := $(or $(shell command -v nvcc),$(wildcard /usr/local/cuda/bin/nvcc))
CUDA_HOME    := $(if $(NVCC),$(abspath $(dir $(realpath $(NVCC)))/..))
# CUDA_ARCH: for which GPUs nvcc compiles; dev/cuda_archs.sh says what may stand there, and decides where nothing does. The makes that
# this one calls are told.
ifndef CUDA_FACTS
export CUDA_FACTS := $(shell dev/cuda_archs.sh "$(NVCC)" "$(CUDA_ARCH)")
endif
cuda_fact     = $(subst ~, ,$(patsubst $(1):~%,%,$(filter $(1):%,$(CUDA_FACTS))))
ARCHS        := $(filter-out note:% error:%,$(CUDA_FACTS))
$(if $(call cuda_fact,error),$(error $(call cuda_fact,error)))
# fmt 9 checks its formats with consteval, which nvcc does not compile.
NVCCFLAGS    := -std=c++20 -I. -DFMT_USE_CONSTEXPR=1
# What ptxas says of registers and spills stays in a .log beside the object, for dev/check_spills.sh.
# Later GPUs run the PTX of the last architecture; those between 90 and it, such as 110, the PTX of 90.
GPU_FLAGS    := -O3 -lineinfo -Xptxas -v $(if $(WERROR),-Werror all-warnings) -MMD -MP --threads 0 \
                $(foreach a,$(ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
                $(foreach a,$(sort $(filter 90,$(ARCHS)) $(lastword $(ARCHS))),-gencode arch=compute_$(a),code=compute_$(a))
# wgmma is in the machine code of sm_90a alone, which no other GPU runs.
$(BUILD)/cuda/kernels/%_wgmma.o: GPU_FLAGS := $(subst arch=compute_90$(COMMA)code=sm_90,arch=compute_90a$(COMMA)code=sm_90a,$(GPU_FLAGS))
CU           := $(wildcard kernels/*.cu)
CUDA_OBJ     := $(CU:%.cu=$(BUILD)/cuda/%.o)
EMULATED_OBJ := $(CU:%.cu=$(BUILD)/emulated/%.o)

.DEFAULT_GOAL := program
.PHONY: program kernels_for_a_gpu setup train test emulated emulator_test ptx_test nvcc_check bench dist debug sanitize arm64-test format help clean check-optional
program: train_llama_lora

help:
	@echo "make train       everything for ./train_llama_lora --data squad.bin: packages, program, demo data"
	@echo "make test        builds and runs every test; prints 'N passed, N failed, N skipped' last"
	@echo "make program     ./train_llama_lora alone"
	@echo "make emulator_test    the tests of the emulator that runs CUDA kernels without a GPU (dev/emulator)"
	@echo "make nvcc_check       compiles every kernel with nvcc"
	@echo "make ptx_test         runs what nvcc made of the kernels without a GPU (dev/ptx_sim);  PTX_ARCH=75, 80 or 90a instead of 90"
	@echo "make test_gradients   ./test_gradients, the table of errors of every op"
	@echo "make emulated    ./train_llama_lora_emulated: the same program, whose --device cuda is the emulator"
	@echo "make test_gradients_cuda, build/run_tests_cuda   the tests on a GPU"
	@echo "make bench       the profile of a training step at SmolLM2-135M's shapes, with random weights"
	@echo "make dist        an archive with the program for other machines, its licences and the demo model"
	@echo "make debug       a build for a debugger in build-debug/"
	@echo "make sanitize    the tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make fuzz        the fuzzers of everything that reads a file (dev/fuzz), with clang"
	@echo "make arm64-test  cross-compiles for arm64 and runs the tests of the ops under qemu (dev/arm64)"
	@echo "make setup       installs the packages that are missing, where apt-get can; elsewhere lists them"
	@echo "make format      clang-format over all sources"
	@echo "                 CUDA_ARCH=\"80;90\", native or all: the GPUs that nvcc compiles for; else, where a GPU is seen, native"
	@echo "make clean       removes what was built;  CXX=clang++ and BUILD=dir choose another compiler and folder,"
	@echo "                 WERROR=1 makes warnings errors,  make -n TARGET prints the commands"

# ---- packages ------------------------------------------------------------------------------------------------------------------
setup: check-optional ; @dev/setup.sh "$(CXX)"
check-optional:
	@for tool in nvcc clang-format mpirun; do \
	  if command -v $$tool >/dev/null; then echo "✓ $$tool"; else echo "✗ $$tool (optional)"; fi; done

# ---- objects and archives ------------------------------------------------------------------------------------------------------
# $(call say,WHAT) is the line that a recipe prints in place of its command.
say = @mkdir -p $(@D); echo '$(1)'
define kernel_rule
$(BUILD)/%.$(1).o: %.cpp
	$$(call say,c++ $$< $(1))
	@$$(CXX) $$(CXXFLAGS) $(KERNEL_MATH) $(MARCH_$(1)) -DTLL_ISA=$(1) -c $$< -o $$@
endef
$(foreach isa,$(ISAS),$(eval $(call kernel_rule,$(isa))))
$(ONLY_BF16:%.cpp=$(BUILD)/%.o): OPT += $(KERNEL_MATH) $(MARCH_bf16)
# Outside kernels, tokenizer and data no code is hot: there -O1 and a precompiled header save compile time.
# Files of these rooms are compiled several at a time, in a third of the time. (CMake compiles each alone, so that none relies on what
# another includes.)
BATCHED     := base commands model options train
BATCHED_OBJ := $(shell dev/batches.sh $(BUILD) $(BATCHED))
SRC_OBJ     := $(BATCHED_OBJ) $(filter-out $(foreach room,$(BATCHED),$(BUILD)/src/$(room)/%),$(call objects,src/*))
COLD := $(call objects,src/*) $(call objects,tests) $(BATCHED_OBJ)
$(COLD) $(BUILD)/precompiled.h.gch: OPT := $(subst -O3,-O1,$(OPT))
$(COLD): FIRST := -include $(BUILD)/precompiled.h
$(COLD): $(BUILD)/precompiled.h.gch
$(BUILD)/precompiled.h.gch: src/base/precompiled.h
	$(call say,c++ $<)
	@cp $< $(BUILD)/precompiled.h; $(CXX) $(CXXFLAGS) -x c++-header $< -o $@
# What --version says: this object alone is compiled again after a commit.
$(BUILD)/build_facts: FORCE ; @mkdir -p $(@D); dev/build_facts.sh $@ $(if $(ARCHS),$(NVCC) "$(ARCHS)")
FORCE:
$(BUILD)/src/report/build_facts.o: FIRST += @$(BUILD)/build_facts
$(BUILD)/src/report/build_facts.o: $(BUILD)/build_facts
$(BUILD)/%.o: %.cpp
	$(call say,c++ $<)
	@$(CXX) $(CXXFLAGS) $(FIRST) -c $< -o $@
$(BUILD)/batches/%.o: $(BUILD)/batches/%.cpp
	$(call say,c++ $(shell sed 's/.*"\(.*\)"/\1/' $<))
	@$(CXX) $(CXXFLAGS) $(FIRST) -c $< -o $@
$(BUILD)/train_llama_lora.o: train_llama_lora.cu
	$(call say,c++ $<)
	@$(CXX) -x c++ $(CXXFLAGS) -c $< -o $@

# Another CUDA_ARCH compiles the kernels again.
$(BUILD)/cuda_archs: FORCE ; @mkdir -p $(@D); echo "$(ARCHS)" | cmp -s - $@ || echo "$(ARCHS)" >$@
$(BUILD)/cuda/%.o: %.cu $(BUILD)/cuda_archs | kernels_for_a_gpu
	$(call say,nvcc $<)
	@$(NVCC) $(NVCCFLAGS) $(GPU_FLAGS) -c $< -o $@ 2>$(@:.o=.log); status=$$?; \
	  grep -v '^ptxas info\|^    [0-9]* bytes stack frame' $(@:.o=.log) >&2; exit $$status
$(BUILD)/libcuda.a: $(CUDA_OBJ) ; @rm -f $@; ar rcs $@ $^

# The base objects come first: if several objects hold a function, the linker takes the first.
$(BUILD)/libkernels.a: $(KERNEL_OBJ) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/libsrc.a: $(SRC_OBJ) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/libtokenizer.a: $(call objects,tokenizer) ; @rm -f $@; ar rcs $@ $^
# What reads Parquet is one of two files.
DATA_OBJ := $(filter-out $(BUILD)/data/parquet_$(if $(ARROW),none,arrow).o,$(call objects,data))
$(BUILD)/data/parquet_arrow.o: EXTRA += -isystem $(ARROW)/include
$(BUILD)/libdata.a: $(DATA_OBJ) ; @rm -f $@; ar rcs $@ $^
$(BUILD)/libcases.a: $(CASES:%.cpp=$(BUILD)/%.o) ; @rm -f $@; ar rcs $@ $^
# What runs the CUDA ops is chosen here: the linker takes a function from the first archive that has it. cuda: nvcc's kernels for a
# GPU. emulated: the same sources on the emulator. Without either, kernels/cuda_none.cpp in libkernels.a, which comes last.
ENGINE        := $(addprefix $(BUILD)/lib,src.a data.a tokenizer.a)
cuda          := $(if $(ARCHS),$(BUILD)/libcuda.a) $(BUILD)/libkernels.a
emulated      := $(addprefix $(BUILD)/lib,emulated.a emulator.a kernels.a)
cuda_LIBS     := $(if $(ARCHS),$(addprefix -L,$(wildcard $(addprefix $(CUDA_HOME)/,lib64 lib targets/*-linux/lib))) -lcudart_static -ldl -lrt)
emulated_LIBS := -lboost_context
define link
$(call say,link $@)
@$(CXX) $(CXXFLAGS) $(filter %.o %libcases.a,$^) -o $@ -Wl,--start-group $(filter-out %libcases.a,$(filter %.a,$^)) -Wl,--end-group $(LIBS) $($(1)_LIBS)
endef

train_llama_lora $(BUILD)/dist/train_llama_lora: $(BUILD)/train_llama_lora.o $(ENGINE) $(cuda)
	$(call link,cuda)
	@$(if $(call cuda_fact,note),echo 'note: $(call cuda_fact,note)')
train_llama_lora_emulated: $(BUILD)/train_llama_lora.o $(ENGINE) $(emulated) ; $(call link,emulated)
emulated: train_llama_lora_emulated
test_gradients: $(BUILD)/tests/test_gradients.o $(BUILD)/libcases.a $(BUILD)/libsrc.a $(emulated) ; $(call link,emulated)
test_gradients_cuda: $(BUILD)/tests/test_gradients.o $(BUILD)/libcases.a $(BUILD)/libsrc.a $(cuda) ; $(call link,cuda)
TEST_OBJ := $(TESTS:%.cpp=$(BUILD)/%.o) $(BUILD)/tests/main.o $(BUILD)/libcases.a
$(BUILD)/run_tests: $(TEST_OBJ) $(ENGINE) $(emulated) ; $(call link,emulated) -lgtest
$(BUILD)/run_tests_cuda: $(TEST_OBJ) $(ENGINE) $(cuda) ; $(call link,cuda) -lgtest
# Programs that measure a GPU, for dev/gpu_check.sh. The emulated ones test these programs without a GPU.
BENCH_OBJ := $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard dev/bench/*.cpp))
PROBE_OBJ := $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard dev/gpu/*.cpp)) $(BUILD)/dev/emulator/mma_model.o $(BUILD)/src/base/parallel.o
$(BUILD)/bench_ops: $(BENCH_OBJ) $(BUILD)/libcases.a $(BUILD)/libsrc.a $(cuda) ; $(call link,cuda)
$(BUILD)/bench_ops_emulated: $(BENCH_OBJ) $(BUILD)/libcases.a $(BUILD)/libsrc.a $(emulated) ; $(call link,emulated)
$(BUILD)/probe: $(PROBE_OBJ) $(BUILD)/cuda/dev/gpu/probe_kernels.o ; $(call link,cuda)
$(BUILD)/probe_emulated: $(PROBE_OBJ) $(BUILD)/emulated/dev/gpu/probe_kernels.o $(BUILD)/libemulator.a ; $(call link,emulated)
# What a step would take on a GPU: dev/cost.
$(BUILD)/cost: $(BUILD)/dev/cost/cost.o $(ENGINE) $(BUILD)/libkernels.a ; $(call link,none)
$(BUILD)/encode_lines: $(BUILD)/dev/tokenizer_compare/encode_lines.o $(ENGINE) $(BUILD)/libkernels.a ; $(call link,none)
$(BUILD)/template_lines: $(BUILD)/dev/template_compare/template_lines.o $(ENGINE) $(BUILD)/libkernels.a ; $(call link,none)
# What measures or tests a GPU is of no use without its kernels.
test_gradients_cuda $(BUILD)/run_tests_cuda $(BUILD)/bench_ops $(BUILD)/probe: | kernels_for_a_gpu
kernels_for_a_gpu: ; $(if $(ARCHS),@:,@echo 'error: no kernels for a GPU: $(or $(call cuda_fact,note),nvcc was not found)'; exit 1)
# One test file alone: make build/one/NAME_test && build/one/NAME_test
$(BUILD)/one/%: $(BUILD)/tests/%.o $(BUILD)/tests/main.o $(BUILD)/libcases.a $(ENGINE) $(emulated) ; $(call link,emulated) -lgtest

include dev/emulator/emulator.mk dev/ptx_sim/ptx_sim.mk dev/ladder/ladder.mk dev/arm64/arm64.mk dev/fuzz/fuzz.mk dev/ranks/ranks.mk

# Compiles every .cu with nvcc, for one architecture: sources that only the tests run must be valid CUDA too.
nvcc_check: ; for f in $(CU) $(EMULATED) $(LADDER); do $(NVCC) $(NVCCFLAGS) -Xcompiler -Wall,-Wextra -arch=sm_80 -c $$f -o /dev/null || exit 1; done

# ---- what people call ----------------------------------------------------------------------------------------------------------
train: setup
	@$(MAKE) --no-print-directory -j$$(nproc) train_llama_lora squad.bin
squad.bin: train_llama_lora data/demo/squad.json ; ./train_llama_lora prepare --data data/demo/squad.json --output $@

test: setup
	@$(MAKE) --no-print-directory -j$$(nproc) $(BUILD)/run_tests $(BUILD)/emulator_tests $(BUILD)/ptx_sim_tests $(BUILD)/ladder_tests $(BUILD)/probe_emulated \
	  $(BUILD)/bench_ops_emulated test_gradients train_llama_lora
	dev/check_includes.sh
	$(BUILD)/emulator_tests --gtest_brief=1
	$(BUILD)/ptx_sim_tests --gtest_brief=1
	$(BUILD)/ladder_tests
	$(BUILD)/probe_emulated --quick
	$(BUILD)/bench_ops_emulated >/dev/null
	./test_gradients
	./test_gradients --device cuda-emulated --op attention --arch 90
	$(BUILD)/run_tests --gtest_brief=1

bench: train_llama_lora
	./train_llama_lora train --init random --config dev/bench/smollm2-135m.json --data dev/bench/tokens.jsonl --valid-split 0 \
	  --seq-len 512 --max-steps 5 --output $(BUILD)/bench --profile

# One program for other machines, and for all GPUs where nvcc is found. Libraries that not every Linux has are linked into it. Where the linker looks first there are only
# static libraries.
DIST_STATIC = $(patsubst -l%,%,$(filter-out -lfmt -lpthread,$(LIBS)))
dist: setup
	@rm -rf build-dist/static; mkdir -p build-dist/static
	@for lib in $(DIST_STATIC); do ln -sf $$($(CXX) -print-file-name=lib$$lib.a) build-dist/static; done
	@$(MAKE) --no-print-directory -j$$(nproc) CUDA_FACTS="$$(dev/cuda_archs.sh "$(NVCC)" "$(if $(NVCC),$(or $(CUDA_ARCH),all))")" BUILD=build-dist EXTRA="-DFMT_HEADER_ONLY -Lbuild-dist/static $(EXTRA)" \
	  LIBS="$(DIST_STATIC:%=-l%) -static-libstdc++ -static-libgcc -Wl,--as-needed -lpthread" build-dist/dist/train_llama_lora
	dev/dist.sh build-dist

debug: ; @$(MAKE) --no-print-directory -j$$(nproc) BUILD=build-debug OPT="-O0 -g" build-debug/run_tests
# With sanitizers g++ 12 warns wrongly that std::regex is uninitialised.
# Without runs on the emulator: AddressSanitizer does not know its fibers, and the emulator has its own checks.
sanitize:
	@$(MAKE) --no-print-directory -j$$(nproc) BUILD=build-sanitize OPT="-O1 -g1" \
	  EXTRA="-fsanitize=address,undefined -fno-sanitize-recover=all -Wno-maybe-uninitialized" \
	  build-sanitize/run_tests
	ASAN_OPTIONS=detect_leaks=0 build-sanitize/run_tests --gtest_brief=1 --gtest_filter='-*_cuda:CudaRun*'
format: ; clang-format -i $$(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
clean: ; rm -rf build build-cmake build-cmake-debug train_llama_lora-*.tar.gz build-debug build-sanitize build-dist build-arm64 build-arm64-sysroot train_llama_lora train_llama_lora_emulated test_gradients test_gradients_cuda squad.bin

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
