#!/usr/bin/env python3
"""Makes the demo's texts: facts about invented people, towns, ships and books, and questions about them.

  generate.py corpus --documents N [--seed S]   one JSON string a line: a passage and talk about it (what the demo model learns from)
  generate.py lines  --documents N [--seed S]   the same as plain lines (what the tokenizer is trained on)
  generate.py label                             token ids of such documents, one JSON array a line, as .jsonl with labels
  generate.py squad  --articles N  [--seed S]   SQuAD v1.1 JSON: contexts, questions, answers (what an adapter learns from)

Every name is a pair of parts. The corpus uses two thirds of the pairs, the SQuAD set the other third, and each of its
articles has names of its own: no name of a SQuAD context occurs in the corpus or in another article. The corpus talks about
its passages in sentences and never in the form Context / Question / Answer, nor gives a bare answer: that is left to the adapter.
"""
import argparse
import json
import random
import re
import sys

# Name parts: a name is head + tail.
PARTS = {
    "first": ("Mir Tal Ven Lor Kas Den Ori Sel Bram Hal Jor Nel Pav Rud Syl Tev Ulm Wil Yas Zor Ani Bel Cor Dag Eli Fen Gar Ivo Lud Mat".split(),
              "a en io eth us in ora ina and ulf wyn is ard ette an el".split()),
    "last": ("Tol Var Hask Brun Quil Marl Pend Stav Grim Love Ash Black Carr Dun Fair Hol Kest Lang Mor North Oak Pell Ross Shaw Thorn Wake Win York Zell Crow".split(),
             "en well ner ski son er by ham man ley wood ridge ton more field croft".split()),
    "town": ("Bar Cal Dor Esk Fal Gor Har Ist Kal Lin Mel Nor Ost Pol Ras Sar Tor Ul Vel Wex Ard Bry Cres Dul Ely Glen Hex Kir Lam Mont Ox Pen Ruth Stam Tav Und Wil Yar Zan Alm Bos Cul Dray".split(),
             "da holm burg stad mere gate ford wick hurst dale mouth haven gard port minster combe by ton ham field bridge".split()),
    "river": ("Ab Bris Clo Drav El Flin Gal Hul Ir Jad Kel Lug Med Nar Os Pru Quo Ril Siv Tam Ur Vis Wen Yel Zir Bor Cad Dov Fer Gru".split(),
              "ona une esk ava oth inda ish ume aro elle iss ewa ond ura ael ith".split()),
    "ship": ("Sea Star Storm Wind Moon Sun Silver Gold Iron White Red Night Dawn Swift Brave Wild Grey Salt Frost Cloud River Snow Morning Ocean Thunder Green".split(),
             "bird fox rider song lark queen arrow maid wolf rose flame spray dancer hawk runner light".split()),
    "book": ("Silent Broken Hidden Golden Lonely Burning Frozen Secret Distant Crooked Empty Painted Sleeping Twisted Velvet Wooden Crystal Bitter Gentle Hollow Endless Faithful Ancient Narrow Purple Quiet".split(),
             "Garden Mirror Harbour Winter Letter Tower Orchard Candle Forest Crown Ladder Window Island Journey Kingdom Shadow".split()),
}
WORDS = {
    "job": "baker painter doctor farmer teacher weaver sailor miller judge carpenter hunter tailor nurse potter smith lawyer clerk gardener".split(),
    "instrument": "harp flute violin drum piano trumpet cello organ guitar lute horn fiddle".split(),
    "food": "plums soup cheese bread pears fish honey cake rice beans apples nuts eggs cherries".split(),
    "animal": "dog cat horse parrot goat rabbit donkey pony turtle goose hen mule".split(),
    "product": "glass silk wine paper wool salt pottery clocks carpets lace bells boots".split(),
    "cargo": "coal tea timber grain spices cotton sugar marble copper oil tobacco coffee".split(),
}

# Relation: subject kind, object kind, what the subject does (used in passages and retellings),
# questions for the object and for the subject. The last question of each pair occurs in the SQuAD set only.
RELATIONS = [
    ("person", "town", ["was born in {o}", "comes from {o}"], ["Where was {s} born?", "Which town does {s} come from?", "What is the birthplace of {s}?"],
     ["Who was born in {o}?", "Who comes from {o}?", "Which person was born in {o}?"]),
    ("person", "job", ["works as a {o}", "is a {o}"], ["What does {s} work as?", "What is the job of {s}?", "What is the profession of {s}?"],
     ["Who works as a {o}?", "Who is a {o}?", "Which person is a {o}?"]),
    ("person", "instrument", ["plays the {o}", "is good at the {o}"], ["What does {s} play?", "Which instrument does {s} play?", "What instrument is played by {s}?"],
     ["Who plays the {o}?", "Who is good at the {o}?", "Which person plays the {o}?"]),
    ("person", "food", ["likes to eat {o}", "is fond of {o}"], ["What does {s} like to eat?", "What is {s} fond of?", "Which food does {s} like?"],
     ["Who likes to eat {o}?", "Who is fond of {o}?", "Which person likes {o}?"]),
    ("person", "animal", ["keeps a {o}", "owns a {o}"], ["Which animal does {s} keep?", "Which animal does {s} own?", "What kind of animal does {s} have?"],
     ["Who keeps a {o}?", "Who owns a {o}?", "Which person has a {o}?"]),
    ("person", "book", ["wrote the book {o}", "is the author of {o}"], ["Which book did {s} write?", "What did {s} write?", "What is the title of the book by {s}?"],
     ["Who wrote the book {o}?", "Who is the author of {o}?", "By whom was {o} written?"]),
    ("town", "river", ["lies on the river {o}", "stands by the river {o}"], ["Which river does {s} lie on?", "On which river does {s} stand?", "What river flows through {s}?"],
     ["Which town lies on the river {o}?", "Which town stands by the {o}?", "What town is on the {o}?"]),
    ("town", "year", ["was founded in {o}", "was built in the year {o}"], ["When was {s} founded?", "In which year was {s} built?", "What year was {s} founded?"],
     ["Which town was founded in {o}?", "Which town was built in {o}?", "What town dates from {o}?"]),
    ("town", "product", ["is known for {o}", "is famous for {o}"], ["What is {s} known for?", "What is {s} famous for?", "For which product is {s} famous?"],
     ["Which town is known for {o}?", "Which town is famous for {o}?", "What town makes {o}?"]),
    ("town", "person", ["is ruled by {o}", "has a mayor named {o}"], ["Who rules {s}?", "Who is the mayor of {s}?", "What is the name of the mayor of {s}?"],
     ["Which town is ruled by {o}?", "Which town has {o} as mayor?", "Of which town is {o} the mayor?"]),
    ("ship", "cargo", ["carries {o}", "brings {o} over the sea"], ["What does the {s} carry?", "What does the {s} bring?", "What cargo is on the {s}?"],
     ["Which ship carries {o}?", "Which ship brings {o}?", "What is the name of the ship with {o}?"]),
    ("ship", "town", ["sails to {o}", "is on the way to {o}"], ["Where does the {s} sail to?", "Where is the {s} going?", "What is the destination of the {s}?"],
     ["Which ship sails to {o}?", "Which ship is going to {o}?", "What ship is bound for {o}?"]),
    ("ship", "person", ["belongs to {o}", "has a captain named {o}"], ["Who owns the {s}?", "Who is the captain of the {s}?", "What is the name of the captain of the {s}?"],
     ["Which ship belongs to {o}?", "Which ship is owned by {o}?", "What ship does {o} have?"]),
]
SUBJECT = {"person": ["{s}"], "town": ["{s}", "The town of {s}", "The town {s}"], "ship": ["The {s}", "The ship {s}"]}
WRAPPED = ["It is {a}.", "The answer is {a}.", "{a}, says the text.", "That is {a}.", "We read that it is {a}.", "{a}, as the context says.",
           "The text says {a}.", "I think it is {a}.", "{a} is the answer to this question."]


class Names:
    """Draws names of one side (corpus or SQuAD); `used` holds what must not be drawn again."""

    def __init__(self, rng, squad):
        self.rng, self.used, self.pairs = rng, set(), {}
        for kind, (heads, tails) in PARTS.items():
            glue = " " if kind == "book" else ""
            self.pairs[kind] = [h + glue + t for i, h in enumerate(heads) for j, t in enumerate(tails) if ((i + j) % 3 == 0) == squad]

    def draw(self, kind):
        if kind == "person":
            return self.draw("first") + " " + self.draw("last")
        if kind == "year":
            return str(self.rng.randrange(1100, 1990))
        return self.rng.choice(WORDS.get(kind) or self.pairs[kind])

    def make(self, kind):
        for _ in range(10000):
            name = self.draw(kind)
            if name not in self.used:
                return "The " + name if kind == "book" else name
        sys.exit("error: no %s is left: ask for fewer articles" % kind)


def make_facts(rng, names, subjects, per_subject):
    """[(relation, subject, object)]: no name or word stands for two things, so every question has one answer."""
    taken, facts = set(), []

    def fresh(kind):
        while True:
            name = names.make(kind)
            words = set(name.split()) - {"The"}
            if not taken & words:
                taken.update(words)
                return name

    # One kind may occur twice: the second person, town or ship is what makes a question need reading.
    for kind in rng.sample(["person", "person", "person", "town", "town", "ship", "ship"], subjects):
        subject = fresh(kind)
        relations = [r for r in RELATIONS if r[0] == kind]
        for relation in rng.sample(relations, min(len(relations), rng.randint(*per_subject))):
            facts.append((relation, subject, fresh(relation[1])))
    return facts


def tell(rng, facts):
    """A passage: the facts of one subject stand together, one or two in a sentence."""
    sentences, i = [], 0
    while i < len(facts):
        relation, subject, obj = facts[i]
        text = rng.choice(SUBJECT[relation[0]]).format(s=subject) + " " + rng.choice(relation[2]).format(o=obj)
        i += 1
        if i < len(facts) and facts[i][1] == subject and rng.random() < 0.5:
            text += " and " + rng.choice(facts[i][0][2]).format(o=facts[i][2])
            i += 1
        sentences.append(text + ".")
    return " ".join(sentences)


def ask(rng, fact, wordings):
    """(question, answer) about one fact, in one of the first `wordings` wordings of each direction."""
    relation, subject, obj = fact
    if rng.random() < 0.6:
        return rng.choice(relation[3][:wordings]).format(s=subject), obj
    return rng.choice(relation[4][:wordings]).format(o=obj), subject


def make_document(rng, names, most_subjects=3):
    """A passage and talk about it: retellings, questions with whole-sentence answers, questions with wrapped answers."""
    facts = make_facts(rng, names, min(rng.choice([1, 2, 2, 3, 3]), most_subjects), (1, 3))
    lines = [tell(rng, facts)]
    for fact in rng.sample(facts, len(facts)) + rng.choices(facts, k=2):
        style = rng.random()
        if style < 0.25:
            lines.append("- " + tell(rng, [fact]))
        else:
            question, answer = ask(rng, fact, 2)
            reply = tell(rng, [fact]) if style < 0.45 else rng.choice(WRAPPED).format(a=answer)
            lines.append("- " + question + " " + reply)
    return "\n".join(lines)


def place(context, answer):
    """Where the answer first stands as whole words, or -1 ("tea" is in "teacher" too)."""
    match = re.search(r"\b%s\b" % re.escape(answer), context)
    return match.start() if match else -1


def make_squad(rng, names, articles, paragraphs=5, questions=6):
    data = []
    for a in range(articles):
        entry, drawn = {"title": "Chronicle_%d" % (a + 1), "paragraphs": []}, set()
        for p in range(paragraphs):
            facts = []
            while len(facts) < 4:
                facts = make_facts(rng, names, rng.choice([2, 3, 3]), (1, 3))
            drawn.update(thing.removeprefix("The ") for fact in facts for thing in fact[1:])
            context, qas = tell(rng, facts), {}
            while len(qas) < min(questions, len(facts)):
                question, answer = ask(rng, rng.choice(facts), 3)
                qas[question] = answer
            entry["paragraphs"].append({"context": context, "qas": [
                {"id": "demo-%d-%d-%d" % (a + 1, p + 1, q + 1), "question": question,
                 "answers": [{"text": answer, "answer_start": place(context, answer)}]}
                for q, (question, answer) in enumerate(qas.items())]})
        # Years and the closed lists of words may come again; names may not.
        names.used.update(name for name in drawn if name[0].isupper())
        data.append(entry)
    return {"version": "1.1", "data": data}


def label(lines):
    """Ids of documents in, rows of .jsonl out: EOS behind each, and no loss on the passage (it ends with the first newline).

    What a passage says cannot be foreseen: its names would be most of the loss, and noise in every gradient."""
    newline, eos = 3 + ord("\n"), 2  # ids of Llama-2's kind of tokenizer: byte b is b + 3
    for line in lines:
        ids = json.loads(line) + [eos]
        begin = ids.index(newline) + 1
        print(json.dumps({"input_ids": ids, "labels": [-100] * begin + ids[begin:]}, separators=(",", ":")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["corpus", "lines", "label", "squad"])
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--articles", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.mode == "label":
        label(sys.stdin)
        return
    rng = random.Random("%s %d" % ("squad" if options.mode == "squad" else "corpus", options.seed))
    names = Names(rng, options.mode == "squad")
    if options.mode == "squad":
        print(json.dumps(make_squad(rng, names, options.articles), indent=1))
        return
    for i in range(options.documents):
        if options.mode == "lines":
            print(make_document(rng, names))
            continue
        # Short passages first: copying from one that holds a single subject is learnt soonest.
        print(json.dumps(make_document(rng, names, 1 + min(2, 8 * i // options.documents))))


if __name__ == "__main__":
    sys.exit(main())
