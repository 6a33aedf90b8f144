#!/usr/bin/env python3
"""How much make ptx_test sees: breaks what nvcc wrote, one instruction at a time, and counts how many changes test_gradients notices.

    dev/ptx_sim/mutate.py build/test_gradients_ptx90 [COUNT [SEED]]

The texts lie in the program itself, so a change is made in a copy of it and keeps its length. Changes that no case can notice, such as
of a comparison whose sides are never equal, are among those that are missed: they are to be looked at.
"""
import os
import random
import re
import subprocess
import sys
import tempfile

# Which op's cases launch the kernels of a source file.
OPS = {"attention": "attention", "attention_backward": "attention", "matmul": "matmul", "rmsnorm": "rmsnorm", "rope": "rope",
       "swiglu": "swiglu", "cross_entropy": "cross_entropy", "embedding": "embedding"}


def gone(line):
    return " " * (len(line) - 1) + ";"


def swap(line):
    """Two registers of the first operand of an mma change places."""
    first = re.findall(r"\{[^}]*\}", line)[1]
    names = first[1:-1].split(",")
    names[0], names[1] = names[1], names[0]
    return line.replace(first, "{" + ",".join(names) + "}", 1)


def without_trans(line):
    head, rest = line.split(".trans", 1)
    word, operands = rest.split(None, 1)
    return (head + word).ljust(len(line) - len(operands)) + operands


KINDS = {
    "barrier gone": (r"bar\.sync[^;]*;", gone),
    "barrier of a warp gone": (r"bar\.warp\.sync[^;]*;", gone),
    "a wait for one group fewer": (r"cp\.async\.wait_group \d;", lambda s: s[:-2] + str(int(s[-2]) + 1) + ";"),
    "A's registers swapped": (r"mma\.sync[^;]*;", swap),
    "mma gone": (r"mma\.sync[^;]*;", gone),
    "ldmatrix without .trans": (r"ldmatrix[^;]*\.trans[^;]*;", without_trans),
    "comparison off by one": (r"setp\.(lt|gt)\.s32", lambda s: s.replace("lt", "le").replace("gt", "ge")),
    "minus for plus": (r"add\.f32", lambda s: s.replace("add", "sub")),
    "store gone": (r"st\.(global|shared)[^;]*;", gone),
    "address off": (r"\[%rd?\d+\+\d+[02]\]", lambda s: s[:-2] + {"0": "4", "2": "6"}[s[-2]] + "]"),
}


def verdict(command):
    """Whether a run notices the change, and what it says first."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return True, "it does not end"
    bad = [line[line.index("BAD"):] for line in run.stdout.splitlines() if "BAD" in line]
    return run.returncode != 0, bad[0] if bad else run.stderr.strip()


def main():
    program, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40
    random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    data = open(program, "rb").read()
    kernels = []  # the op, the name, and where its text lies
    for entry in re.finditer(rb"\.entry (\w+?_\d+_(\w+)_cu_\w+)\(", data):
        end = re.compile(rb"\n\.(entry|func|file)").search(data, entry.end()).start()
        op = OPS.get(entry[2].decode())
        if op and b"ld.param" in data[entry.end():end]:  # others are a trap and no more
            kernels.append((op, entry[1].decode(), entry.end(), end))
    seen = missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "test_gradients")
        while seen + missed < count:
            op, name, begin, end = random.choice(kernels)
            kind = random.choice(list(KINDS))
            pattern, change = KINDS[kind]
            places = list(re.finditer(pattern.encode(), data[begin:end]))
            if not places:
                continue
            place = random.choice(places)
            old = place[0].decode()
            new = change(old)
            assert len(new) == len(old) and new != old, (old, new)
            at = begin + place.start()
            with open(copy, "wb") as out:
                out.write(data[:at] + new.encode() + data[at + len(old):])
            os.chmod(copy, 0o755)
            noticed, why = verdict([copy, "--device", "cuda", "--op", op])
            seen, missed = seen + noticed, missed + (not noticed)
            print("seen  " if noticed else "MISSED", f"{kind:26}", old[:60], name[-70:], why[:140], sep=" | ", flush=True)
    print(f"{seen} of {seen + missed} changes were noticed")


main()
