# docker build -t train_llama_lora .
# docker run --rm -v "$PWD:/data" train_llama_lora --data /opt/train_llama_lora/data/demo/squad.json
#
# With CUDA: the build stage needs nvcc, the run stage the driver's libraries, which the NVIDIA container toolkit mounts:
#   docker build -t train_llama_lora:cuda --build-arg BUILD_IMAGE=nvidia/cuda:12.6.3-devel-ubuntu24.04 \
#     --build-arg RUN_IMAGE=nvidia/cuda:12.6.3-base-ubuntu24.04 .
#   docker run --rm --gpus all -v "$PWD:/data" train_llama_lora:cuda --data …
# Both images must be of one distribution. --build-arg CUDA_ARCH=90 compiles for an H100 alone, in less time.
ARG BUILD_IMAGE=debian:12
ARG RUN_IMAGE=debian:12-slim

FROM ${BUILD_IMAGE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update -q && apt-get install -q -y --no-install-recommends ca-certificates git make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The packages are a layer of their own: a change of the sources does not install them again.
COPY Makefile ./
COPY dev dev
RUN make setup
COPY . .
ARG CUDA_ARCH=all
RUN command -v nvcc >/dev/null || unset CUDA_ARCH; make -j"$(nproc)" program && strip train_llama_lora
# The packages that have the libraries which the program is linked with, but not those that every image has.
RUN ldd train_llama_lora | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | while read -r file; do \
      dpkg -S "$(realpath "$file")" 2>/dev/null || dpkg -S "$file" 2>/dev/null || true; done | cut -d: -f1 | sort -u >packages

FROM ${RUN_IMAGE}
RUN --mount=type=bind,from=build,source=/src/packages,target=/tmp/packages \
    apt-get update -q && xargs -a /tmp/packages apt-get install -q -y --no-install-recommends && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/train_llama_lora /opt/train_llama_lora/
COPY --from=build /src/data/demo /opt/train_llama_lora/data/demo
COPY --from=build /src/README.md /src/LICENSE /opt/train_llama_lora/
WORKDIR /data
ENTRYPOINT ["/opt/train_llama_lora/train_llama_lora"]
