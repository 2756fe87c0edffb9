"""compare.py: holds tokenizers against the package `tokenizers`, id for id and offset for offset.

    compare.py corpus OUT [SHARED]       writes lines of text: real ones of many scripts that are found here, and random ones over all blocks
    compare.py make KIND FOLDER VOCAB …  writes the package's tokenizer.json: bert VOCAB.txt, gpt2 VOCAB.json MERGES.txt
    compare.py pipelines FOLDER BERT GPT2 LINES   writes a tokenizer.json for each kind of step into FOLDER/NAME, prints their names
    compare.py encode TOKENIZER LINES OURS        compares what `lines encode` wrote
    compare.py words TOKENIZER LINES OURS LIMIT   compares what `lines words` wrote
    compare.py pairs TOKENIZER LINES OURS LIMIT   compares what `lines pairs` wrote
    compare.py decode TOKENIZER IDS OURS          compares what `lines decode` wrote
    compare.py ids TOKENIZER OUT                  writes random ids, a row a line
    compare.py train TEXT SIZE OURS               compares a tokenizer.json that was trained
    compare.py time TOKENIZER LINES               prints the package's seconds, the fastest of three
"""
import glob, gzip, json, os, random, re, struct, sys, time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import AddedToken, Regex, Tokenizer, models, trainers
from tokenizers import decoders as D, normalizers as N, pre_tokenizers as P, processors as R


def lines_of(path):
    with open(path, "rb") as f:
        rows = f.read().split(b"\n")
    return [r.decode("utf-8") for r in (rows[:-1] if rows[-1] == b"" else rows)]


# ---- text

def real_lines():
    found = {}
    def add(data, separator=rb"\n"):
        for row in re.split(separator, data):
            try:
                row = row.decode("utf-8").strip("\r\n").replace("\n", " ")
            except UnicodeDecodeError:
                continue
            if len(row) > 3:
                found[row] = None
    for pattern in ("/usr/share/i18n/SUPPORTED", "/usr/share/i18n/locales/*", "/usr/share/unicode/**/*.txt", "/usr/share/perl/*/unicore/*.txt",
                    "/usr/lib/python3*/test/**/*.txt", os.path.dirname(os.__file__) + "/test/**/*.txt"):
        for path in sorted(glob.glob(pattern, recursive=True)):
            if os.path.isfile(path):
                add(open(path, "rb").read())
    for path in sorted(glob.glob("/usr/share/locale/*/LC_MESSAGES/*.mo")):
        add(open(path, "rb").read(), rb"[\0\n]")
    for path in sorted(glob.glob("/usr/share/man/??/man*/*.gz"))[:300]:
        add(gzip.open(path, "rb").read())
    return list(found)


def random_lines(count):
    points = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000 and c != 10]
    out = ["".join(map(chr, points[i:i + 40])) for i in range(0, len(points), 40)]
    out += ["a{0} b{0}{0}c 1{0} {0}!{0}".format(chr(c)) for c in points[:0x30000:11]]
    starts = [*range(0, 0x3400, 128), *range(0xA000, 0xD700, 256), *range(0xF900, 0xFF80, 128), *range(0x10000, 0x13000, 128), 0x16800, 0x1D100,
              0x1D400, 0x1E000, 0x1F300, 0x1F600, 0x20000, 0xE0000, 0x3400, 0x4E00, 0xAC00]
    marks = [*range(0x300, 0x370), 0x5B0, 0x5B1, 0x64B, 0x651, 0x93C, 0x94D, 0x3099, 0x309A, 0x1D165, 0xE31]
    words = ["hello", "World", "ÀÉ", "İstanbul", "don't", "'S", "'LL", "I'm", "'\u017f", "123", "4567", "½", "中文", "한국어", "日本", "ñandu", "🙂👍🏽",
             "e\u0301", "[MASK]", "[CLS]", "<|endoftext|>", "<s>", "\u0344", "ﬁ", "①"]
    spaces = [" ", "  ", "\t", "\r", "\x0b", "\x0c", "\u00a0", "\u3000", "\u200b", "\u2028", "\x85", "   ", "\r\r"]
    def one():
        c = random.choice(starts) + random.randrange(128)
        return chr(c) if c not in (0, 10) else "x"
    for _ in range(count):
        row = ""
        for _ in range(random.randrange(1, 14)):
            k = random.random()
            if k < .25: row += "".join(one() for _ in range(random.randrange(1, 6)))
            elif k < .4: row += random.choice(words)
            elif k < .55: row += random.choice("abcdefgXYZ") + "".join(chr(random.choice(marks)) for _ in range(random.randrange(1, 4)))
            elif k < .7: row += random.choice(spaces)
            elif k < .85: row += random.choice(".,!?-_#@$%&*()[]{}<>/\\|`~\"'") * random.randrange(1, 4)
            else: row += "".join(random.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(random.randrange(1, 12)))
        out.append(row)
    return out + ["a" * 5000, "é" * 101 + " " + "é" * 100, "中" * 300, " " * 1000, "ab" * 3000 + " " * 77 + "!" * 500,
                  "".join(chr(random.choice(marks)) for _ in range(2000))]


def corpus(out, shared=""):
    random.seed(7)
    rows = real_lines()
    rows = random.sample(rows, min(len(rows), 40000)) + random_lines(20000)
    for name in ("tinyshakespeare.txt", "sst2-train.tsv"):
        if shared and os.path.exists(os.path.join(shared, name)):
            text = lines_of(os.path.join(shared, name))
            rows += text[:20000]
    random.shuffle(rows)
    with open(out, "w", encoding="utf-8", newline="\n") as f:
        f.write("".join(r.replace("\n", " ") + "\n" for r in rows))


# ---- tokenizers

def make(kind, folder, *files):
    if kind == "bert":
        from tokenizers import BertWordPieceTokenizer
        t = BertWordPieceTokenizer(files[0], lowercase=True)
    else:
        t = Tokenizer(models.BPE.from_file(*files))
        t.pre_tokenizer = P.ByteLevel(add_prefix_space=False)
        t.decoder = D.ByteLevel()
        t.post_processor = R.ByteLevel(trim_offsets=False)
        t.add_special_tokens(["<|endoftext|>"])
    os.makedirs(folder, exist_ok=True)
    t.save(os.path.join(folder, "tokenizer.json"))


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def pipelines(folder, bert, gpt2, lines):
    bert, gpt2 = (json.load(open(os.path.join(p, "tokenizer.json"))) for p in (bert, gpt2))
    names = []
    def put(name, base, **parts):
        t = Tokenizer.from_str(json.dumps(base))
        for key, value in parts.items():
            if key == "added": t.add_tokens(value)
            elif key == "special": t.add_special_tokens(value)
            elif key == "ignore_merges": t.model.ignore_merges = value
            else: setattr(t, key, value)
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        t.save(os.path.join(folder, name, "tokenizer.json"))
        names.append(name)
    plain = P.ByteLevel(add_prefix_space=False, use_regex=False)
    frame = R.TemplateProcessing(single="<|endoftext|> $A", pair="<|endoftext|> $A <|endoftext|>:1 $B:1", special_tokens=[("<|endoftext|>", 50256)])
    put("llama3", gpt2, ignore_merges=True, pre_tokenizer=P.Sequence([P.Split(Regex(LLAMA3), "isolated"), plain]),
        post_processor=R.Sequence([R.ByteLevel(trim_offsets=False), frame]))
    put("qwen2", gpt2, normalizer=N.NFC(), pre_tokenizer=P.Sequence([P.Split(Regex(QWEN2), "isolated"), plain]))
    put("prefix", gpt2, pre_tokenizer=P.ByteLevel(add_prefix_space=True), post_processor=R.ByteLevel(trim_offsets=True))
    put("roberta", gpt2, post_processor=R.RobertaProcessing(("<|endoftext|>", 50256), ("!", 0), trim_offsets=True, add_prefix_space=False),
        special=[AddedToken("<mask>", lstrip=True, special=True)], added=[AddedToken("hello", single_word=True, normalized=True, rstrip=True), "World"])
    put("digits", gpt2, pre_tokenizer=P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)]))
    put("numbers", gpt2, pre_tokenizer=P.Sequence([P.Digits(individual_digits=False), P.Punctuation("contiguous"), plain]))
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        put("punctuation_" + behavior, gpt2, pre_tokenizer=P.Sequence([P.Punctuation(behavior), P.ByteLevel(add_prefix_space=False)]))
        put("split_" + behavior, gpt2, pre_tokenizer=P.Sequence([P.Split("a", behavior), P.ByteLevel(add_prefix_space=True)]))
        put("inverted_" + behavior, gpt2, pre_tokenizer=P.Sequence([P.Split("-", behavior, invert=True), plain]))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        put(form, bert, normalizer=getattr(N, form)(), pre_tokenizer=P.Whitespace())
        put(form + "_bytes", gpt2, normalizer=N.Sequence([getattr(N, form)(), N.Lowercase(), N.StripAccents()]))
    put("cased", bert, normalizer=N.BertNormalizer(lowercase=False))
    put("accents", bert, normalizer=N.BertNormalizer(lowercase=True, strip_accents=False, clean_text=False))
    put("cjk", bert, normalizer=N.BertNormalizer(handle_chinese_chars=False))
    put("added", bert, added=[AddedToken("Hello", normalized=True), AddedToken("xyz", normalized=False, single_word=True)])
    put("replaced", bert, pre_tokenizer=P.Sequence([P.WhitespaceSplit(), P.Punctuation()]),
        normalizer=N.Sequence([N.Strip(), N.Replace("a", "bb"), N.Replace("the", ""), N.Prepend("x")]))
    put("metaspace", bert, pre_tokenizer=P.Metaspace(prepend_scheme="first"))
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    t.normalizer = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % i for i in range(256)]
    t.train_from_iterator(lines_of(lines)[:3000], trainers.BpeTrainer(vocab_size=3000, special_tokens=special, show_progress=False, max_token_length=16))
    llama = json.loads(t.to_str())
    llama["added_tokens"] = [a for a in llama["added_tokens"] if not a["content"].startswith("<0x")]
    put("llama2", llama, decoder=D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)]),
        post_processor=R.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]))
    for scheme in ("first", "always", "never"):
        for split in (True, False):
            put("metaspace_%s_%s" % (scheme, split), llama, normalizer=N.NFKC() if split else None, decoder=D.Metaspace(prepend_scheme=scheme),
                pre_tokenizer=P.Metaspace(prepend_scheme=scheme, split=split))
    for name, changes in (("fused", {"byte_fallback": False}), ("unfused", {"byte_fallback": False, "fuse_unk": False}),
                          ("unkless", {"byte_fallback": False, "unk_token": None})):
        put(name, {**llama, "model": {**llama["model"], **changes}})
    half = {k: v for k, v in llama["model"]["vocab"].items() if not "<0x80>" <= k <= "<0xC7>" or len(k) != 6}
    put("halfbytes", {**llama, "model": {**llama["model"], "vocab": half}})
    print(*names)


# ---- comparisons

def verdict(bad, rows):
    if not bad:
        return 0
    print("%d of %d lines differ, first: %s" % (len(bad), rows, bad[0]))
    return 1


def encode(tokenizer, lines, ours):
    t = Tokenizer.from_file(os.path.join(tokenizer, "tokenizer.json"))
    text, data, at, bad = lines_of(lines), open(ours, "rb").read(), 0, []
    for row, e in zip(text, t.encode_batch(text)):
        n, = struct.unpack_from("<i", data, at)
        ids = list(struct.unpack_from("<%di" % n, data, at + 4))
        offsets = struct.unpack_from("<%di" % (2 * n), data, at + 4 + 4 * n)
        at += 4 + 12 * n
        if ids != e.ids:
            bad.append("%s: ids %s, expected %s" % (ascii(row[:200]), ids[:40], e.ids[:40]))
            continue
        places = [0]
        for c in row:
            places.append(places[-1] + len(c.encode()))
        theirs = [places[o] for pair in e.offsets for o in pair]
        if list(offsets) != theirs:
            bad.append("%s: offsets %s, expected %s" % (ascii(row[:200]), list(offsets)[:40], theirs[:40]))
    return verdict(bad, len(text))


def beside(rows, encoded, theirs, ours):
    data, at, bad = open(ours, "rb").read(), 0, []
    for row, e in zip(rows, encoded):
        n, = struct.unpack_from("<i", data, at)
        found = [list(struct.unpack_from("<%di" % n, data, at + 4 + 4 * n * k)) for k in range(2)]
        at += 4 + 8 * n
        expected = [e.ids, theirs(e)]
        if found != expected:
            bad.append("%s: %s, expected %s" % (ascii(row)[:200], found, expected))
    return verdict(bad, len(rows))


def words(tokenizer, lines, ours, limit):
    t, rows = Tokenizer.from_file(os.path.join(tokenizer, "tokenizer.json")), [r.split(" ") for r in lines_of(lines)]
    if int(limit): t.enable_truncation(int(limit))
    return beside(rows, t.encode_batch(rows, is_pretokenized=True), lambda e: [-1 if w is None else w for w in e.word_ids], ours)


def pairs(tokenizer, lines, ours, limit):
    t, rows = Tokenizer.from_file(os.path.join(tokenizer, "tokenizer.json")), lines_of(lines)
    if int(limit): t.enable_truncation(int(limit), strategy="longest_first")
    rows = list(zip(rows, rows[1:]))
    return beside(rows, t.encode_batch(rows), lambda e: e.type_ids, ours)


def ids(tokenizer, out):
    random.seed(5)
    known = sorted(Tokenizer.from_file(os.path.join(tokenizer, "tokenizer.json")).get_vocab().values())
    with open(out, "w") as f:
        for _ in range(2000):
            f.write(" ".join(str(random.choice(known)) for _ in range(random.randrange(1, 30))) + "\n")


def decode(tokenizer, rows, ours):
    t, data, at, bad = Tokenizer.from_file(os.path.join(tokenizer, "tokenizer.json")), open(ours, "rb").read(), 0, []
    rows = [list(map(int, r.split())) for r in lines_of(rows)]
    for row in rows:
        n, = struct.unpack_from("<i", data, at)
        text = data[at + 4:at + 4 + n]
        at += 4 + n
        expected = t.decode(row, skip_special_tokens=False).encode()
        if text != expected:
            bad.append("%s: %s, expected %s" % (row, text, expected))
    return verdict(bad, len(rows))


def train(text, size, ours):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = P.ByteLevel(add_prefix_space=False)
    t.train_from_iterator([open(text, encoding="utf-8", newline="").read()], trainers.BpeTrainer(
        vocab_size=int(size), min_frequency=2, special_tokens=["<|endoftext|>"], initial_alphabet=P.ByteLevel.alphabet(), show_progress=False))
    theirs, mine = json.loads(t.to_str())["model"], json.load(open(ours))["model"]
    if theirs["vocab"] == mine["vocab"] and [list(m) for m in theirs["merges"]] == mine["merges"]:
        return 0
    print("the vocabularies or the merges differ")
    return 1


def measure(tokenizer, lines):
    t, text, best = Tokenizer.from_file(os.path.join(tokenizer, "tokenizer.json")), lines_of(lines), 1e9
    for _ in range(3):
        begin = time.perf_counter()
        t.encode_batch(text)
        best = min(best, time.perf_counter() - begin)
    print("%.6f" % best)


commands = {"corpus": corpus, "make": make, "pipelines": pipelines, "encode": encode, "words": words, "pairs": pairs, "decode": decode, "ids": ids, "train": train, "time": measure}
sys.exit(commands[sys.argv[1]](*sys.argv[2:]) or 0)
