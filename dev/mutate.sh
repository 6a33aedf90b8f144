#!/bin/bash
# The mutation check of the kernels: small wrong changes to kernels/*.cu and their headers, one at a time, each of which ./test_gradients
# must catch on the emulator. One that it does not catch lacks a test, or its entry says why no test can see it.
#
#   dev/mutate.sh [--list] [--only NAME]... [--file NAME]... [--jobs N] [--no-control]
#
#   --list         the names of the mutations, with their files and ops
#   --only NAME    this mutation alone; may be repeated, and NAME may be a pattern ('rope-*')
#   --file NAME    those of dev/mutations/NAME.txt; may be repeated
#   --jobs N       so many at once (default: 1)
#   --no-control   without the unmutated build, which otherwise must pass first, built and run as the mutants are
#
# Entries of dev/mutations/*.txt:
#
#   [name]
#   file: kernels/rope.cu
#   ops: rope rope_table              what test_gradients is narrowed to
#   arch: 90                          the GPU that the emulator is (default: test_gradients')
#   count: 2                          how often the snippet occurs; each is replaced (default: 1)
#   survives: …                       why nothing can catch it; without this line a survivor is a failure
#   - the snippet, one or more lines
#   + what stands there instead, none or more lines
#
# Of the checkout nothing changes: mutants are built from a copy of the files, at -O1, and first with the bf16 instantiations alone,
# beside the unchanged ones of the other types; with all only where that is not caught. A run ends at its first bad line. Exit code: 0, or 1 if a mutation survives that is
# not explained, if one that is explained is caught, if a snippet is stale (it does not occur as often as it says), or if
# something does not compile.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

only=() files=() jobs=1 list=0 control=1
usage() { echo "error: $1; see the head of dev/mutate.sh" >&2; exit 2; }
while (($#)); do
  case $1 in
    --list) list=1 ;;
    --no-control) control=0 ;;
    --only | --file | --jobs)
      (($# > 1)) || usage "$1 needs a value"
      case $1 in --only) only+=("$2") ;; --file) files+=("dev/mutations/$2.txt") ;; --jobs) jobs=$2 ;; esac
      shift ;;
    *) usage "unknown option '$1'" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage "--jobs takes a whole number from 1, not '$jobs'"
((${#files[@]})) || files=(dev/mutations/*.txt)

cpu_seconds=120 wall_seconds=7200 # of one run; the slowest that passes takes 40 s of a processor

# ---- the entries ---------------------------------------------------------------------------------------------------------------
names=()
declare -A file ops arch count survives old new
chosen() {
  ((${#only[@]})) || return 0
  local pattern
  # shellcheck disable=SC2053
  for pattern in "${only[@]}"; do [[ $1 == $pattern ]] && return 0; done
  return 1
}
for list_file in "${files[@]}"; do
  [[ -f $list_file ]] || usage "there is no $list_file"
  name=
  while IFS= read -r line || [[ $line ]]; do
    case $line in
      '' | '#'*) ;;
      '['*']')
        name=${line:1:-1}
        [[ ! -v old[$name] ]] || usage "$list_file: there are two mutations '$name'"
        names+=("$name") old[$name]='' new[$name]='' count[$name]=1 ;;
      'file: '*) file[$name]=${line#file: } ;;
      'ops: '*) ops[$name]=${line#ops: } ;;
      'arch: '*) arch[$name]=${line#arch: } ;;
      'count: '*) count[$name]=${line#count: } ;;
      'survives: '*) survives[$name]=${line#survives: } ;;
      '- '* | '-') old[$name]+=${old[$name]:+$'\n'}${line:2} ;;
      '+ '* | '+') new[$name]+=${new[$name]:+$'\n'}${line:2} ;;
      *) usage "$list_file: '$line' is neither a key nor a part of a snippet" ;;
    esac
  done <"$list_file"
done
selected=()
for name in "${names[@]}"; do
  [[ ${file[$name]:-} && ${ops[$name]:-} && ${old[$name]} ]] || usage "mutation '$name' needs file, ops and a snippet"
  if chosen "$name"; then selected+=("$name"); fi
done
((${#selected[@]})) || usage "no mutation has such a name"
if ((list)); then
  for name in "${selected[@]}"; do printf '%-36s %-32s %s\n' "$name" "${file[$name]}" "${ops[$name]}"; done
  exit 0
fi

# ---- building and running ------------------------------------------------------------------------------------------------------
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make --no-print-directory test_gradients >"$work/make.log" 2>&1 ||
  { cat "$work/make.log"; echo "error: test_gradients does not build"; exit 1; }
# The Makefile's own commands: of an object (the copy's files come first; quickly and without warnings), and of the program (the
# mutants' objects come before the archive that holds the others).
compile=$(make -n -W kernels/reduce.cu build/emulated/kernels/reduce.o | grep -- '-c kernels/reduce.cu')
link=$(make -n -W build/tests/test_gradients.o test_gradients | grep -- '-o test_gradients')
[[ $compile && $link ]] || { echo "error: make -n shows no command for the emulated objects or for test_gradients"; exit 1; }
compile=${compile/ -O2 / -O1 }
compile=${compile/ -I. -MMD -MP / -IMUTANT -I. -w -include "$work/first.h" }
# What no mutation changes is compiled once.
printf '#include <%s>\n' cuda_bf16.h cuda_fp16.h cuda_runtime.h algorithm cmath kernels/device.h >"$work/first.h"
first=${compile/ -include "$work/first.h" / }
first=${first//kernels\/reduce.cu/"$work/first.h"}
first=${first/-x c++/-x c++-header}
${first/build\/emulated\/kernels\/reduce.o/"$work/first.h.gch"} || exit 1
cat >"$work/bf16.h" <<'END'
#undef TLL_INSTANTIATE_CUDA
#define TLL_INSTANTIATE_CUDA(Op) template void Op<bf16>::cuda(const Device&) const;
END

# The .cu files of an op.
sources_of() {
  case $1 in
    attention) echo kernels/attention*.cu ;;
    attention_decode) echo kernels/attention.cu ;;
    matmul) echo kernels/matmul*.cu ;;
    quantize | quantize_scales | dequantize | quantized_matmul) echo kernels/quantized.cu ;;
    rope_table) echo kernels/rope.cu ;;
    bias | gather_scatter | dropout | cast | copy) echo kernels/elementwise.cu ;;
    sum_of_squares | add_up) echo kernels/reduce.cu ;;
    list_targets) echo kernels/cross_entropy.cu ;;
    update_decision) echo kernels/update.cu ;;
    *) echo "kernels/$1.cu" ;;
  esac
}
# The .cu files to compile for a change of file $1 that the ops after it will show.
affected() {
  local changed=$1 op source
  shift
  if [[ $changed == *.cu ]]; then
    echo "$changed"
    return
  fi
  for op in "$@"; do
    for source in $(sources_of "$op"); do
      if grep -q " $changed\>" "build/emulated/${source%.cu}.d"; then echo "$source"; fi
    done
  done | sort -u
}
# build DIR TYPES SOURCE...: DIR/test_gradients of the copy DIR/kernels; TYPES: all or bf16
build() {
  local dir=$1 types=$2 objects='' source object command
  shift 2
  for source in "$@"; do
    object=$dir/$(basename "$source" .cu).o
    if [[ -f $dir/$source ]]; then command=${compile//kernels\/reduce.cu/"$dir/$source"}; else command=${compile//kernels\/reduce.cu/"$source"}; fi
    command=${command/build\/emulated\/kernels\/reduce.o/"$object"}
    command=${command/MUTANT/"$dir"}
    objects+=" $object"
    if [[ $types == bf16 ]]; then command+=" -include $work/bf16.h"; fi
    $command || return
  done
  command=${link/-o test_gradients/"-o $dir/test_gradients"}
  ${command/build\/tests\/test_gradients.o/"build/tests/test_gradients.o$objects"}
}
# Whether bf16 can be built alone: matmul has no instantiation for bf16, and an op without types would be there twice.
has_types() {
  local source
  for source in "$@"; do
    if [[ $source == */matmul* ]] || ! grep -q TLL_INSTANTIATE_CUDA "$source" ||
      grep -q '^void [A-Za-z]*::cuda(' "$source"; then return 1; fi
  done
}
# run_tests DIR ARCH OP...: prints what went wrong, in one line, or nothing
run_tests() {
  local dir=$1 op args=(${2:+--arch "$2"}) bad code
  shift 2
  for op in "$@"; do args+=(--op "$op"); done
  bad=$( (
    ulimit -c 0 -t "$cpu_seconds"
    timeout "$wall_seconds" stdbuf -oL "$dir/test_gradients" --device cuda-emulated "${args[@]}" 2>"$dir/errors" 3>&-
    echo "exit $?"
  ) 2>/dev/null | grep -m1 -E 'BAD: |^exit ')
  code=${bad#exit }
  case $bad in
    *'BAD: '*) how "${bad#*BAD: }" "$dir" ;;
    'exit 0') ;;
    'exit 124' | 'exit 152') echo "it does not end" ;;
    *) echo "exit code $code: $(head -1 "$dir/errors" | cut -c1-120)" ;;
  esac
}
how() { # problem, folder
  case $1 in
    *' differs by '*) echo "result: $1" ;;
    'wrote outside '* | 'changed its input '*) echo "redzone: $1" ;;
    'two runs differ'*) echo "bits: $1" ;;
    *)
      local fault=${1/the GPU failed: a kernel (719: unspecified launch failure): /}
      fault=${fault//"$2/"/}
      echo "emulator: ${fault:0:120}" ;;
  esac
}
try() {
  local name=$1 dir=$work/$1 text rest found=0 verdict='' types sources
  mkdir -p "$dir/kernels"
  text=$(<"${file[$name]}") rest=$text
  while [[ $rest == *"${old[$name]}"* ]]; do rest=${rest#*"${old[$name]}"} found=$((found + 1)); done
  if ((found != count[$name])); then
    verdict="stale: the snippet occurs $found times, not ${count[$name]}"
  else
    printf '%s\n' "${text//"${old[$name]}"/"${new[$name]}"}" >"$dir/${file[$name]}"
    # shellcheck disable=SC2086
    sources=$(affected "${file[$name]}" ${ops[$name]})
    types=all
    # shellcheck disable=SC2086
    if has_types $sources; then types='bf16 all'; fi
    for type in $types; do
      # shellcheck disable=SC2086
      if ! build "$dir" "$type" $sources >"$dir/build.log" 2>&1; then
        verdict="does not compile: $(grep -m1 -E 'error|undefined' "$dir/build.log" | cut -c1-160)"
      else
        # shellcheck disable=SC2086
        verdict=$(run_tests "$dir" "${arch[$name]:-}" ${ops[$name]})
        verdict=${verdict:+caught by $verdict}
      fi
      [[ -z $verdict ]] || break
    done
    if [[ -z $verdict ]]; then
      verdict=${survives[$name]:+survived, explained: ${survives[$name]}}
      verdict=${verdict:-SURVIVED}
    elif [[ ${survives[$name]:-} && $verdict == caught* ]]; then
      verdict="$verdict  BUT EXPLAINED AS A SURVIVOR"
    fi
  fi
  printf '%-36s %s\n' "$name" "$verdict"
  echo "$verdict" >"$work/$name.verdict"
  rm -rf "$dir"
}

if ((control)); then
  mkdir "$work/control"
  all_ops=$(for name in "${selected[@]}"; do tr ' ' '\n' <<<"${ops[$name]}"; done | sort -u)
  sources=$(for op in $all_ops; do sources_of "$op" | tr ' ' '\n'; done | sort -u)
  # shellcheck disable=SC2086
  build "$work/control" all $sources >"$work/control.log" 2>&1 || { cat "$work/control.log"; echo "error: the copy does not build"; exit 1; }
  # shellcheck disable=SC2086
  wrong=$(run_tests "$work/control" '' $all_ops)
  [[ -z $wrong ]] || { echo "error: without a mutation: $wrong"; exit 1; }
  rm -rf "$work/control"
  printf '%-36s %s\n' "(no mutation)" "passes: $(echo $all_ops)"
fi

running=0
for name in "${selected[@]}"; do
  if ((running == jobs)); then
    wait -n
    running=$((running - 1))
  fi
  try "$name" &
  running=$((running + 1))
done
wait

# ---- the summary ---------------------------------------------------------------------------------------------------------------
caught=0 explained=() unexplained=() wrong=()
for name in "${selected[@]}"; do
  case $(<"$work/$name.verdict") in
    *'BUT EXPLAINED'*) wrong+=("$name") ;;
    'caught'*) caught=$((caught + 1)) ;;
    'survived'*) explained+=("$name") ;;
    'SURVIVED') unexplained+=("$name") ;;
    *) wrong+=("$name") ;;
  esac
done
echo
echo "caught $caught of ${#selected[@]}; survivors: $((${#explained[@]} + ${#unexplained[@]}))" \
  "(${#explained[@]} explained, ${#unexplained[@]} not)"
((${#explained[@]} == 0)) || echo "explained: ${explained[*]}"
((${#unexplained[@]} == 0)) || echo "not explained: ${unexplained[*]}"
((${#wrong[@]} == 0)) || echo "entries to repair (stale, not compiling, or caught although explained): ${wrong[*]}"
((${#unexplained[@]} + ${#wrong[@]} == 0))
