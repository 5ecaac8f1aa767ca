"""Compares build/tok's normalizers with the package `tokenizers`, character by character.

    ./build.sh all
    pip install tokenizers==0.23.3 sentencepiece protobuf regex
    python tests/peers/compare_normalizers.py [--quick]

The model is BPE whose only tokens are the 256 bytes, so that ids are the bytes of the normalized
text and offsets its places.  Each of SentencePiece's four charsmaps, the four Unicode forms,
StripAccents, Lowercase: every code point alone, strings around each key of one character, random
strings.  --quick takes every 50th.  Exit 1 if anything differs; without the packages, or without
../shared (or $MRC_SHARED), whose oracles/unigram_check.py makes the charsmaps, it says so.
"""
import json
import os
import random
import sys
import tempfile
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from compare_pipelines import SHARED, ours      # noqa: E402

CHUNK = 40000


def tokenizer(normalizer):
    vocab = {f"<0x{b:02X}>": b for b in range(256)}
    vocab["<unk>"] = 256
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
            "normalizer": normalizer, "pre_tokenizer": None, "post_processor": None,
            "decoder": None, "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
                                       "continuing_subword_prefix": None,
                                       "end_of_word_suffix": None, "fuse_unk": False,
                                       "byte_fallback": True, "ignore_merges": False,
                                       "vocab": vocab, "merges": []}}


def around(keys, rng):
    """Strings that put each key beside marks, controls, itself and other keys."""
    others = "\u0301\u0323\u200d\u1100\u1161\u11a8\u3099a \r\n\x10\u0601\U0001f3fd\u0e33"
    for k in keys:
        for o in others:
            yield k + o
            yield o + k
        yield "a" + k + "b" + rng.choice(keys) + k


def random_strings(n, rng):
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    marks = [c for c in points if unicodedata.combining(c)]
    odd = [c for c in points if unicodedata.normalize("NFKC", c) != c or unicodedata.decomposition(c)]
    jamo = [chr(c) for c in [*range(0x1100, 0x1200), *range(0xAC00, 0xAC40)]]
    pools = [points[:0x3000], points, marks, odd, jamo, list("abc \t\n\r\x10\u200d")]
    for _ in range(n):
        weights = [rng.random() ** 3 for _ in pools]
        yield "".join(rng.choice(rng.choices(pools, weights)[0]) for _ in range(rng.randrange(1, 12)))


def main():
    quick = 50 if sys.argv[1:] == ["--quick"] else 1
    try:
        import tokenizers
        sys.path.insert(0, os.path.join(SHARED, "oracles"))
        import base64
        import unigram_check
    except ImportError as e:
        print(f"SKIP: {e}")
        return 0
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    steps, rng, total, wrong = [], random.Random(7), 0, 0
    for name, text in unigram_check.charsmaps().items():
        find = unigram_check.Charsmap(base64.b64decode(text)).find
        keys = [c for c in points if find(c) is not None]
        steps.append((name, {"type": "Precompiled", "precompiled_charsmap": text}, keys))
    for name in ("NFD", "NFC", "NFKD", "NFKC", "StripAccents", "Lowercase"):
        keys = [c for c in points if unicodedata.normalize("NFKD", c) != c and not "\uac00" <= c < "\ud7a4"]
        steps.append((name, {"type": name}, keys))
    with tempfile.TemporaryDirectory() as where:
        path = os.path.join(where, "tokenizer.json")
        for name, step, keys in steps:
            j = tokenizer(step)
            with open(path, "w", encoding="utf-8") as f:
                json.dump(j, f)
            t = tokenizers.Tokenizer.from_str(json.dumps(j))
            texts = points[::quick] + list(around(keys[::quick], rng)) \
                + list(random_strings(20000 // quick, rng))
            shown = 0
            for at in range(0, len(texts), CHUNK):
                part = texts[at:at + CHUNK]
                for text, x, y in zip(part, ours(path, part), t.encode_batch(part)):
                    if x["input_ids"] == y.ids \
                            and [tuple(o) for o in x["offset_mapping"]] == y.offsets:
                        continue
                    shown += 1
                    if shown < 4:
                        print(f"  {name}: {text!r}: ours {bytes(x['input_ids'])} "
                              f"{x['offset_mapping']}, theirs {bytes(y.ids)} {y.offsets}")
            print(f"{name}: {len(texts)} texts, {shown} differences", flush=True)
            total, wrong = total + len(texts), wrong + shown
    print(f"{total} texts, {wrong} differences (tokenizers {tokenizers.__version__})")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
