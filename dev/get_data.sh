#!/usr/bin/env bash
# Makes squad.json, questions in the form of SQuAD v1.1, for the commands of the README.
#
#   dev/get_data.sh [FILE]      FILE defaults to squad.json; one that is there is left alone
#
# Downloads SQuAD's development set (10,570 questions, 5 MB, CC BY-SA 4.0). Where it cannot be reached, the file is a copy of the made-up
# questions in data/demo, which have the same form. SQUAD_URL names another place.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
file=${1:-squad.json}
url=${SQUAD_URL:-https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1.1.json}

if [ -s "$file" ]; then echo "$file is already there"; exit 0; fi
part=$file.part
trap 'rm -f "$part"' EXIT
if command -v curl >/dev/null &&
  curl --fail --silent --show-error --location --connect-timeout 5 --speed-limit 1000 --speed-time 20 --output "$part" "$url" &&
  head -c 4000 "$part" | grep -q '"paragraphs"'; then
  made="SQuAD v1.1's development set"
else
  cp "$here/../data/demo/squad.json" "$part"
  made="not SQuAD, which could not be reached, but the demo's made-up questions in the same form"
fi
chmod a+r "$part"
mv "$part" "$file"
echo "$file is ready: $made"
