#!/usr/bin/env bash
# Runs the commands of README.md as they stand there, in their order, from the root of the repository: every indented line that begins
# with make, dev/ or ./. `# …` after a command is not part of it. The first that fails ends the script.
#
#   dev/check_readme.sh [--list]      --list prints the commands and runs none
#
# A command with something in <…> to be filled in is printed as skipped. So is one that works on a model that dev/get_model.sh has to
# download, where the hub cannot be reached (HF_ENDPOINT names another), and one that reads what a skipped command would have written.
set -euo pipefail
cd "$(dirname "$0")/.."
hub=${HF_ENDPOINT:-https://huggingface.co}

commands() { sed -n '/^    \(make \|dev\/[a-z]\|\.\/\|git clone\)/{s/^    //; s/   *# .*//; p}' README.md; }
if [ "${1:-}" = --list ]; then commands; exit 0; fi

models=yes
[ -s models/smollm2-135m/model.safetensors ] ||
  curl --silent --location --head --fail --connect-timeout 5 --max-time 20 --output /dev/null "$hub" || models=no
ran=0 skipped=0
missing=()                                     # what the skipped commands would have written
skip() {                                       # REASON COMMAND
  echo "skipped, $1: $2"
  skipped=$((skipped + 1))
  [[ $2 =~ \ --output\ ([^ ]+) ]] && missing+=("${BASH_REMATCH[1]}")
  return 0
}
reads_missing() {                              # COMMAND
  local file
  for file in "${missing[@]}"; do [[ " $1 " == *" $file "* ]] && return 0; done
  return 1
}
while read -r command <&3; do
  case $command in
    *'<'*) skip "something is to be filled in" "$command"; continue ;;
    *models/* | *get_model*) if [ $models = no ]; then skip "no model without a network" "$command"; continue; fi ;;
  esac
  if reads_missing "$command"; then skip "an earlier command that was skipped writes what it reads" "$command"; continue; fi
  echo "\$ $command"
  start=$SECONDS
  bash -c "$command" || { echo "error: this command of README.md ended with exit code $?: $command"; exit 1; }
  echo "$((SECONDS - start)) s: $command"
  ran=$((ran + 1))
done 3< <(commands)
[ $ran -gt 1 ] || { echo "error: README.md has no commands that run here"; exit 1; }
echo "README.md: $ran commands ran, $skipped were skipped"
