#!/usr/bin/env bash
# Which GPU architectures nvcc compiles the kernels for:
#
#   dev/cuda_archs.sh NVCC [WANTED]
#
#   NVCC     its path; empty where there is none
#   WANTED   numbers as in sm_90, divided by ';', ',' or blanks; native: the GPUs of this machine; all: every GPU that the kernels
#            run on. Empty, the default: native where a GPU is seen, none elsewhere, since compiling for one takes minutes.
#
# Prints words on one line, as make reads them: the numbers in ascending order, and at most one word that begins with note: or error:,
# in which ~ stands for a blank. No number: the program is built without CUDA. What nvcc does not know is left out.
set -uo pipefail
nvcc=${1:-} wanted=${2:-}
all="75 80 86 89 90 100 120"
least=75          # tensor cores with ldmatrix; V100 (70) lacks it
least_release=12.0 # of nvcc: C++20

say() {           # KIND TEXT
  printf '%s:~%s\n' "$1" "${2// /\~}"
  exit 0
}
# The architectures of this machine's GPUs, as nvidia-smi says, or else what nvcc itself asks for -arch=native.
seen_gpus() {
  local smi
  smi=$(command -v nvidia-smi || echo /usr/lib/wsl/lib/nvidia-smi)
  timeout 20 "$smi" --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -x '[0-9]*\.[0-9]' | tr -d . | grep . ||
    { [ -n "$nvcc" ] && timeout 20 "$(dirname "$(realpath "$nvcc")")/__nvcc_device_query" 2>/dev/null | tr ',' '\n' | grep -x '[0-9]\{2,3\}'; }
}
unique() { tr ';, ' '\n' | grep . | sort -nu | xargs; }

[ -z "$wanted" ] || [ "$wanted" = native ] || [ "$wanted" = all ] || [[ $wanted =~ ^[0-9]+([\;,\ ]+[0-9]+)*$ ]] ||
  say error "CUDA_ARCH='$wanted' is no list of numbers such as \"80;90\", nor native, nor all"
asked=$wanted
gpus=""
if [ -z "$wanted" ] || [ "$wanted" = native ]; then gpus=$(seen_gpus | unique); fi

if [ -z "$nvcc" ]; then
  [ -z "$asked" ] || say error "CUDA_ARCH=\"$asked\" needs nvcc, which was not found: CUDA Toolkit $least_release or later has it"
  [ -z "$gpus" ] || say note "there is a GPU, but no nvcc to compile for it: built without CUDA; install CUDA Toolkit $least_release or later, and build again"
  echo
  exit 0
fi
release=$("$nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')
known=$("$nvcc" --list-gpu-arch 2>/dev/null | sed -n 's/^compute_\([0-9]*\)$/\1/p' | unique)
if [ -z "$release" ] || [ "$(printf '%s\n' "$least_release" "$release" | sort -V | head -n 1)" != "$least_release" ] || [ -z "$known" ]; then
  text="$nvcc is ${release:-of an unknown release}, which does not compile C++20"
  [ -z "$asked" ] || say error "CUDA_ARCH=\"$asked\": $text; it takes CUDA Toolkit $least_release or later"
  say note "$text: built without CUDA; for a GPU install CUDA Toolkit $least_release or later"
fi
newest=${known##* }

if [ -z "$wanted" ] || [ "$wanted" = native ]; then
  if [ -z "$gpus" ]; then
    [ -z "$asked" ] || say error "CUDA_ARCH=native, but no GPU is seen here (nvidia-smi lists none); give numbers, such as CUDA_ARCH=90 for an H100"
    say note "no GPU is seen here: built without CUDA; with CUDA_ARCH=90 (an H100), CUDA_ARCH=all, … it is compiled for other machines"
  fi
  wanted=$gpus
fi
if [ "$wanted" = all ]; then wanted=$all; fi

archs="" old="" unknown=""
for arch in $(unique <<<"$wanted"); do
  if [ "$arch" -lt $least ]; then old="$old $arch"
  elif [[ " $known " == *" $arch "* ]]; then archs="$archs $arch"
  else unknown="$unknown $arch"; fi
done
old=${old# } unknown=${unknown# } archs=${archs# }
text=""
if [ -n "$old" ]; then text="the kernels need an architecture of $least or later, not ${old// /, }"; fi
if [ -n "$unknown" ]; then
  text="${text:+$text; }nvcc $release does not know ${unknown// /, }, its newest is $newest"
  # The driver compiles PTX for a GPU that is newer than nvcc. It takes that of an older architecture.
  if [ -n "$gpus" ] && [ "${unknown##* }" -gt "$newest" ]; then
    archs=$(unique <<<"$archs $newest")
    text="$text, whose PTX the driver compiles at the first run"
  fi
fi
if [ -z "$archs" ]; then
  [ -z "$asked" ] || say error "CUDA_ARCH=\"$asked\": $text"
  say note "$text: built without CUDA"
fi
printf '%s' "$archs"
if [ -n "$text" ]; then printf ' '; say note "$text"; fi
printf '\n'
