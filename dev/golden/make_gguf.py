#!/usr/bin/env python3
"""Writes tests/goldens/gguf/blocks.safetensors: values, and what gguf-py makes of them in each type that the program writes.

The values are random at many scales, ties of every rounding, and blocks that are zero, of one value, of a tiny and of a huge scale.
"""
import pathlib
import sys

import numpy as np
from gguf import GGMLQuantizationType, quants
from safetensors.numpy import save_file

GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "goldens" / "gguf"


def blocks():
    random = np.random.default_rng(20)
    rows = [random.normal(size=32) * scale for scale in np.geomspace(1e-9, 300, 200)]
    rows += [random.laplace(size=32).astype(np.float16) for _ in range(60)]
    # Ties: with a largest magnitude of 127 or 8 the scale is 1, and halves lie between two codes.
    for top in (127.0, -127.0, 8.0, -8.0):
        row = np.arange(32) / 2 - 8
        row[5] = top
        rows.append(row)
    # Two elements of the largest magnitude, of either sign first.
    for sign in (1, -1):
        row = random.normal(size=32)
        row[[7, 21]] = 9 * sign, -9 * sign
        rows.append(row)
    # Not of -0: ggml gives the scale of such a block of Q4_0 the other sign.
    rows += [np.zeros(32), np.full(32, 0.37), np.full(32, 1e-30), random.normal(size=32) * 1e-36]
    rows += [random.normal(size=32) * 60000 / 6, np.full(32, 65504.0)]
    return np.stack(rows).astype(np.float32)


def main():
    values = blocks()
    tensors = {"values": values.reshape(-1)}
    for name in ("Q8_0", "Q4_0", "F16", "BF16"):
        with np.errstate(over="ignore", under="ignore"):
            made = quants.quantize(values, GGMLQuantizationType[name])
        tensors[name] = np.ascontiguousarray(made).view(np.uint8).reshape(-1)
    GOLDENS.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(GOLDENS / "blocks.safetensors"))
    print(f"{values.size} values", file=sys.stderr)


if __name__ == "__main__":
    main()
