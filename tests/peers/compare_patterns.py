"""Compares build/tok with the package `tokenizers` on the regular expressions of tokenizer.json.

    ./build.sh all
    pip install tokenizers==0.23.3
    python tests/peers/compare_patterns.py [--texts N] [--random N] [--seed N]

The patterns that published byte-level BPE tokenizers split by (GPT-2, cl100k and Llama 3, Qwen 2,
o200k, Tekken, DeepSeek, CLIP, BLOOM, ..), in each of the five behaviors, and random patterns of what
the library accepts.  Texts: questions and passages of ../shared (or $MRC_SHARED), Korean and English,
and random strings over all planes.  Ids, offsets and words of each text must be the same; a
published pattern must not be refused.  Last line: N passed, N failed, with one a pattern.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

from compare_tokenizers import SHARED, pairs, random_strings

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOK = os.environ.get("TOK", os.path.join(ROOT, "build", "tok"))
ENDS = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASES = [rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"]
PUBLISHED = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + ENDS,
    "qwen2": SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + ENDS,
    "qwen3.5": SHORT + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    + ENDS,
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    + ENDS,
    "o200k": "|".join(x + SHORT + "?" for x in CASES)
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + ENDS,
    "tekken": "|".join(CASES) + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + ENDS,
    "deepseek v3": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?"
    r"[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + ENDS,
    "deepseek numbers": r"\p{N}{1,3}",
    "deepseek scripts": "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "deepseek newlines": "[\r\n]", "deepseek letters": r"\s?\p{L}+",
    "deepseek signs": r"\s?\p{P}+", "clip": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|"
    r"[^\s\p{L}\p{N}]+", "bloom": " ?[^(\\s|[.,!?…。，、।۔،])]+",
    "falcon": "[0-9][0-9][0-9]", "spaces": r"\s+", "blanks": " {2,}",
    "layout": r"\s{2,}|[\n\r\t]", "words": r"\w+|[^\w\s]+", "digits": r"\d{1,3}(?=(\d{3})*\b)",
}
REFUSED = {"digits"}                # \b, and looking ahead at more than a character
BEHAVIORS = ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def tokenizer(pattern, behavior, invert):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    t = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior.lower() if behavior[0:6] != "Merged" else
                             {"MergedWithPrevious": "merged_with_previous",
                              "MergedWithNext": "merged_with_next"}[behavior], invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t


def ours(path, items):
    lines = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in items)
    p = subprocess.run([TOK, "--tokenizer_name", path, "--jsonl", "--word_ids",
                        "--no_special_tokens"], input=lines.encode(), capture_output=True)
    if p.returncode:
        return p.stderr.decode().strip()
    return [json.loads(line) for line in p.stdout.splitlines()]


def differences(where, pattern, behavior, invert, texts):
    """How many texts differ, or why the library refuses the pattern; None: the package does."""
    path = os.path.join(where, "tokenizer.json")
    try:
        t = tokenizer(pattern, behavior, invert)
    except Exception:               # noqa: the package's own kind of error
        return None
    t.save(path)
    found = ours(path, texts)
    if isinstance(found, str):
        return found
    wrong = 0
    for text, x in zip(texts, found):
        try:
            r = t.encode(text, add_special_tokens=False)
        except BaseException as e:  # the package's engine gives up when it has backtracked enough
            if "PanicException" not in type(e).__name__:
                raise
            continue
        mine = (x["input_ids"], [tuple(o) for o in x["offset_mapping"]], x["word_ids"])
        if mine != (r.ids, r.offsets, r.word_ids):
            wrong += 1
            if wrong == 1:
                print(f"  {pattern!r} {behavior} invert {invert}: {text!r}\n  ours   {mine[1:]}\n"
                      f"  theirs {(r.offsets, r.word_ids)}"[:1500])
    return wrong


def random_pattern(rng, depth=0):
    sets = [r"\p{L}", r"\p{Lu}", r"\p{N}", r"\p{M}", r"\p{P}", r"\p{S}", r"\s", r"\S", r"\w", r"\W",
            r"\d", r"\P{L}", "a", "'", " ", ".", r"\.", "[a-z]", r"[^\s\p{L}]", "[가-힣]",
            r"[\r\n]", r"[^\p{Ll}a-f]", r"[\p{Lo}\-_]", "é", r"[[.,!]\d]"]
    def item():
        if depth < 2 and rng.random() < 0.2:
            # Not repeated without a bound: the package would backtrack for ever.
            return f"({rng.choice(['', '?:'])}{random_pattern(rng, depth + 1)})" \
                + rng.choice(["", "", "?", "??", "{2}", "{1,3}"])
        elif rng.random() < 0.08:
            return f"(?i:{rng.choice(['s', 'k', 're', '[a-c]', 'll'])})"
        else:
            part = rng.choice(sets)
        return part + rng.choice(["", "", "", "?", "*", "+", "+", "{1,3}", "{2}", "{2,}", "{,2}", "+?",
                                  "*?", "??"])
    def sequence():
        text = "".join(item() for _ in range(rng.choice((1, 1, 2, 2, 3, 4))))
        return text + rng.choice([""] * 6 + [r"(?!\S)", r"(?=\s)", "(?!a)"])
    return "|".join(sequence() for _ in range(rng.choice((1, 1, 2, 3)) if depth == 0 else 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=2000, help="of each kind")
    parser.add_argument("--random", type=int, default=300, help="random patterns")
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    os.environ["RUST_BACKTRACE"] = "0"
    try:
        import tokenizers
    except ImportError as e:
        print(f"SKIP: {e}: tokenizers is needed")
        return 0
    if not os.path.isdir(SHARED):
        print(f"SKIP: no {SHARED}")
        return 0
    rng = random.Random(a.seed)
    real = list(dict.fromkeys(x for pair in pairs() for x in pair))
    rng.shuffle(real)
    marks = ["I'LL go, WE'VE 1234567\r\n\n  we\u017f'\u017f", "HTTPServer/api//\n/x McDonald'S\u0301",
             "한국어 12,345원  \t\n끝", "\u0301\u0302 \u0301a", "  ", " ", "a  b   c \n", "ǅungla ʰx"]
    strings = marks + list(random_strings(a.texts, a.seed))
    passed = failed = 0

    def report(name, result, good):
        nonlocal passed, failed
        passed, failed = passed + good, failed + (not good)
        print(f"{'ok' if good else 'BAD'}  {name}: {result}", flush=True)

    with tempfile.TemporaryDirectory() as where:
        for name, pattern in PUBLISHED.items():
            for behavior in BEHAVIORS:
                texts = strings + real[:a.texts] if behavior == "Isolated" else strings[:500]
                found = [differences(where, pattern, behavior, invert, texts)
                         for invert in (False, True)]
                good = all(isinstance(x, str) and "not supported: " in x for x in found) \
                    if name in REFUSED else found == [0, 0]
                report(f"{name} {behavior}, {len(texts)} texts", found, good)
        refused = differ = none = 0
        for _ in range(a.random):
            pattern = random_pattern(rng)
            found = differences(where, pattern, rng.choice(BEHAVIORS), rng.random() < 0.2,
                                strings[:150])
            refused += isinstance(found, str)
            none += found is None
            differ += isinstance(found, int) and found > 0
            if isinstance(found, str) and "the empty text" not in found:
                print(f"  {pattern!r}: {found}")
        report(f"{a.random} random patterns ({refused} refused, {none} by the package)", differ,
               differ == 0)
    print(f"{passed} passed, {failed} failed (tokenizers {tokenizers.__version__})")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
