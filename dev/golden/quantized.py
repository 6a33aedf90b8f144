"""The rules of quantised weights and 8-bit AdamW in numpy, written from their description, to compare programs with.

Of bitsandbytes these are the rules of its CUDA library, which this project follows. Its CPU library finds 8-bit codes by a
coarse table instead (`table_code`); 4-bit codes and absmax are equal in both.
"""

import numpy as np

NF4 = np.array(
    [0xBF800000, 0xBF3239B1, 0xBF066B30, 0xBECA32A0, 0xBE91A24D, 0xBE3D353F, 0xBDBA7871, 0x00000000]
    + [0x3DA2FAFF, 0x3E24CAE3, 0x3E7C04DD, 0x3EAD033A, 0x3EE1A4B8, 0x3F1007AB, 0x3F3913B3, 0x3F800000],
    dtype=np.uint32,
).view(np.float32)
BLOCK, NESTED_BLOCK, OPTIMIZER_BLOCK, SMALLEST_8BIT = 64, 256, 256, 4096
F = np.float32


def midpoints(book: np.ndarray) -> np.ndarray:
    return F(0.5) * (book[:-1] + book[1:])


def fma(a, b, c) -> np.ndarray:
    """Rounded to fp32 from double, in which the product is exact."""
    return (np.asarray(a, np.float64) * np.asarray(b, np.float64) + np.asarray(c, np.float64)).astype(F)


def dynamic_map(signed: bool) -> np.ndarray:
    """bitsandbytes' create_dynamic_map as torch computes it on a vectorised CPU."""
    entries = [F(0), F(1)]
    for i in range(7):
        n = 2 ** (i if signed else i + 1)
        first, step = F(0.1), (F(1) - F(0.1)) / F(n)
        points = np.array([fma(step, j, first) if j < (n + 1) // 2 else fma(-step, n - j, F(1)) for j in range(n + 1)], F)
        values = F(10.0 ** (i - 6)) * ((points[:-1] + points[1:]) / F(2))
        entries += [*values, *(-values if signed else [])]
    return np.sort(np.array(entries, F))


SIGNED, UNSIGNED = dynamic_map(True), dynamic_map(False)


def nearest_code(x: np.ndarray, book: np.ndarray) -> np.ndarray:
    """Ties go to the even index, NaN to 0."""
    middle = midpoints(book)
    below = np.searchsorted(middle, x, side="left")  # middles < x
    tie = np.append(middle, F(np.nan))[below] == x
    return np.where(np.isnan(x), 0, below + (tie & (below % 2 == 1))).astype(np.uint8)


def table_code(x: np.ndarray, book: np.ndarray) -> np.ndarray:
    """How bitsandbytes' CPU library finds a code since 0.50: the nearest one of the nearest of 65,536 equally spaced values."""
    entries = F(-1) + (F(2) * np.arange(65536, dtype=F)) / F(65535)
    codes = np.searchsorted(midpoints(book), entries, side="left").astype(np.uint8)
    return codes[fma((np.clip(x, F(-1), F(1)) + F(1)) * F(0.5), F(65535), F(0.5)).astype(np.int64)]


def blocks_of(values: np.ndarray, block: int) -> np.ndarray:
    """(blocks, block), flattened, the last one padded with 0."""
    flat = np.asarray(values, F).reshape(-1)
    return np.pad(flat, (0, -flat.size % block)).reshape(-1, block)


def quantize_nf4(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(packed bytes, absmax): the even element in the high nibble."""
    blocks = blocks_of(values, BLOCK)
    absmax = np.abs(blocks).max(1)
    x = blocks * (F(1) / np.maximum(absmax, F(1e-38)))[:, None]
    codes = np.searchsorted(midpoints(NF4), x, side="left").astype(np.uint8).reshape(-1)[: np.size(values)]
    codes = np.append(codes, np.full(codes.size % 2, 7, np.uint8))
    return codes[0::2] << 4 | codes[1::2], absmax


def dequantize_4bit(packed: np.ndarray, absmax: np.ndarray, shape: tuple, book: np.ndarray = NF4) -> np.ndarray:
    count = int(np.prod(shape))
    codes = np.stack([packed >> 4, packed & 15], 1).reshape(-1)[:count]
    return (book[codes] * np.repeat(absmax, BLOCK)[:count]).reshape(shape)


def mean_of(absmax: np.ndarray) -> F:
    return F(absmax.astype(np.float64).sum() / absmax.size)


def quantize_absmax(absmax: np.ndarray, offset: F, code=nearest_code) -> tuple[np.ndarray, np.ndarray]:
    """Double quantisation, given the offset: (codes, absmax of each 256 of them)."""
    blocks = blocks_of(absmax - offset, NESTED_BLOCK)
    nested = np.abs(blocks).max(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = blocks * (F(1) / nested)[:, None]
    return code(np.where(nested[:, None] > 0, x, F(-1)), SIGNED).reshape(-1)[: absmax.size], nested


def dequantize_absmax(codes: np.ndarray, nested: np.ndarray, offset: F) -> np.ndarray:
    return SIGNED[codes] * np.repeat(nested, NESTED_BLOCK)[: codes.size] + offset


def held_in(weights: str, values: np.ndarray, double_quant: bool = True) -> np.ndarray:
    """What a frozen matrix is after it was held in nf4 or int8, in fp32."""
    if weights == "nf4":
        packed, absmax = quantize_nf4(values)
        if double_quant:
            offset = mean_of(absmax)
            absmax = dequantize_absmax(*quantize_absmax(absmax, offset), offset)
        return dequantize_4bit(packed, absmax, values.shape)
    blocks = blocks_of(values, BLOCK)
    scale = np.abs(blocks).max(1, keepdims=True) / F(127)
    codes = np.clip(np.rint(blocks / np.where(scale > 0, scale, F(1))), F(-127), F(127))
    return (codes * scale).reshape(-1)[: values.size].reshape(values.shape)


class AdamW8bit:
    """One tensor under the CUDA library's blockwise rule; tensors below 4096 elements keep their moments in fp32. No decay. The guard
    is this program's: a second moment that is not zero does not become zero."""

    def __init__(self, count: int, lr: float, beta1=0.9, beta2=0.999, eps=1e-8, guard=False):
        self.count, self.lr, self.betas, self.eps, self.guard, self.step = count, lr, (beta1, beta2), F(eps), guard, 0
        self.moments = [np.zeros(count, F), np.zeros(count, F)]
        self.codes, self.absmax = [np.zeros(0, np.int64)] * 2, [np.zeros(0, F)] * 2  # of 8-bit moments, after a step

    def stored(self, i: int, moment: np.ndarray) -> np.ndarray:
        """The moment (0: the first, 1: the second) as its codes and the absmax of their blocks give it back."""
        if self.count < SMALLEST_8BIT:
            return moment
        book, blocks = (SIGNED, UNSIGNED)[i], blocks_of(moment, OPTIMIZER_BLOCK)
        absmax = np.abs(blocks).max(1, keepdims=True)
        codes = nearest_code(blocks * (F(1) / np.where(absmax > 0, absmax, F(1))), book).astype(np.int64)
        if i == 0:
            codes += np.where(np.signbit(book[codes]) != np.signbit(blocks), np.where(blocks > 0, 1, -1), 0)
        elif self.guard:
            codes = np.where((codes == 0) & (blocks > 0), 1, codes)
        self.codes[i], self.absmax[i] = codes.reshape(-1)[: self.count], absmax.reshape(-1)
        return (book[codes] * absmax).reshape(-1)[: self.count]

    def update(self, parameter: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.step += 1
        (beta1, beta2), (m, v), g = self.betas, self.moments, gradient.astype(F)
        if self.count < SMALLEST_8BIT:  # its kernel for fp32 moments rounds elsewhere
            m = fma(m, F(beta1), (F(1) - F(beta1)) * g)
            v = fma(v, F(beta2), (F(1) - F(beta2)) * (g * g))
        else:
            m = fma(g, F(1) - F(beta1), m * F(beta1))
            v = fma(g, g * (F(1) - F(beta2)), v * F(beta2))
        c1, c2 = 1 - beta1**self.step, np.sqrt(1 - beta2**self.step)
        updated = fma(F(-self.lr * c2 / c1), m / fma(F(c2), self.eps, np.sqrt(v)), parameter)
        self.moments = [self.stored(0, m), self.stored(1, v)]
        return updated
