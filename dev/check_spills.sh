#!/bin/bash
# What nvcc makes of the kernels: registers, spills, stack, shared memory, and how many blocks an SM then holds, at the head sizes
# of Llama-3.2-1B (64) and 8B (128). Fails if a kernel spills or a block does not fit an SM.
#
#   dev/check_spills.sh [--output FILE] [--sass] [--built] [sm...]          default: 75 80 90
#
#   --output FILE  a line "kernel sm registers" for each kernel as well
#   --sass         also counts instructions (needs cuobjdump), and fails where a hot kernel lacks tensor cores, asynchronous copies,
#                  ldmatrix or vector accesses (sm_80 and later), or touches local memory
#   --built        of the objects that make left in build/cuda, for the architectures that they are for, and compiles nothing
set -euo pipefail
cd "$(dirname "$0")/.."
output= sass= built= archs=()
while [ $# -gt 0 ]; do
  case $1 in
    --output) output=${2:?--output needs a file}; shift ;;
    --sass) sass=1 ;;
    --built) built=1 ;;
    [0-9]*) archs+=("$1") ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
  esac
  shift
done
[ ${#archs[@]} -gt 0 ] || archs=(75 80 90)
[ -n "$built" ] || command -v nvcc >/dev/null || { echo "error: nvcc was not found; it belongs to the CUDA Toolkit"; exit 2; }
[ -z "$sass" ] || command -v cuobjdump >/dev/null || { echo "error: cuobjdump was not found; it belongs to the CUDA Toolkit"; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "$built" ]; then
  archs=()
  for object in build/cuda/kernels/*.o; do
    [ -e "$object" ] || { echo "error: build/cuda has no kernels; CUDA_ARCH=… before make compiles them"; exit 2; }
    cat "${object%.o}.log" >>"$work/report"
    [ -z "$sass" ] || cuobjdump -sass "$object" | sed 's/^\tcode for //' >>"$work/sass"
  done
fi
for sm in "${archs[@]}"; do
  for source in kernels/*.cu; do
    file=$(basename "$source" .cu)
    [ "$file" != cuda_device ] || continue  # no kernels
    target=$sm
    if [[ $file == *_wgmma && $sm = 90 ]]; then target=90a; fi  # as the Makefile compiles it
    TIMEFORMAT="compiled $file.cu for sm_$sm: %U s of processor time"
    time nvcc -std=c++20 -O3 -I. -DFMT_USE_CONSTEXPR=1 -Werror all-warnings -arch="sm_$target" -Xptxas -v -cubin \
      -o "$work/$file.$sm.cubin" "$source" 2>"$work/log" || { cat "$work/log"; exit 1; }
    cat "$work/log" >>"$work/report"
    [ -z "$sass" ] || { echo "sm_$sm"; cuobjdump -sass "$work/$file.$sm.cubin"; } >>"$work/sass"
  done
done

# Names without namespaces, parameters and spaces.
cat >"$work/names.awk" <<'AWK'
function short_name(name) {
  gsub(/tll::|\(anonymous namespace\)::/, "", name)
  sub(/^void /, "", name); sub(/\(.*/, "", name); gsub(/ /, "", name)
  return name
}
AWK

c++filt <"$work/report" | awk -v output="$output" -f "$work/names.awk" -f <(cat <<'AWK'
BEGIN {  # threads and blocks of an SM, shared memory of an SM and of a block, what a block costs in itself, unit of allocation
  limits[75] = "1024 16 65536 65536 0 256"; limits[80] = "2048 32 167936 166912 1024 128"
  limits[86] = "1536 16 102400 101376 1024 128"; limits[89] = limits[120] = "1536 24 102400 101376 1024 128"
  limits[90] = limits[100] = "2048 32 233472 232448 1024 128"
  printf "%-5s %9s %7s %6s %7s %7s %8s %6s %6s  %s\n", "sm", "registers", "spilled", "stack", "threads", "shared", "+dynamic",
         "blocks", "warps", "kernel"
}
# As the launches in kernels/*.cu have them.
function threads_of(name,   tiling) {
  if (name ~ /^matmul_mma/) {
    split(name, tiling, /[<>,]/)
    for (part in tiling) if (tiling[part] == "Tiling") break
    return 32 * tiling[part + 3] * tiling[part + 4]
  }
  if (name ~ /^(cross_entropy|list_targets)/) return 1024
  if (name ~ /^attention_wgmma_kernel/) return 256
  return name ~ /^(attention|keys|queries|dot_rows|rope|swiglu|embedding)/ ? 128 : 256
}
function dynamic_of(name, sm,   types, tiling, part, bytes, wide, d) {
  if (name ~ /^matmul_mma/) {
    split(name, tiling, /[<>,]/)
    for (part in tiling) if (tiling[part] == "Tiling") break
    return (sm < 80 ? 2 : 3) * 2 * (tiling[part + 1] + tiling[part + 2]) * tiling[part + 5]
  }
  split(name, types, /[<>,]/)
  if (name ~ /^(keys|queries)_wgmma_kernel/) return 1008 + 6 * 64 * (types[3] > 64 ? 128 : 64) * 2
  if (name ~ /^attention_wgmma_kernel/) return 1008 + (128 + 4 * (types[3] > 64 ? 64 : 96)) * types[3] * 2
  if (name !~ /^(attention_forward|keys|queries)_kernel/) return 0
  wide = types[2] == "float"; d = types[3]; bytes = wide ? 4 : 2
  if (name ~ /^attention/) return ((wide ? 32 : 128) + 2 * (wide ? 32 : 48)) * (d * bytes + 16)
  return (2 * (wide ? 32 : 64) + 4 * (wide ? 16 : 32) / (d > 96 ? 2 : 1)) * (d * bytes + 16)
}
function up(x, unit) { return int((x + unit - 1) / unit) * unit }
function least(a, b) { return a < b ? a : b }
/Compiling entry function/ {
  split($0, quoted, "\x27"); name = short_name(quoted[2]); sm = substr(quoted[4], 4) + 0; spilled = stack = 0
}
/wgmma.mma_async instructions are serialized/ { faults++; print }
/bytes stack frame/ {
  for (i = 1; i <= NF; i++) { if ($i == "spill" && $(i + 1) ~ /^stores/) spilled = $(i - 2); if ($i == "stack") stack = $(i - 2) }
}
/Used [0-9]+ registers/ {
  fixed = 0
  for (i = 1; i <= NF; i++) { if ($i == "Used") registers = $(i + 1); if ($i ~ /^smem/) fixed = $(i - 2) }
  if (name ~ /_wgmma_kernel/ && sm != 90) next  # empty, and not launched
  kernels++
  if (output) print name, sm, registers > output
  split(limits[sm], limit); threads = threads_of(name); dynamic = dynamic_of(name, sm)
  blocks = least(int(limit[1] / threads), limit[2])
  blocks = least(blocks, int(65536 / (up(registers, 8) * 32 * up(threads / 32, 4))))
  blocks = least(blocks, int(limit[3] / up(fixed + dynamic + limit[5], limit[6])))
  fits = blocks > 0 && fixed + dynamic <= limit[4]
  faults += spilled > 0 || !fits
  if (spilled == 0 && fits && name ~ /(_kernel<float|,(32|96)>$|Tiling<.*false,false>$)/) next  # the hot ones, and faults
  printf "%-5s %9d %7d %6d %7d %7d %8d %6d %6d  %s%s%s\n", sm, registers, spilled, stack, threads, fixed, dynamic, blocks,
         blocks * threads / 32, name, spilled ? "   SPILLS" : "", fits ? "" : "   DOES NOT FIT"
}
END { printf "%d kernels, %d faults\n", kernels, faults; exit faults > 0 || kernels == 0 }
AWK
)

[ -n "$sass" ] || exit 0
c++filt <"$work/sass" | awk -f "$work/names.awk" -f <(cat <<'AWK'
BEGIN { printf "\n%-5s %12s %6s %8s %5s %8s %8s %6s  %s\n", "sm", "instructions", "HMMA", "LDGSTS", "LDSM", "LDG.128", "STG.128", "local", "kernel" }
function finish(   why, product, memory, sixteen, wgmma) {
  if (name == "") return
  # What this architecture does not run is compiled as a trap.
  if (count["trap"] && count["all"] <= 32) { delete count; name = ""; return }
  sixteen = name ~ /<(bf16|half)/
  wgmma = sixteen && name ~ /_wgmma_kernel/ && sm == 90
  product = sixteen && name ~ /^(matmul_mma|attention_forward|keys|queries)_kernel/ && !(sm < 80 && name ~ /<bf16/)
  # Not qk_norm, which of 16 bits stores 32 at a time: nvcc merges the store of a whole row with those of a cut one.
  memory = name ~ /^(rmsnorm_(forward|backward)|swiglu_(forward|backward)|rope|cross_entropy|adamw|adamw8bit|embedding_forward|cast|move_rows|dropout|bias_forward|add_splits)_kernel/
  # CUDA's sin and cos keep pi in local memory for large angles; the table of angles is made once a pass.
  if (count["local"] && name !~ /^rope_table/) why = why " local memory"
  if (wgmma && !count["HGMMA"]) why = why " no wgmma"
  if (wgmma && !count["LDGSTS"]) why = why " no asynchronous copies"
  if (product && !count["HMMA"]) why = why " no tensor cores"
  if (product && !count["LDSM"]) why = why " no ldmatrix"
  if (product && sm >= 80 && !count["LDGSTS"]) why = why " no asynchronous copies"
  if (memory && !count["LDG"]) why = why " no 128-bit loads"
  # A thread that has four results of 16 bits stores 64 bits.
  if ((memory || product) && !count["STG"] && !count["STG.64"]) why = why " no vector stores"
  if (product || wgmma || memory || why) {
    hot++; faults += why != ""
    printf "%-5s %12d %6d %8d %5d %8d %8d %6d  %s%s\n", sm, count["all"], count["HMMA"] + count["HGMMA"], count["LDGSTS"], count["LDSM"], count["LDG"],
           count["STG"], count["local"], name, why ? "  FAULT:" why : ""
  }
  delete count; name = ""
}
/^sm_/ { finish(); sm = substr($1, 4) + 0 }
/Function : / { finish(); sub(/.*Function : /, ""); name = short_name($0) }
/^ +\/\*[0-9a-f]+\*\/ / {
  count["all"]++
  if (/ HMMA/) count["HMMA"]++
  if (/ BPT\.TRAP/) count["trap"]++
  if (/ HGMMA/) count["HGMMA"]++
  if (/ LDGSTS/) count["LDGSTS"]++
  if (/ LDSM/) count["LDSM"]++
  if (/ LDG\.E\.128/) count["LDG"]++
  if (/ STG\.E\.128/) count["STG"]++
  if (/ STG\.E\.64/) count["STG.64"]++
  if (/ (LDL|STL)/) count["local"]++
}
END { finish(); printf "%d hot kernels, %d faults\n", hot, faults; exit faults > 0 || hot == 0 }
AWK
)
