#!/usr/bin/env python3
"""Answers from logits as Hugging Face's question answering example makes them, restated.

    compare_decode.py --make                        writes tests/fixtures/decode again
    compare_decode.py LOGITS DATA_FILE DIR [FLAGS]  holds the files in DIR, which predict wrote with
        [--version_2_with_negative] [--null_score_diff_threshold X] [--n_best_size N]
        [--max_answer_length N]                     these flags, against LOGITS, to the byte
        [--postprocess legacy --vocab FILE]         likewise; FILE is the reader's vocab.txt, cased

LOGITS is what predict --save_logits wrote.  Needs numpy and safetensors, --make transformers too.
"""
import argparse
import collections
import json
import math
import os
import sys
import unicodedata

import numpy as np


def postprocess(examples, features, n_best_size=20, max_answer_length=30, negative=False,
                threshold=0.0):
    """examples: [(id, context)]; features: [(example index, offsets or None by row, start, end,
    ids)]"""
    answers, n_best, odds = {}, {}, {}
    of = collections.defaultdict(list)
    for feature in features:
        of[feature[0]].append(feature)
    for index, (name, context) in enumerate(examples):
        null, found = None, []
        for _, offsets, start, end, _ in of[index]:
            score = start[0] + end[0]
            if null is None or null["score"] > score:
                null = {"at": (0, 0), "score": score, "start_logit": start[0], "end_logit": end[0]}
            starts = np.argsort(start)[-1:-n_best_size - 1:-1].tolist()
            ends = np.argsort(end)[-1:-n_best_size - 1:-1].tolist()
            for i in starts:
                for j in ends:
                    if offsets[i] is None or offsets[j] is None:
                        continue
                    if j < i or j - i + 1 > max_answer_length:
                        continue
                    found.append({"at": (offsets[i][0], offsets[j][1]), "score": start[i] + end[j],
                                  "start_logit": start[i], "end_logit": end[j]})
        if negative:
            found.append(null)
        best = sorted(found, key=lambda x: x["score"], reverse=True)[:n_best_size]
        if negative and not any(x["at"] == (0, 0) for x in best):
            best.append(null)
        for x in best:
            begin, finish = x.pop("at")
            x["text"] = context[begin:finish]
        if not best or (len(best) == 1 and best[0]["text"] == ""):
            best.insert(0, {"text": "empty", "start_logit": 0.0, "end_logit": 0.0, "score": 0.0})
        scores = np.array([x.pop("score") for x in best])
        e = np.exp(scores - np.max(scores))
        for x, p in zip(best, e / e.sum()):
            x["probability"] = p
        if negative:
            first = next(x for x in best if x["text"] != "")
            null_score = null["start_logit"] + null["end_logit"]
            diff = null_score - first["start_logit"] - first["end_logit"]
            odds[name] = float(diff)
            answers[name] = "" if diff > threshold else first["text"]
        else:
            answers[name] = best[0]["text"]
        n_best[name] = [{k: float(v) if isinstance(v, np.floating) else v for k, v in x.items()}
                        for x in best]
    files = {"predictions.json": answers, "nbest_predictions.json": n_best}
    if negative:
        files["null_odds.json"] = odds
    return {name: json.dumps(value, indent=4) + "\n" for name, value in files.items()}


def pipeline(examples, windows, top_k, max_answer_length, negative):
    """windows: [(example index, offsets or None, word ids, start, end)]: the pipeline's answers, as
    transformers 4.57.6 gives them."""
    result = {}
    for index, (name, context) in enumerate(examples):
        found, least = [], 1000000
        for example, offsets, words, start, end in windows:
            if example != index:
                continue
            n = len(words)
            desired = np.array([i == 0 or o is not None for i, o in enumerate(offsets)])
            p = []
            for logits in (start, end):
                x = np.where(desired, logits, np.float32(-10000))
                x = np.exp(x - x.max())
                p.append(x / x.sum())
            least = min(least, float(p[0][0] * p[1][0]))
            p[0][0] = p[1][0] = 0
            outer = np.tril(np.triu(np.outer(p[0], p[1])), max_answer_length - 1).flatten()
            order = np.argsort(-outer, kind="stable")[:2 * top_k + 10]
            for i, j in zip(*np.unravel_index(order, (n, n))):
                if not p[0][i] * p[1][j] > 0 or j < i or not (desired[i] and desired[j]):
                    continue
                a = min(offsets[k][0] for k in range(n) if offsets[k] and words[k] == words[i])
                b = max(offsets[k][1] for k in range(n) if offsets[k] and words[k] == words[j])
                text, score = context[a:b], float(p[0][i] * p[1][j])
                same = [x for x in found if x["answer"].lower() == text.lower()]
                if same:
                    same[0]["score"] += score
                else:
                    found.append({"score": score, "start": a, "end": b, "answer": text})
        if negative:
            found.append({"score": least, "start": 0, "end": 0, "answer": ""})
        result[name] = sorted(found, key=lambda x: x["score"], reverse=True)[:top_k]
    first = {name: x[0]["answer"] if x else "" for name, x in result.items()}
    return {"predictions.json": json.dumps(first, indent=4) + "\n",
            "nbest_predictions.json": json.dumps(result, indent=4) + "\n"}


def basic_tokens(text):
    """BERT's BasicTokenizer without lower case."""
    out = ""
    for c in text:
        kind, cp = unicodedata.category(c), ord(c)
        if c in " \t\n\r" or kind == "Zs":
            out += " "
        elif cp in (0, 0xFFFD) or kind.startswith("C"):
            continue
        elif (0x4E00 <= cp <= 0x9FFF or 0x3400 <= cp <= 0x4DBF or 0xF900 <= cp <= 0xFAFF
              or 0x20000 <= cp <= 0x2FA1F or kind.startswith("P")
              or 33 <= cp <= 47 or 58 <= cp <= 64 or 91 <= cp <= 96 or 123 <= cp <= 126):
            out += f" {c} "
        else:
            out += c
    return out.split()


def final_text(pieces, words):
    """get_final_text: where the tokens' text stands in the words."""
    basic = " ".join(basic_tokens(words))
    at = basic.find(pieces)
    places = [i for i, c in enumerate(words) if c != " "]
    numbers = {k: i for i, k in enumerate(k for k, c in enumerate(basic) if c != " ")}
    if at < 0 or len(places) != len(numbers):
        return words
    return words[places[numbers[at]]:places[numbers[at + len(pieces) - 1]] + 1]


def most_context(windows):
    """By window the rows whose token it shows most around."""
    best = {}
    for w, (_, offsets, *_) in enumerate(windows):
        rows = [i for i, o in enumerate(offsets) if o is not None]
        for k, i in enumerate(rows):
            score = min(k, len(rows) - 1 - k) + 0.01 * len(rows)
            if offsets[i] not in best or score > best[offsets[i]][0]:
                best[offsets[i]] = (score, w, i)
    rows = collections.defaultdict(set)
    for _, w, i in best.values():
        rows[w].add(i)
    return rows


def legacy_spans(windows, n_best_size, max_answer_length, negative):
    """[(start logit, end logit, window or None, row, row)], best first, and the null's two."""
    context, found, null, least = most_context(windows), [], (0, 0), 1000000
    for w, (_, offsets, start, end, _) in enumerate(windows):
        start, end = start[:len(offsets)].tolist(), end[:len(offsets)].tolist()
        tops = [[i for i, _ in sorted(enumerate(x), key=lambda p: p[1], reverse=True)][:n_best_size]
                for x in (start, end)]
        if start[0] + end[0] < least:
            least, null = start[0] + end[0], (start[0], end[0])
        found += [(start[i], end[j], w, i, j) for i in tops[0] for j in tops[1]
                  if i in context[w] and offsets[j] is not None
                  and i <= j < i + max_answer_length]
    if negative:
        found.append((*null, None, 0, 0))
    return sorted(found, key=lambda x: x[0] + x[1], reverse=True), null


def legacy(examples, features, vocab, n_best_size=20, max_answer_length=30, negative=False,
           threshold=0.0):
    """features: as postprocess's, and the ids.  What compute_predictions_logits writes."""
    answers, n_best, odds = {}, {}, {}
    spaces = str.maketrans({c: " " for c in "\t\r\n\u202f"})
    of = collections.defaultdict(list)
    for feature in features:
        of[feature[0]].append(feature)
    for index, (name, context) in enumerate(examples):
        spans, null = legacy_spans(of[index], n_best_size, max_answer_length, negative)
        plain, best = context.translate(spaces), {}
        for start, end, w, i, j in spans:
            if len(best) >= n_best_size:
                break
            if w is None:
                best[""] = null
                continue
            offsets, ids = of[index][w][1], of[index][w][4]
            pieces = " ".join(vocab[k] for k in ids[i:j + 1]).replace(" ##", "").strip()
            a = plain.rfind(" ", 0, offsets[i][0]) + 1
            b = (plain + " ").find(" ", offsets[j][1])
            words = " ".join(x for x in plain[a:b].split(" ") if x)
            best.setdefault(final_text(pieces, words), (start, end))
        if negative:
            best.setdefault("", null)
        if not best or (negative and len(best) == 1):
            best = {"empty": (0.0, 0.0), **best}
        top = max(a + b for a, b in best.values())
        e = [math.exp(a + b - top) for a, b in best.values()]
        total = 0.0
        for x in e:
            total += x
        n_best[name] = [{"text": t, "probability": x / total, "start_logit": a, "end_logit": b}
                        for (t, (a, b)), x in zip(best.items(), e)]
        text, (a, b) = next((t, ab) for t, ab in best.items() if t)
        answers[name] = next(iter(best)) if not negative else text
        if negative:
            odds[name] = null[0] + null[1] - a - b
            answers[name] = "" if odds[name] > threshold else text
    files = {"predictions.json": answers, "nbest_predictions.json": n_best}
    if negative:
        files["null_odds.json"] = odds
    return {name: json.dumps(value, indent=4) + "\n" for name, value in files.items()}


def load_examples(path):
    text = open(path, encoding="utf8").read()
    try:
        data = json.loads(text)["data"]
        return [(q["id"], p["context"], q["question"])
                for a in data for p in a["paragraphs"] for q in p["qas"]]
    except (ValueError, KeyError):
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        return [(r["id"], r["context"], r["question"]) for r in rows]


def load_features(path):
    from safetensors.numpy import load_file
    t = load_file(path)
    return [(int(t["example_index"].reshape(-1)[w]),
             [None if o[0] < 0 else (int(o[0]), int(o[1])) for o in t["offset_mapping"][w]],
             t["start_logits"][w], t["end_logits"][w], t["input_ids"][w].tolist())
            for w in range(len(t["start_logits"]))]


def load_vocab(path):
    return open(path, encoding="utf8").read().split("\n")


def compare(args):
    examples = [(name, context) for name, context, _ in load_examples(args.data)]
    rest = (args.n_best_size, args.max_answer_length, args.version_2_with_negative,
            args.null_score_diff_threshold)
    if args.postprocess == "legacy":
        expected = legacy(examples, load_features(args.logits), load_vocab(args.vocab), *rest)
    else:
        expected = postprocess(examples, load_features(args.logits), *rest)
    failed = 0
    for name, text in expected.items():
        same = open(os.path.join(args.dir, name), encoding="utf8").read() == text
        failed += not same
        print(f"{name}: {'the same bytes' if same else 'differs'} ({len(text)} bytes)")
    print(f"{len(expected) - failed} passed, {failed} failed")
    return failed > 0


PASSAGES = [
    ("A \"quiet\" river runs past the old mill; the miller's cat sleeps there.", [
        ("plain", "where does the cat sleep?"), ("null", "who built the bridge?")]),
    ("나래마을은 \\ 강가에 있다.\n그 마을에는 두 우물이 있고, 𝕏 표가 서 있다. the old mill turns. "
     "cat river cat river mill quiet cat river old mill cat quiet river cat sleeps. "
     "the miller sleeps; the cat runs past the river. 마을 강가 우물 마을.", [
         ("windows", "우물은 어디에 있는가?"), ("close", "who runs?")]),
    ("cat", [("short", "cat?"), ("only null", "river?")]),
    ("", [("nothing", "the mill?")]),
]
WORDS = ("[CLS] [PAD] [SEP] [UNK] [MASK] the old mill miller river runs past quiet cat sleeps a "
         "there 나래 ##마을 ##은 강가 ##에 있다 마을 우물 ##이 그 두 ? . , ; \" ' s where does who "
         "built bridge sleep is turns x ##x").split()


def make(folder):
    from safetensors.numpy import save_file
    from transformers import BertTokenizerFast
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf8") as f:
        f.write("".join(w + "\n" for w in WORDS))
    data = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [
        {"context": c, "qas": [{"id": i, "question": q, "answers": [], "is_impossible": True}
                               for i, q in qas]} for c, qas in PASSAGES]}]}
    path = os.path.join(folder, "questions.json")
    with open(path, "w", encoding="utf8") as f:
        json.dump(data, f, ensure_ascii=False, indent=1)
        f.write("\n")
    tok = BertTokenizerFast(os.path.join(folder, "vocab.txt"), do_lower_case=False)
    examples, windows = load_examples(path), []
    for index, (_, context, question) in enumerate(examples):
        e = tok(question.lstrip(), context, truncation="only_second", max_length=32, stride=8,
                return_overflowing_tokens=True, return_offsets_mapping=True)
        for w in range(len(e["input_ids"])):
            windows.append((index, e["input_ids"][w], [
                tuple(o) if s == 1 else (-1, -1)
                for o, s in zip(e["offset_mapping"][w], e.sequence_ids(w))], e.word_ids(w)))
    width, rng = max(len(w[1]) for w in windows), np.random.default_rng(5)
    n = len(windows)
    t = {"input_ids": np.ones((n, width), np.int64),
         "attention_mask": np.zeros((n, width), np.int64),
         "offset_mapping": np.full((n, width, 2), -1, np.int64),
         "example_index": np.array([w[0] for w in windows], np.int64),
         "start_logits": np.full((n, width), -np.inf, np.float32),
         "end_logits": np.full((n, width), -np.inf, np.float32)}
    for k, (index, ids, offsets, _) in enumerate(windows):
        m = len(ids)
        t["input_ids"][k, :m] = ids
        t["attention_mask"][k, :m] = 1
        t["offset_mapping"][k, :m] = offsets
        for name in ("start_logits", "end_logits"):
            t[name][k, :m] = (rng.normal(size=m) * 3).astype(np.float32)
            if examples[index][0] in ("null", "only null"):
                t[name][k, 0] += 9
            if examples[index][0] == "plain":           # null is not among the best: it comes last
                t[name][k, 0] -= 20
    save_file(t, os.path.join(folder, "logits.safetensors"), metadata={"format": "pt"})
    features = load_features(os.path.join(folder, "logits.safetensors"))
    for sub, negative, threshold in (("v1", False, 0.0), ("v2", True, 0.0), ("v2_7", True, 7.5)):
        os.makedirs(os.path.join(folder, sub), exist_ok=True)
        files = postprocess([x[:2] for x in examples], features, 20, 30, negative, threshold)
        for name, text in files.items():
            if sub == "v2_7" and name != "predictions.json":
                continue
            with open(os.path.join(folder, sub, name), "w", encoding="utf8") as f:
                f.write(text)
    for sub, negative in (("legacy", False), ("legacy_v2", True)):
        os.makedirs(os.path.join(folder, sub), exist_ok=True)
        own = [(f[0], f[1][:len(w[3])], *f[2:]) for w, f in zip(windows, features)]
        files = legacy([x[:2] for x in examples], own, WORDS, 20, 30, negative)
        for name, text in files.items():
            with open(os.path.join(folder, sub, name), "w", encoding="utf8") as f:
                f.write(text)
    rows = [(w[0], f[1][:len(w[3])], w[3], f[2][:len(w[3])], f[3][:len(w[3])])
            for w, f in zip(windows, features)]
    for sub, negative in (("pipeline", False), ("pipeline_v2", True)):
        os.makedirs(os.path.join(folder, sub), exist_ok=True)
        files = pipeline([x[:2] for x in examples], rows, 5, 15, negative)
        for name, text in files.items():
            with open(os.path.join(folder, sub, name), "w", encoding="utf8") as f:
                f.write(text)


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--make", action="store_true")
    p.add_argument("logits", nargs="?")
    p.add_argument("data", nargs="?")
    p.add_argument("dir", nargs="?")
    p.add_argument("--version_2_with_negative", action="store_true")
    p.add_argument("--null_score_diff_threshold", type=float, default=0.0)
    p.add_argument("--postprocess", choices=("squad", "legacy"), default="squad")
    p.add_argument("--vocab")
    p.add_argument("--n_best_size", type=int, default=20)
    p.add_argument("--max_answer_length", type=int, default=30)
    args = p.parse_args()
    if args.make:
        return make(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixtures", "decode"))
    if not args.dir:
        p.error("LOGITS, DATA_FILE and DIR are missing")
    return compare(args)


if __name__ == "__main__":
    sys.exit(main())
