#!/usr/bin/env python3
"""Holds a search cluster, filled and asked by our programs, against the local index: for each analyzer the same
ranking for every question.

    tests/peers/es/es_node.sh DIR 19200 &           a real Elasticsearch 7.0 node (needs PyPI, a JDK)
    python3 tests/peers/compare_engine.py build elasticsearch http://127.0.0.1:19200 TRAIN.jsonl VALIDATION.jsonl
           TOKENIZER [--global_statistics]          the node above has no global statistics: leave it out there

The passages are the contexts of both files, each once; the questions are VALIDATION's."""
import json
import os
import subprocess
import sys
import tempfile

build, engine, url, train, validation, tokenizer = sys.argv[1:7]
statistics = "true" if "--global_statistics" in sys.argv else "false"


def run(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        sys.exit("%s: exit code %d: %s" % (" ".join(arguments), done.returncode, done.stderr))


def ranking(path):
    found = {}
    for line in open(path, encoding="utf-8"):
        query, _, passage, _, score, _ = line.split()
        found.setdefault(query, []).append((passage, float(score)))
    return found


def lines(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


with tempfile.TemporaryDirectory() as folder:
    passages, queries = folder + "/passages.jsonl", folder + "/queries.jsonl"
    contexts = list(dict.fromkeys(row["context"] for row in lines(train) + lines(validation)))
    with open(passages, "w", encoding="utf-8") as f:
        for i, text in enumerate(contexts):
            f.write(json.dumps({"id": "p%d" % i, "title": "", "text": text}) + "\n")
    asked = lines(validation)
    with open(queries, "w", encoding="utf-8") as f:
        for row in asked:
            f.write(json.dumps({"id": str(row["id"]), "question": row["question"]}) + "\n")
    cluster = ["--engine", engine, "--url", url]
    wrong = 0
    for analyzer, more in (("whitespace", []), ("char_bigram", []), ("korean", []),
                           ("wordpiece", ["--tokenizer_name", tokenizer])):
        name = "mrc_compare_" + analyzer
        made = ["--passages", passages, "--analyzer", analyzer, *more]
        run(os.path.join(build, "index"), *made, "--output", folder + "/" + analyzer)
        run(os.path.join(build, "index"), *made, *cluster, "--output", name, "--overwrite_output_dir")
        search = [os.path.join(build, "search"), "--queries", queries, "--top_k", "20"]
        run(*search, "--index", folder + "/" + analyzer, "--method", "elasticsearch", "--run", folder + "/ours")
        run(*search, *cluster, *more, "--index", name, "--global_statistics", statistics, "--run", folder + "/theirs")
        ours, theirs = ranking(folder + "/ours"), ranking(folder + "/theirs")
        same = sum([p for p, _ in ours.get(str(q["id"]), [])] == [p for p, _ in theirs.get(str(q["id"]), [])]
                   for q in asked)
        factors = [b[1] / a[1] for q in ours for a, b in zip(ours[q], theirs.get(q, [])) if a[1]]
        print("%s: %d passages, %d of %d rankings are the same, score / ours %.7f to %.7f"
              % (analyzer, len(contexts), same, len(asked), min(factors), max(factors)))
        wrong += same != len(asked)
    sys.exit(wrong != 0)
