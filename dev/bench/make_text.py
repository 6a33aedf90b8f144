"""English-like text of any size, the same for the same arguments: what the speed of `prepare` is measured with.

    python3 dev/bench/make_text.py SQUAD_JSON BYTES messages|text > FILE

Sentences come from a model of word pairs over the contexts of a SQuAD file. `messages` writes JSON lines of conversations, `text`
paragraphs.
"""
import json
import random
import sys


def sentences(path, count, rng):
    follows = {}
    for article in json.load(open(path, encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            words = ["."] + paragraph["context"].split()
            for before, word in zip(words, words[1:]):
                follows.setdefault(before if before[-1] != "." else ".", []).append(word)
    out = []
    for _ in range(count):
        word, words = ".", []
        while len(words) < 40:
            word = rng.choice(follows.get(word, follows["."]))
            words.append(word)
            if word.endswith("."):
                break
        out.append(" ".join(words).rstrip(".") + ".")
    return out


def main():
    path, size, form = sys.argv[1], int(float(sys.argv[2])), sys.argv[3]
    rng = random.Random(11)
    pool = sentences(path, 50000, rng)
    written, row = 0, 0
    while written < size:
        if form == "text":
            piece = " ".join(rng.choices(pool, k=6)) + "\n\n"
        else:
            turns = []
            for _ in range(rng.randint(1, 3)):
                turns.append({"role": "user", "content": rng.choice(pool)})
                turns.append({"role": "assistant", "content": " ".join(rng.choices(pool, k=rng.randint(1, 5)))})
            piece = json.dumps({"id": row, "messages": turns}) + "\n"
        sys.stdout.write(piece)
        written += len(piece.encode())
        row += 1


main()
