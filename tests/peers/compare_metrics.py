#!/usr/bin/env python3
"""The metrics of KorQuAD v1, SQuAD v1 and v2 and KLUE-MRC, restated.

    compare_metrics.py --make                              writes tests/fixtures/metrics again
    compare_metrics.py EVALUATE DATA_FILE PREDICTIONS      holds build/evaluate against them, 1e-12
    compare_metrics.py --training BUILD MODEL ROWS N       holds what train measures against them to
                                                           the last digit, N times a metric, each
                                                           time on another number of the flat ROWS
"""
import collections
import difflib
import json
import os
import random
import re
import string
import subprocess
import sys
import tempfile

PUNCTUATION = set(string.punctuation)
HERE = os.path.dirname(os.path.abspath(__file__))


def bare(s):
    return "".join(c for c in s if c not in PUNCTUATION)


def squad_text(s):
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare(s.lower())).split())


def korquad_text(s):
    for c in "'\"《》<>〈〉()‘’":
        s = s.replace(c, " ")
    return " ".join(bare(s.lower()).split())


def klue_text(s):
    return " ".join(bare(re.sub(r"['\"《》<>〈〉]\(\)‘’", " ", s.lower())).split())


def overlap_f1(p, g):
    same = sum((collections.Counter(p) & collections.Counter(g)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(p), same / len(g)
    return 2 * precision * recall / (precision + recall)


def rouge_w(p, g):
    if g == "":
        return float(p == g)
    size = difflib.SequenceMatcher(None, p, g).find_longest_match(0, len(p), 0, len(g)).size
    precision, recall = size / len(p) if p else 0.0, size / len(g)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def questions(path):
    data = json.load(open(path, encoding="utf8"))["data"]
    return [q for a in data for p in a["paragraphs"] for q in p["qas"]]


def v1(rows, predictions, text, tokens):
    exact = f1 = 0
    for q in rows:
        if q["id"] not in predictions or not q["answers"]:
            continue
        p = text(predictions[q["id"]])
        golds = [text(a["text"]) for a in q["answers"]]
        exact += max(p == g for g in golds)
        f1 += max(overlap_f1(tokens(p), tokens(g)) for g in golds)
    return {"exact_match": 100.0 * exact / len(rows), "f1": 100.0 * f1 / len(rows)}


def squad_v2(rows, predictions, na=None, threshold=1.0):
    exact, f1, has = {}, {}, {q["id"]: bool(q["answers"]) for q in rows}
    for q in rows:
        if q["id"] not in predictions:
            continue
        p = squad_text(predictions[q["id"]])
        golds = [g for g in (squad_text(a["text"]) for a in q["answers"]) if g] or [""]
        exact[q["id"]] = max(int(p == g) for g in golds)
        f1[q["id"]] = max(overlap_f1(p.split(), g.split()) if p and g else float(p == g)
                          for g in golds)
    result = {}
    for prefix, ids in (("", list(exact)), ("HasAns_", [i for i in exact if has[i]]),
                        ("NoAns_", [i for i in exact if not has[i]])):
        if not ids:
            continue
        for name, scores in (("exact", exact), ("f1", f1)):
            result[prefix + name] = 100.0 * sum(
                float(not has[i]) if na and na[i] > threshold else scores[i]
                for i in ids) / len(ids)
        result[prefix + "total"] = len(ids)
    for name, scores in (("exact", exact), ("f1", f1)) if na else ():
        now = best = sum(not h for h in has.values())
        at = 0.0
        for i in sorted(na, key=lambda k: na[k]):
            if i in scores:
                now += scores[i] if has[i] else -1 if predictions[i] else 0
                if now > best:
                    best, at = now, na[i]
        result[f"best_{name}"] = 100.0 * best / len(scores)
        result[f"best_{name}_thresh"] = at
    return result


def klue(rows, predictions):
    of = collections.defaultdict(list)
    for q in rows:
        p = klue_text(predictions[q["id"]]) if q["id"] in predictions else None
        golds = [klue_text(a["text"]) for a in q["answers"]] or [""]
        of[q.get("question_type", 0)].append(
            (0.0, 0.0) if p is None else (max(float(p == g) for g in golds),
                                          max(rouge_w(p, g) for g in golds)))

    def means(scores):
        return {"exact_match": 100.0 * sum(s[0] for s in scores) / len(scores),
                "rouge_w": 100.0 * sum(s[1] for s in scores) / len(scores)}
    result = means([s for kind in of.values() for s in kind])
    for kind in (1, 2, 3):
        if of[kind]:
            result[f"question_type_{kind}"] = {**means(of[kind]), "total": len(of[kind])}
    return result


def results(data, predictions, na=None, threshold=0.5):
    rows, predictions = questions(data), json.load(open(predictions, encoding="utf8"))
    all_of = {"korquad": v1(rows, predictions, korquad_text, lambda s: "".join(s.split())),
              "squad": v1(rows, predictions, squad_text, str.split),
              "squad_v2": squad_v2(rows, predictions), "klue": klue(rows, predictions)}
    if na:
        all_of["squad_v2_na"] = squad_v2(rows, predictions, json.load(open(na)), threshold)
    return all_of


EDGES = ["", " ", "!", "?!.,", "the", "a", "An the a", "the cat", "The Cat!", "cat", "a-b", "ab",
         "서울", "《서울》", "<서울>", "(서울)", "〈서울〉", "‘서울’", "'서울'", "\"서울\"", "서울 특별시", "서울특별시",
         "《()‘’서울", "'()‘’", "x《()‘’y", "x y", "가a나", "ΟΔΟΣ", "οδος", "İstanbul", "1,000", "1000",
         "\u3000서울\u3000", "\u200b서울", "다. 다", "ａ", "the\u00a0cat", "_the_", "the_", "naïve", "n-th"]


def make(folder):
    rng = random.Random(7)
    # Long answers: difflib stops looking at frequent characters from 200 on.
    alphabet = "가나다라마바사아자차카타파하 abc"
    for n in (150, 199, 200, 201, 230, 400):
        for letters in (3, len(alphabet)):
            EDGES.append("".join(rng.choice(alphabet[:letters]) for _ in range(n)))
    EDGES.append("a" * 250)
    EDGES.append("a" * 120 + "b" * 3 + "a" * 120)
    rows, predictions = [], {}
    for k in range(400):
        golds = [rng.choice(EDGES) for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))]
        p = rng.choice(EDGES)
        if golds and k % 3 == 0:                        # a piece of an answer, perhaps changed
            g = rng.choice(golds)
            i = rng.randrange(len(g) + 1)
            p = g[i:i + rng.randrange(1, 260)] if k % 2 else g[:i] + "b" + g[i:]
        row = {"id": f"q{k}", "question": "?", "question_type": 1 + k % 3,
               "answers": [{"text": g, "answer_start": 0} for g in golds]}
        rows.append(row)
        if k % 29:
            predictions[f"q{k}"] = p
    paths = {name: os.path.join(folder, name + ".json")
             for name in ("data", "predictions", "null_odds")}
    data = {"version": "KorQuAD_v1.0_edges",
            "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": rows}]}]}
    odds = {i: rng.choice([0.0, 0.25, 0.5, 0.75, rng.random()]) for i in predictions}
    for name, value in (("data", data), ("predictions", predictions), ("null_odds", odds)):
        with open(paths[name], "w", encoding="utf8") as f:
            json.dump(value, f, ensure_ascii=False, indent=0)
            f.write("\n")
    for name, value in results(paths["data"], paths["predictions"], paths["null_odds"]).items():
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf8") as f:
            f.write(json.dumps(value) + "\n")


def flat(value, prefix=""):
    for key, x in value.items():
        if isinstance(x, dict):
            yield from flat(x, key + ".")
        else:
            yield prefix + key, x


def compare(program, data, predictions):
    failed = 0
    for name, expected in results(data, predictions).items():
        found = json.loads(subprocess.run([program, "--metric", name, data, predictions],
                                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                          check=True).stdout)
        pairs = list(zip(flat(expected), flat(found)))
        good = len(list(flat(found))) == len(pairs) == len(list(flat(expected))) and all(
            a[0] == b[0] and abs(a[1] - b[1]) <= 1e-12 for a, b in pairs)
        failed += not good
        print(f"{name}: {'the same' if good else 'differs'}: {found}")
    return failed > 0


def mixed(rows, rng, n, unanswerable):
    """n of the rows; every third asks about another one's passage, and has no answer."""
    rows = [dict(rng.choice(rows), id=f"q{i}") for i in range(n)]
    for i in range(0, n if unanswerable else 0, 3):
        other = rng.choice(rows)["context"]
        rows[i] = dict(rows[i], context=other, answers=[], is_impossible=True)
    return rows


def in_training(build, model, data, times):
    """Each time one step at a rate of 0, so that the model that is measured is the one saved."""
    rows = [json.loads(line) for line in open(data, encoding="utf8")]
    rng, wrong = random.Random(11), 0
    names = {"squad_v2": ("exact", "f1"), "klue": ("exact_match", "rouge_w")}
    for metric, score in (("korquad", lambda r, p: v1(r, p, korquad_text,
                                                      lambda s: "".join(s.split()))),
                          ("squad", lambda r, p: v1(r, p, squad_text, str.split)),
                          ("squad_v2", squad_v2), ("klue", klue)):
        negative = ["--version_2_with_negative"] if metric in names else []
        values = set()
        for i in range(times):
            with tempfile.TemporaryDirectory() as folder:
                sample = mixed(rows, rng, 1 + (i * 37) % 199, bool(negative))
                path = os.path.join(folder, "rows.jsonl")
                with open(path, "w", encoding="utf8") as f:
                    f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in sample)
                run, answers = os.path.join(folder, "run"), os.path.join(folder, "answers")
                quiet = {"stdout": subprocess.DEVNULL, "check": True, "stderr": subprocess.PIPE}
                subprocess.run([build + "/train", "--model_name_or_path", model, "--train_file",
                                path, "--validation_file", path, "--output_dir", run, "--metric",
                                metric, "--max_steps", "1", "--eval_steps", "1", "--save_steps",
                                "0", "--learning_rate", "0", "--max_seq_length", "64",
                                "--doc_stride", "16", "--threads", "1", *negative], **quiet)
                subprocess.run([build + "/predict", "--model_name_or_path", run, "--test_file",
                                path, "--output_dir", answers, "--threads", "1", *negative],
                               **quiet)
                found = next(event for line in open(os.path.join(run, "log.jsonl"))
                             for event in [json.loads(line)] if "eval/exact_match" in event)
                predictions = json.load(open(os.path.join(answers, "predictions.json"),
                                             encoding="utf8"))
            for row in sample:
                row["answers"] = row["answers"] or []
                if isinstance(row["answers"], dict):
                    row["answers"] = [{"text": t} for t in row["answers"]["text"]]
            expected = score(sample, predictions)
            pair = [expected[name] for name in names.get(metric, ("exact_match", "f1"))]
            if [found["eval/exact_match"], found["eval/f1"]] != pair:
                wrong += 1
                print(f"{metric}, {len(sample)} rows: {found}, expected {expected}")
            values.add(tuple(pair))
        print(f"{metric}: {times} evaluations, {len(values)} pairs of figures, "
              f"{wrong} differ so far", flush=True)
    return wrong > 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--training"]:
        sys.exit(in_training(*sys.argv[2:5], int(sys.argv[5])))
    if sys.argv[1:] == ["--make"]:
        make(os.path.join(HERE, "..", "fixtures", "metrics"))
    elif len(sys.argv) == 4:
        sys.exit(compare(*sys.argv[1:]))
    else:
        sys.exit(__doc__)
