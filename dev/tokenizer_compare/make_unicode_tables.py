#!/usr/bin/env python3
"""Writes tokenizer/unicode_tables.inc, nfc_compositions.inc and nfc_decompositions.inc.

    pip install tokenizers==0.23.3 && python3 dev/tokenizer_compare/make_unicode_tables.py

The reference is what the Hugging Face tokenizers library does, asked one code point at a time, because a file's ids were made with
it: its regular expressions know Unicode 16, its NFC the tables of Unicode 9.
"""
import os
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
nfc = normalizers.NFC().normalize_str
nfd = normalizers.NFD().normalize_str


def matching(pattern):
    """The code points that match a one-character pattern."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found = []
    for first in range(0, len(CODE_POINTS), 1024):
        text = "".join(map(chr, CODE_POINTS[first:first + 1024]))
        found += [ord(c) for piece, _ in split.pre_tokenize_str(text) for c in piece]
    return found


def word_characters():
    """The code points beside which a token with single_word does not count: another regular expression engine finds them."""
    tokenizer = Tokenizer(models.BPE(vocab={}, merges=[]))
    tokenizer.add_tokens([AddedToken("x", single_word=True, normalized=False)])
    found = []
    for first in range(0, len(CODE_POINTS), 65536):
        batch = CODE_POINTS[first:first + 65536]
        found += [c for c, e in zip(batch, tokenizer.encode_batch(["x" + chr(c) for c in batch])) if not e.ids]
    return sorted({*found, ord("x")})


def ranges(values):
    """[first, last] pairs of a sorted list."""
    out = []
    for v in values:
        if out and out[-1][1] == v - 1:
            out[-1][1] = v
        else:
            out.append([v, v])
    return out


def write_array(out, declaration, items):
    out.write(f"{declaration} = {{\n")
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > 130:
            out.write(line + "\n")
            line = "   "
        line += " " + item + ","
    out.write(line + "\n};\n")


def write_classes(path):
    letters, numbers, spaces = matching(r"\p{L}"), matching(r"\p{N}"), matching(r"\s")
    words = word_characters()
    assert set(letters) <= set(words)
    others = sorted(set(words) - set(letters))
    print(f"{len(letters)} letters, {len(numbers)} numbers, {len(spaces)} white space, {len(words)} of words")
    with open(path, "w") as out:
        out.write("// Made by dev/tokenizer_compare/make_unicode_tables.py: first and last code point of each range.\n")
        for name, values in (("kLetters", letters), ("kNumbers", numbers), ("kSpaces", spaces), ("kWordsButLetters", others)):
            write_array(out, f"constexpr CodePointRange {name}[]", [f"{{0x{a:X}, 0x{b:X}}}" for a, b in ranges(values)])


def combining_class(c):
    """0 when the reference does not reorder this character."""
    ch = chr(c)
    ccc = unicodedata.combining(ch)
    if ccc > 1:
        moved = nfd("a" + ch + "\u0334") == "a\u0334" + nfd(ch)  # U+0334 has class 1
    else:
        moved = ccc == 1 and nfd("a\u0345" + ch) == "a" + nfd(ch) + "\u0345"  # U+0345 has the highest class, 240
    return ccc if moved else 0


def write_nfc(compositions, decompositions):
    classes = [(c, combining_class(c)) for c in CODE_POINTS if unicodedata.combining(chr(c))]
    runs = []
    for c, ccc in classes:
        if not ccc:
            continue
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == ccc:
            runs[-1][1] = c
        else:
            runs.append([c, c, ccc])
    composing, one_way = [], []
    for c in CODE_POINTS:
        whole = nfd(chr(c))
        if whole == chr(c) or 0xAC00 <= c < 0xAC00 + 11172:
            continue
        if nfc(chr(c)) == chr(c):
            first, second = nfc(whole[:-1]), whole[-1]
            assert len(first) == 1 and nfc(first + second) == chr(c), hex(c)
            composing.append((c, ord(first), ord(second)))
        else:
            parts = [int(p, 16) for p in unicodedata.decomposition(chr(c)).split()]
            assert len(parts) <= 2, hex(c)
            one_way.append((c, parts[0], parts[1] if len(parts) == 2 else 0))
    print(f"{len(composing)} compositions, {len(one_way)} decompositions only, {len(runs)} runs of a combining class")
    made_by = "// Made by dev/tokenizer_compare/make_unicode_tables.py: {whole, first part, second part or 0}; Hangul is arithmetic.\n"
    entries = [[", ".join(f"0x{v:X}" if v else "0" for v in item) for item in items] for items in (composing, one_way)]
    with open(compositions, "w") as out:
        out.write(made_by)
        write_array(out, "constexpr Decomposition kCompositions[]", [f"{{{e}}}" for e in entries[0]])
    with open(decompositions, "w") as out:
        out.write(made_by)
        write_array(out, "constexpr Decomposition kOneWay[]", [f"{{{e}}}" for e in entries[1]])
        out.write("// First and last code point and the canonical combining class.\n")
        write_array(out, "constexpr CombiningRun kCombining[]", [f"{{0x{a:X}, 0x{b:X}, {k}}}" for a, b, k in runs])


TOKENIZER = os.path.join(ROOT, "tokenizer")
write_classes(os.path.join(TOKENIZER, "unicode_tables.inc"))
write_nfc(os.path.join(TOKENIZER, "nfc_compositions.inc"), os.path.join(TOKENIZER, "nfc_decompositions.inc"))
