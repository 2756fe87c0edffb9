"""tags_seqeval.py OUT: random tags of each scheme, right and wrong ones, and what seqeval says of them: tests/plugins/data/tags.json."""
import json
import random
import sys
import warnings

from seqeval.metrics import accuracy_score, classification_report
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES

warnings.filterwarnings("ignore")
SCHEMES = {"iob1": (IOB1, "BI"), "iob2": (IOB2, "BI"), "bioes": (IOBES, "BIES"), "bilou": (BILOU, "BILU")}
TYPES = ["LOC", "ORG", "PER", "X-Y"]
AVERAGES = ["micro", "macro", "weighted"]


def entity(letters, kind, n):
    inside = ["I-" + kind] * n
    if len(letters) == 2:
        return ["B-" + kind] + inside[1:]
    return ["%s-%s" % (letters[3], kind)] if n == 1 else ["B-" + kind] + inside[2:] + ["%s-%s" % (letters[2], kind)]


def row(letters):
    out = []
    while len(out) < 9:
        out += entity(letters, random.choice(TYPES[:3]), random.randrange(1, 4)) if random.random() < 0.4 else ["O"]
    return out


def figures(report, which):
    return {name: [report[name]["precision"], report[name]["recall"], report[name]["f1-score"], int(report[name]["support"])] for name in which}


def one(scheme, letters):
    tags = ["O"] + ["%s-%s" % (letter, kind) for letter in letters for kind in TYPES]
    truth, guess = [], []
    for i in range(40):
        truth.append(row(letters))
        wrong = 0.15 if i % 3 else 0.6
        guess.append([random.choice(tags) if random.random() < wrong else t for t in truth[-1]])
    canon = lambda rows: rows
    if scheme is BILOU:  # its letters mean nothing to the rules of conlleval
        canon = lambda rows: [[t.replace("L-", "E-", 1) if t[:2] == "L-" else t.replace("U-", "S-", 1) if t[:2] == "U-" else t for t in r] for r in rows]
    loose = classification_report(canon(truth), canon(guess), output_dict=True, zero_division=0)
    strict = classification_report(truth, guess, output_dict=True, zero_division=0, mode="strict", scheme=scheme)
    kinds = sorted(k for k in loose if not k.endswith(" avg"))
    return {"tags": sorted(tags), "truth": truth, "guess": guess, "accuracy": accuracy_score(truth, guess),
            "averages": figures(loose, [a + " avg" for a in AVERAGES]), "per_class": figures(loose, kinds),
            "strict": figures(strict, ["micro avg"])["micro avg"]}


random.seed(4)
made = {name: one(*SCHEMES[name]) for name in SCHEMES}
with open(sys.argv[1], "w") as f:
    f.write("{\n" + ",\n".join('"%s": %s' % (k, json.dumps(v, sort_keys=True)) for k, v in made.items()) + "\n}\n")
