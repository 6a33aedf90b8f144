"""Strings on which tokenizers tend to differ, and random id sequences. Everything follows from the seed."""
import random
import unicodedata

SCRIPTS = [(0x20, 0x7E), (0x41, 0x5A), (0x61, 0x7A), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x530, 0x5FF),
           (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F),
           (0x2580, 0x259F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFE00, 0xFE0F),
           (0xFF00, 0xFFEF), (0x10A00, 0x10A5F), (0x11380, 0x113E0), (0x11DE0, 0x11DEF), (0x16130, 0x1616F), (0x1D400, 0x1D7FF),
           (0x1F300, 0x1FAFF), (0x2F800, 0x2FA1F), (0x31350, 0x31400), (0x40000, 0x40010), (0x100000, 0x100010)]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u200a", "\u200b",
          "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", "\x1c", "\x1f", "\u2581", "\u2581\u2581"]
LITERALS = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<0x0A>", "[INST]", "⁇"]
BITS = ["'s", "'S", "'t", "'re", "'RE", "'Ve", "'m", "'ll", "'LL", "'lL", "'d", "'\u017f", "\u017f", "'", "''", "’s", "\u212a", "don't", "I'M"]
WORDS = "the quick brown Fox jumps over a lazy dog and 1234567 (what?) naïve café Zürich Việt déjà-vu e.g. http://x.org/a?b=1&c x_1 $5.00 100%".split()
CODE = ["for (int i = 0; i < n; ++i) {\n\ta[i] += 2;\r\n}\n", "def f(x):\n    return x**2  # comment\n", "<div class=\"a\">&nbsp;</div>", "\\frac{1}{2}",
        "SELECT * FROM t WHERE a >= 10;\n\n\n", "if(!x){}", "    \t  x", "=====", "-----\n", "/*****/", "{{}}", "\\n\\t"]
EMOJI = ["😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "1️⃣", "🤦🏼‍♂️", "\U0001FAE0"]
DIGITS = ["1", "12", "123", "1234", "12345678", "½", "Ⅷ", "٣٤", "१२३", "²", "①", "𝟘", "\U00011DE3", "\U00016FF5", "一"]
MARKS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.combining(chr(c))]


class Strings:
    def __init__(self, seed, lines):
        self.random = random.Random(seed)
        self.lines = lines  # of ordinary text

    def bit(self):
        r = self.random
        kind = r.randrange(16)
        if kind == 0:
            a, b = r.choice(SCRIPTS)
            return "".join(chr(r.randint(a, b)) for _ in range(r.randint(1, 8)))
        if kind == 1:
            return self.anything()
        if kind == 9:
            return chr(r.randrange(0x20)) if r.random() < 0.7 else "\x7f"
        if kind == 10:
            return r.choice(" \n.-a=1") * r.choice([2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 79])
        if kind == 11:
            base = r.choice("aeEoq\u0915\u1100\uac00\u05d0\u0f40\u1e63") + "".join(r.choice(MARKS) for _ in range(r.randint(1, 4)))
            return base + r.choice(["", "\u1161", "\u11a8"])
        if kind == 12:
            line = r.choice(self.lines)
            at = r.randrange(len(line) + 1)
            return line[at:at + r.randint(1, 60)]
        lists = {2: LITERALS, 3: BITS, 4: WORDS, 5: WORDS, 6: CODE, 7: EMOJI, 8: DIGITS}
        return r.choice(lists.get(kind, SPACES))

    def anything(self):
        """Any code points, from every plane."""
        r = self.random
        out = ""
        while len(out) < 4:
            c = r.randrange(r.choice([0x80, 0x800, 0x3000, 0x10000, 0x20000, 0x110000]))
            out += "" if 0xD800 <= c < 0xE000 else chr(c)
        return out

    def text(self):
        r = self.random
        if r.random() < 0.1:
            return r.choice(self.lines)[:200]
        glue = r.choice(["", "", " "])
        return glue.join(self.bit() for _ in range(r.randint(1, 10)))

    def texts(self, count):
        return ["", " ", "  ", "a", " a"] + [self.text() for _ in range(count - 5)]

    def broken(self, count):
        """Bytes that are not all UTF-8."""
        r = self.random
        out = []
        while len(out) < count:
            data = bytearray(self.text().encode())
            for _ in range(r.randint(1, 4)):
                at = r.randrange(len(data) + 1)
                kind = r.randrange(4)
                if kind == 0:
                    data[at:at] = bytes([r.randrange(0x80, 0x100)])
                elif kind == 1:
                    del data[at:at + r.randint(1, 2)]
                elif kind == 2:
                    data[at:at] = r.choice([b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe0\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98"])
                elif at < len(data):
                    data[at] = r.randrange(256)
            out.append(bytes(data))
        return out

    def ids(self, count, encoded, vocabulary, often):
        """Random ids, ids of texts, and texts with some ids replaced; `often` are ids worth seeing often."""
        r = self.random
        out = []
        for i in range(count):
            ids = list(encoded[i % len(encoded)])[:40]
            kind = r.randrange(3)
            if kind == 0:
                ids = [r.randrange(vocabulary) for _ in range(r.randint(0, 12))]
            elif kind == 1:
                ids = [r.choice(often) for _ in range(r.randint(1, 12))]
            else:
                for _ in range(r.randint(0, 4)):
                    ids.insert(r.randrange(len(ids) + 1), r.choice(often) if r.random() < 0.7 else r.randrange(vocabulary))
            out.append(ids)
        return out
