"""Compares build/tok with the package `tokenizers` on random tokenizer.json: normalizers,
pre-tokenizers, added tokens, the models Unigram and BPE, templates.

    ./build.sh all
    pip install tokenizers==0.23.3 sentencepiece protobuf regex
    python tests/peers/compare_pipelines.py [texts per tokenizer, 300] [first seed, 0] [seeds, 220]

The tokenizers and texts are made by oracles/unigram_check.py of ../shared (or $MRC_SHARED).  Ids,
offsets and word numbers of each text, ids, offsets and types of each pair.  A tokenizer that the
library refuses by name (byte_fallback with bytes missing) is counted apart.  Exit 1 if anything
differs; without the package or the folder it says so and exits 0.
"""
import json
import os
import random
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHARED = os.environ.get("MRC_SHARED", os.path.join(ROOT, "..", "shared"))
TOK = os.environ.get("TOK", os.path.join(ROOT, "build", "tok"))


def ours(path, items, flags=()):
    lines = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in items)
    p = subprocess.run([TOK, "--tokenizer_name", path, "--jsonl", "--word_ids", *flags],
                       input=lines.encode(), capture_output=True)
    if p.returncode:
        return p.stderr.decode().strip()
    return [json.loads(line) for line in p.stdout.splitlines()]


def refused(message, j):
    """Whether the tokenizer has what the library is meant to refuse."""
    missing = any(f"<0x{b:02X}>" not in j["model"]["vocab"] for b in range(256))
    return "byte_fallback with" in message and j["model"].get("byte_fallback") and missing


def main():
    try:
        import tokenizers
        sys.path.insert(0, os.path.join(SHARED, "oracles"))
        import unigram_check
    except ImportError as e:
        print(f"SKIP: {e}")
        return 0
    texts, first, seeds = ([int(x) for x in sys.argv[1:]] + [300, 0, 220][len(sys.argv) - 1:])[:3]
    maps, counts, shown, refusals = unigram_check.charsmaps(), {}, 0, 0
    with tempfile.TemporaryDirectory() as where:
        path = os.path.join(where, "tokenizer.json")
        for seed in range(first, first + seeds):
            rng = random.Random(seed)
            j = unigram_check.random_tokenizer(rng, maps)
            with open(path, "w", encoding="utf-8") as f:
                json.dump(j, f)
            theirs = tokenizers.Tokenizer.from_str(json.dumps(j))
            kind = ("byte-level " if "ByteLevel" in json.dumps(j["pre_tokenizer"]) else "") \
                + j["model"]["type"]
            pairs = [(unigram_check.text_of(rng, 24), unigram_check.text_of(rng, 12))
                     for _ in range(texts)]
            one = ours(path, [a for a, _ in pairs], ["--no_special_tokens"])
            if isinstance(one, str):
                refusals += 1
                if not refused(one, j):
                    print(f"seed {seed}: refused: {one}")
                    counts.setdefault(kind, [0, 0, 0])[2] += 1
                continue
            two = ours(path, [{"text": a, "text_pair": b} for a, b in pairs])
            c = counts.setdefault(kind, [0, 0, 0])
            for (a, b), x, y in zip(pairs, one, two):
                r, s = theirs.encode(a, add_special_tokens=False), theirs.encode(a, b)
                mine = (x["input_ids"], [tuple(o) for o in x["offset_mapping"]], x["word_ids"])
                pair = (y["input_ids"], [tuple(o) for o in y["offset_mapping"]],
                        y["token_type_ids"])
                c[0] += 1
                c[1] += len(s.ids)
                if mine == (r.ids, r.offsets, r.word_ids) and pair == (s.ids, s.offsets, s.type_ids):
                    continue
                c[2] += 1
                if shown < 8:
                    shown += 1
                    print(f"seed {seed} {kind}: {a!r} | {b!r}\n  ours   {mine}\n"
                          f"  theirs {(r.ids, r.offsets, r.word_ids)}\n  pair {pair}\n"
                          f"       {(s.ids, s.offsets, s.type_ids)}")
    for kind, (n, tokens, wrong) in counts.items():
        print(f"{kind}: {n} pairs of texts, {tokens} tokens, {wrong} differences")
    total = [sum(c[i] for c in counts.values()) for i in range(3)]
    print(f"{seeds} tokenizers, {refusals} refused, {total[0]} pairs, {total[1]} tokens, "
          f"{total[2]} differences (tokenizers {tokenizers.__version__})")
    return total[2] > 0


if __name__ == "__main__":
    sys.exit(main())
