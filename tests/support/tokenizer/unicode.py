"""unicode.py: writes plugins/lib/tokenizer_unicode_data.h, by asking the package `tokenizers` about each code point.

    unicode.py >plugins/lib/tokenizer_unicode_data.h

Each part of the package has its Unicode tables from another source (Rust's std, regex, Oniguruma, unicode_categories, unicode-normalization), of
another version. So what counts is not what Unicode says, but what these parts answer.
"""
import tokenizers
from tokenizers import Regex, normalizers as N, pre_tokenizers as P

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def taken_out(splitter):
    out = set()
    for i in range(0, len(POINTS), 4096):
        part = POINTS[i:i + 4096]
        kept = [False] * len(part)
        for _, (begin, end) in splitter.pre_tokenize_str("".join(map(chr, part))):
            kept[begin:end] = [True] * (end - begin)
        out.update(c for c, k in zip(part, kept) if not k)
    return out


def splits(splitter, pieces):
    return {c for c in POINTS if len(splitter.pre_tokenize_str("a" + chr(c) + "a")) == pieces}


def changes(normalizer):
    return {c: normalizer.normalize_str(chr(c)) for c in POINTS if normalizer.normalize_str(chr(c)) != chr(c)}


def bert(**on):
    return N.BertNormalizer(**{**dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False), **on})


def reordered(nfd):
    order = N.NFD()
    out = set()
    for c in POINTS:
        plain = nfd.get(c, chr(c))
        if order.normalize_str("a" + chr(c) + "\u0334") != "a" + plain + "\u0334" or order.normalize_str("a\u05b0" + chr(c)) != "a\u05b0" + plain:
            out.add(c)
    return out


def write(values, format, end):
    row = "   "
    for v in values:
        text = " " + format(v) + ","
        if len(row) + len(text) > 140:
            print(row)
            row = "   "
        row += text
    print(row[:-1] + end)


nfd, clean = changes(N.NFD()), bert(clean_text=True)
# The order is that of the bits in tokenizer_unicode.h.
classes = [
    taken_out(P.WhitespaceSplit()),
    splits(P.Punctuation("isolated"), 3),
    {c for c in POINTS if clean.normalize_str("a" + chr(c) + "a") == "aa"},
    {c for c, s in changes(bert(strip_accents=True)).items() if s == "" and c not in nfd},
    {c for c, s in changes(N.StripAccents()).items() if s == ""},
    taken_out(P.Split(Regex(r"\p{L}"), "removed")),
    taken_out(P.Split(Regex(r"\p{N}"), "removed")),
    splits(P.Whitespace(), 1),
    splits(P.Digits(individual_digits=True), 3),
    set(nfd) | set(changes(N.NFKD())) | reordered(nfd),
]
assert classes[0] == taken_out(P.Split(Regex(r"\s"), "removed"))
bits = [0] * 0x110000
for i, members in enumerate(classes):
    for c in members:
        bits[c] |= 1 << i
bits[0xD800:0xE000] = [bits[0xD7FF]] * 0x800
runs = [c for c in range(0x110000) if c == 0 or bits[c] != bits[c - 1]]
pages = {tuple(bits[i:i + 256]) for i in range(0, 0x110000, 256)}
lower = {c: ord(s) - c for c, s in changes(N.Lowercase()).items() if c != 0x130}
rules, todo = [], sorted(lower)
while todo:
    first = todo[0]
    best = [first]
    for step in (1, 2):
        run = [first]
        while lower.get(run[-1] + step) == lower[first] and (step == 1 or run[-1] + 1 not in lower):
            run.append(run[-1] + step)
        if len(run) > len(best):
            best = run
    rules.append((first, best[-1], best[1] - first if len(best) > 1 else 1, lower[first]))
    todo = todo[len(best):]
print("""/* tokenizer_unicode_data.h: what characters are to `tokenizers` %s, whose parts each go by a Unicode version of their own. Made by
 * tests/support/tokenizer/unicode.py, which asks the package about each code point; not to be edited. */
#ifndef MBL_TOKENIZER_UNICODE_DATA_H
#define MBL_TOKENIZER_UNICODE_DATA_H

#include <stdint.h>

#define UNICODE_DISTINCT_PAGES %d /* of 256 code points, by their classes */

/* Runs of code points of equal classes: the first of a run << 11 | its classes (tokenizer_unicode.h); it ends where the next begins. */
static const uint32_t unicode_runs[] = {""" % (tokenizers.__version__, len(pages)))
write(runs, lambda c: "0x%x" % (c << 11 | bits[c]), "};")
print("""
/* Lower case: of first … last, every step-th, is itself + delta. U+0130 alone becomes two. */
static const struct {
    uint32_t first, last;
    int32_t step, delta;
} unicode_lower[] = {""")
write(rules, lambda r: "{0x%x, 0x%x, %d, %d}" % r, "};")
print("\n#endif")
