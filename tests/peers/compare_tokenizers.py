"""Compares build/tok with the package `tokenizers`: ids, offsets, types, sequence ids, windows.

    ./build.sh all
    pip install tokenizers==0.23.3
    python tests/peers/compare_tokenizers.py [--quick]

The vocabularies and texts are those of ../shared (or $MRC_SHARED).  Prints one line per comparison
and a total last; exit 1 if anything differs.  --quick takes every 20th text and code point.
Without the package or the data it says so and exits 0.
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHARED = os.environ.get("MRC_SHARED", os.path.join(ROOT, "..", "shared"))
TOK = os.environ.get("TOK", os.path.join(ROOT, "build", "tok"))
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARIES = [                    # name, file, lower case
    ("klue", "data/klue/vocab.txt", False),
    ("bert-base-uncased", "data/english/bert-base-uncased.vocab.txt", True),
    ("bert-base-cased", "data/english/bert-base-cased.vocab.txt", False),
]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CHUNK = 20000       # texts at a time; fewer when truncating, as tokenizers keeps what it cut off


def reference(path, lower, strip=None, chinese=True):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    vocab = models.WordPiece.read_file(path)
    t = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=chinese,
                                              strip_accents=strip, lowercase=lower)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(x, vocab[x]) for x in ("[CLS]", "[SEP]")])
    t.add_special_tokens([x for x in SPECIAL if x in vocab])
    return t


def folder(where, name, path, lower, strip=None, chinese=True):
    """A model directory with vocab.txt and tokenizer_config.json."""
    at = os.path.join(where, name)
    os.makedirs(at)
    with open(path, "rb") as f, open(os.path.join(at, "vocab.txt"), "wb") as g:
        g.write(f.read())
    with open(os.path.join(at, "tokenizer_config.json"), "w") as g:
        json.dump({"do_lower_case": lower, "strip_accents": strip,
                   "tokenize_chinese_chars": chinese, "model_max_length": 10**30}, g)
    return at


def byte_level(vocab, merges, prefix, trim=True):
    """What transformers makes of a RobertaTokenizer's files."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
    t = Tokenizer(models.BPE.from_file(vocab, merges))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    t.add_special_tokens([AddedToken(x, lstrip=x == "<mask>", normalized=False) for x in ROBERTA])
    ends = [(x, t.token_to_id(x)) for x in ("</s>", "<s>")]
    t.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=prefix,
                                                    trim_offsets=trim)
    return t


def byte_level_folder(where, name, vocab, merges, prefix):
    at = os.path.join(where, name)
    os.makedirs(at)
    for path, to in ((vocab, "vocab.json"), (merges, "merges.txt")):
        with open(path, "rb") as f, open(os.path.join(at, to), "wb") as g:
            g.write(f.read())
    with open(os.path.join(at, "tokenizer_config.json"), "w") as g:
        json.dump({"add_prefix_space": prefix, "model_max_length": 512}, g)
    return at


def ours(name, items, flags=()):
    """What tok makes of the items (texts or pairs): a list of windows for each."""
    lines = "".join(json.dumps(x if isinstance(x, str) else {"text": x[0], "text_pair": x[1]},
                               ensure_ascii=False) + "\n" for x in items)
    p = subprocess.Popen([TOK, "--tokenizer_name", name, "--jsonl", *flags],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def feed():
        try:
            p.stdin.write(lines.encode("utf-8"))
            p.stdin.close()
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    out = [[] for _ in items]
    for line in p.stdout:
        e = json.loads(line)
        out[e["overflow_to_sample_mapping"]].append(e)
    feeder.join()
    assert p.wait() == 0, f"tok ended with {p.returncode}"
    return out


def same(e, r, tokens):
    # An added token shows the spaces that it took there; ours are the vocabulary's.
    theirs = [x.lstrip() if x.endswith("<mask>") else x for x in r.tokens] if tokens else None
    return (e["input_ids"] == r.ids and e["offset_mapping"] == [list(x) for x in r.offsets]
            and e["sequence_ids"] == r.sequence_ids and e["token_type_ids"] == r.type_ids
            and (not tokens or e["tokens"] == theirs))


class Report:
    def __init__(self):
        self.texts = self.windows = self.differences = 0

    def compare(self, label, name, t, items, flags=(), special=True):
        """t is set up as flags say."""
        items = list(items)
        texts = windows = differences = 0
        chunk = CHUNK // 200 if "--max_length" in flags else CHUNK
        for at in range(0, len(items), chunk):
            part = items[at:at + chunk]
            mine = ours(name, part, flags)
            theirs = t.encode_batch(part, add_special_tokens=special)
            for item, es, r in zip(part, mine, theirs):
                rs = [r] + (r.overflowing if "only_second" in flags else [])
                texts += 1
                windows += len(rs)
                if len(es) == len(rs) and all(same(e, x, len(part) < 2000) for e, x in zip(es, rs)):
                    continue
                differences += 1
                if differences <= 3:
                    print(f"  differs: {item!r}\n    ours   {[e['input_ids'] for e in es]} "
                          f"{[e['offset_mapping'] for e in es]}\n    theirs {[x.ids for x in rs]} "
                          f"{[x.offsets for x in rs]}"[:3000])
        self.texts += texts
        self.windows += windows
        self.differences += differences
        print(f"{label}: {texts} texts, {windows} windows, {differences} differences", flush=True)


def squad(path):
    with open(path, encoding="utf-8") as f:
        for article in json.load(f)["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    yield qa["question"], paragraph["context"]


def jsonl(path):
    with open(path, encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            yield row["question"], row["context"]


def pairs():
    data = os.path.join(SHARED, "data")
    out = []
    for name in ("mrc_train", "mrc_validation"):
        out += jsonl(os.path.join(data, "mrc", name + ".jsonl"))
    for path in ["korquad/KorQuAD_v1.0_dev.json", "english/squad_v1.1_dev_a.json",
                 "english/squad_v1.1_dev_b.json", "english/xquad.en.json"]:
        out += squad(os.path.join(data, path))
    return out


def random_strings(n, seed, special=SPECIAL):
    """All planes, with the special tokens inside; some dense in what the normaliser treats."""
    import unicodedata
    rng = random.Random(seed)
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    bmp = points[:0xF800]
    marks = [c for c in points if unicodedata.combining(c)]
    composed = [c for c in points if unicodedata.normalize("NFD", c) != c]
    cased = [c for c in points if c.lower() != c]
    odd = [c for c in points
           if unicodedata.category(c) in ("Cc", "Cf", "Zs", "Zl", "Zp", "Po", "Mc")]
    latin = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    hangul, cjk = list("하나둘한국말이은을의에서"), list("中文字漢\uf900\U00020000")
    pools = [points, bmp, marks, composed, cased, odd, latin, hangul, cjk, [" "], ["##", "[", "]"]]
    specials = special + ["[CLS", "MASK]", "[mask]", "[[SEP]]", "[UNK][PAD]", "[SE[SEP]P]"]
    if special == ROBERTA:
        pools.append(list("'") + ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "  ", "\n"])
        specials += ["<mask", "<mask> ", " <mask>", " \n<mask>", "<<s>>", "<s></s>", "</s"]
    for _ in range(n):
        weights = [rng.random() ** 4 for _ in pools]
        parts = []
        for _ in range(rng.choice((1, 3, 10, 40, 150))):
            pool = rng.choices(pools, weights)[0]
            parts.append(rng.choice(pool))
            if rng.random() < 0.05:
                parts.append(rng.choice(specials))
        yield "".join(parts)


def characters(where, strings):
    """A vocabulary in which every character of the normalised strings is a token, inside words too:
    nothing that the normaliser does is hidden by an [UNK]."""
    from tokenizers import normalizers
    found = set("".join(strings))
    for lower in (False, True):
        for strip in (False, True):
            n = normalizers.BertNormalizer(strip_accents=strip, lowercase=lower)
            found |= set("".join(n.normalize_str(x) for x in strings))
    found = sorted(c for c in found if not c.isspace() and c not in "#\0")
    path = os.path.join(where, "characters.txt")
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for token in SPECIAL + found + ["##" + c for c in found]:
            f.write(token + "\n")
    return path


def truncations(report, name, t, label, items):
    """Both strategies; of only_second what can be cut, as HF takes the rest for an error."""
    short = [(q, c[:90]) for q, c in items]     # tokenizers keeps all pairs of pieces it cut off
    for length, texts in ((8, short), (9, short), (30, short), (129, items), (384, items)):
        t.enable_truncation(length, strategy="longest_first")
        flags = ("--max_length", str(length), "--truncation", "longest_first")
        report.compare(f"{label} longest_first {length}", name, t, texts, flags)
        report.compare(f"{label} longest_first {length}, single texts", name, t,
                       [c for _, c in texts], flags)
    t.no_truncation()
    sizes = [[len(t.encode(x, add_special_tokens=False)) for x in pair] for pair in items]
    special = t.num_special_tokens_to_add(is_pair=True)
    for length, stride in ((64, 0), (64, 13), (129, 100), (384, 128), (512, 1)):
        room = length - special
        good = [x for x, (n, m) in zip(items, sizes) if n + m <= room or n + stride < room]
        t.enable_truncation(length, stride=stride, strategy="only_second")
        flags = ("--max_length", str(length), "--stride", str(stride), "--truncation",
                 "only_second")
        report.compare(f"{label} only_second {length}/{stride}", name, t, good, flags)
    t.no_truncation()


def compare_all(report, name, at, t, inputs, inside, strings):
    """One tokenizer: texts, code points alone and as inside() has them, random strings, windows."""
    questions, texts, points = inputs
    report.compare(f"{name} questions and contexts", at, t, texts)
    report.compare(f"{name} code points alone", at, t, points)
    report.compare(f"{name} code points inside", at, t, (inside(c) for c in points))
    report.compare(f"{name} random strings", at, t, strings)
    report.compare(f"{name} random strings, no special tokens", at, t, strings[::4],
                   ["--no_special_tokens"], special=False)
    half = len(strings) // 2
    truncations(report, at, t, name, random.Random(2).sample(questions, len(strings) // 10)
                + list(zip(strings[:half:8], strings[half::8])))


def compare_byte_level(report, where, every, inputs):
    vocab, merges = (os.path.join(SHARED, "data/english/roberta-base." + x)
                     for x in ("vocab.json", "merges.txt"))
    for prefix in (False, True):
        name = f"roberta-base, prefix {prefix}"
        at = byte_level_folder(where, f"roberta {prefix}", vocab, merges, prefix)
        t = byte_level(vocab, merges, prefix)
        strings = list(random_strings(20000 // every, 5, ROBERTA))
        compare_all(report, name, at, t, inputs, lambda c: f"a{c}e {c}1{c}{c} {c}", strings)
        for trim in (True, False):
            file = os.path.join(where, f"roberta {prefix} {trim}.json")
            t = byte_level(vocab, merges, prefix, trim)
            t.save(file)
            report.compare(f"{name} tokenizer.json, trim {trim}", file, t, strings[1::4])


def main():
    quick = sys.argv[1:] == ["--quick"]
    assert quick or not sys.argv[1:], "usage: compare_tokenizers.py [--quick]"
    try:
        import tokenizers
    except ImportError:
        print("SKIP: no package tokenizers (pip install tokenizers==0.23.3)")
        return 0
    if not os.path.isdir(SHARED):
        print(f"SKIP: no {SHARED}")
        return 0
    assert os.path.exists(TOK), "no build/tok: run ./build.sh all"
    print(f"tokenizers {tokenizers.__version__}")
    every = 20 if quick else 1
    questions = pairs()[::every]
    texts = list(dict.fromkeys(x for pair in questions for x in pair))
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF][::every]
    report = Report()
    with tempfile.TemporaryDirectory() as where:
        inputs = questions, texts, points
        compare_byte_level(report, where, every, inputs)
        for name, path, lower in VOCABULARIES:
            path = os.path.join(SHARED, path)
            at, t = folder(where, name, path, lower), reference(path, lower)
            strings = list(random_strings(20000 // every, 1))
            compare_all(report, name, at, t, inputs, lambda c: f"a{c}e{c}\u0301 \uac00{c}", strings)
            file = os.path.join(where, name + ".json")      # the same from tokenizer.json
            t.save(file)
            report.compare(f"{name} tokenizer.json", file, t, strings[1::4])
        path = os.path.join(SHARED, VOCABULARIES[1][1])
        settings = ((True, False, True), (False, True, True), (True, None, False))
        for lower, strip, chinese in settings:
            label = f"lower {lower}, strip {strip}, chinese {chinese}"
            at = folder(where, label, path, lower, strip, chinese)
            t = reference(path, lower, strip, chinese)
            report.compare(f"{label}: code points", at, t, (f"a{c}e{c}" for c in points))
            report.compare(f"{label}: random strings", at, t, random_strings(20000 // every, 3))
        strings = list(random_strings(20000 // every, 4))
        path = characters(where, strings)
        for lower, strip in ((True, None), (True, False), (False, True), (False, None)):
            label = f"characters as tokens, lower {lower}, strip {strip}"
            at, t = folder(where, label, path, lower, strip), reference(path, lower, strip)
            report.compare(label, at, t, strings)
    print(f"{report.texts} texts, {report.windows} windows, {report.differences} differences")
    return report.differences > 0


if __name__ == "__main__":
    sys.exit(main())
