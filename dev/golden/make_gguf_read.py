"""Makes tests/goldens/gguf/read.safetensors: blocks of random bytes of each type of GGUF, and their values by gguf-py.

    make_gguf_read.py [FILE]

TYPE.blocks (n, bytes) and TYPE.values (n, elements). Random bytes give scales of all kinds: also infinite ones and NaN.
"""

import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

BLOCKS = {Type.Q4_0: 48, Type.Q4_1: 48, Type.Q5_0: 48, Type.Q5_1: 48, Type.Q8_0: 48, Type.Q4_K: 12, Type.Q5_K: 12, Type.Q6_K: 12}


def main(path):
    random = np.random.default_rng(5)
    tensors = {}
    for type_, count in BLOCKS.items():
        elements, size = gguf.GGML_QUANT_SIZES[type_]
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        # One with an infinite scale, and one with NaN.
        scale = size - 2 if type_ == Type.Q6_K else 0
        blocks[0, scale : scale + 2] = [0x00, 0x7C]
        blocks[1, scale : scale + 2] = [0x01, 0xFE]
        with np.errstate(invalid="ignore"):
            values = gguf.quants.dequantize(blocks, type_)
        tensors[f"{type_.name}.blocks"] = blocks
        tensors[f"{type_.name}.values"] = values.reshape(count, elements).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"gguf": "0.19"})


if __name__ == "__main__":
    root = pathlib.Path(__file__).resolve().parents[2]
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "tests/goldens/gguf/read.safetensors")
