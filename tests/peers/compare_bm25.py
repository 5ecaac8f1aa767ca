#!/usr/bin/env python3
"""build/index and build/search against rank_bm25, bm25s and real Lucene.

    compare_bm25.py PASSAGES.jsonl QUERIES.jsonl [--lucene LUCENE.SH] [--speed] [--threads N]

PASSAGES: {"id", "text"} a line; QUERIES: {"id", "question"}.  Terms are white space's.  A peer that
is not installed is skipped aloud.  LUCENE.SH PASSAGES QUERIES.tsv OUT.run ANALYZER is to run
Lucene's BM25 with k1 1.2 and b 0.75, on white space's terms and on those of its English analyzer.
The last line is the count.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "..", "build")
COUNT = {"passed": 0, "failed": 0, "skipped": 0}


def note(good, text):
    COUNT["passed" if good else "failed"] += 1
    print(("ok: " if good else "FAIL ") + text, flush=True)


def skip(text):
    COUNT["skipped"] += 1
    print("SKIP: " + text, flush=True)


def read_run(path):
    run = {}
    for line in open(path, encoding="utf8"):
        q, _, passage, rank, score, _ = line.split()
        run.setdefault(q, []).append((passage, float(score)))
        assert int(rank) == len(run[q])
    return run


def search(args, index, method, *flags):
    out = os.path.join(args.work, method + ".run")
    subprocess.run([os.path.join(BUILD, "search"), "--index", index, "--queries", args.queries,
                    "--method", method, "--run", out, *flags], check=True,
                   stderr=subprocess.DEVNULL)
    return read_run(out)


def hold(name, run, expected, bound, relative):
    """expected: by query a list of scores by passage id, a dict.  Order: each rank's score."""
    worst = 0.0
    order = True
    for q, scores in expected.items():
        hits = run.get(q, [])
        best = sorted((s for s in scores.values()), reverse=True)[:len(hits)]
        for (passage, score), other in zip(hits, best):
            scale = abs(score) if relative else 1
            worst = max(worst, abs(score - scores[passage]) / (scale or 1))
            order = order and abs(other - scores[passage]) <= bound * (scale or 1)
    note(worst <= bound and order, f"{name}: {'relative ' if relative else ''}error {worst:.2e} "
         f"(bound {bound}), {'same' if order else 'another'} order but for ties")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("passages")
    p.add_argument("queries")
    p.add_argument("--lucene")
    p.add_argument("--speed", action="store_true")
    p.add_argument("--threads", default="2")
    args = p.parse_args()
    passages = [json.loads(line) for line in open(args.passages, encoding="utf8")]
    queries = [json.loads(line) for line in open(args.queries, encoding="utf8")]
    ids = [x["id"] for x in passages]
    with tempfile.TemporaryDirectory() as args.work:
        index = os.path.join(args.work, "index")
        subprocess.run([os.path.join(BUILD, "index"), "--passages", args.passages, "--analyzer",
                        "whitespace", "--output", index], check=True, stderr=subprocess.DEVNULL)
        words = [x["text"].split() for x in passages]
        asked = [x["question"].split() for x in queries]
        compare_rank_bm25(args, index, ids, words, queries, asked)
        compare_bm25s(args, index, ids, words, queries, asked)
        compare_lucene(args, index, queries, "whitespace")
        english = os.path.join(args.work, "english")
        subprocess.run([os.path.join(BUILD, "index"), "--passages", args.passages, "--analyzer",
                        "english", "--output", english], check=True, stderr=subprocess.DEVNULL)
        compare_lucene(args, english, queries, "english")
        if args.speed:
            compare_speed(args, index, words, asked)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**COUNT))
    return COUNT["failed"] > 0


def compare_rank_bm25(args, index, ids, words, queries, asked):
    try:
        import rank_bm25
    except ImportError:
        skip("rank_bm25 is not installed (pip install rank_bm25)")
        return
    for method, kind in (("okapi", rank_bm25.BM25Okapi), ("l_rank_bm25", rank_bm25.BM25L),
                         ("plus", rank_bm25.BM25Plus)):
        peer = kind(words)
        expected = {x["id"]: dict(zip(ids, peer.get_scores(a).tolist()))
                    for x, a in zip(queries, asked)}
        hold("rank_bm25 " + method, search(args, index, method), expected, 1e-9, False)


def compare_bm25s(args, index, ids, words, queries, asked):
    try:
        import bm25s
    except ImportError:
        skip("bm25s is not installed (pip install bm25s)")
        return
    for method, name in (("lucene", "lucene"), ("robertson", "robertson"), ("atire", "atire"),
                         ("bm25s_l", "bm25l"), ("bm25s_plus", "bm25+")):
        peer = bm25s.BM25(method=name, k1=1.5, b=0.75, delta=0.5)
        peer.index(words, show_progress=False)
        expected = {}
        for x, a in zip(queries, asked):
            known = [w for w in a if w in peer.vocab_dict]
            scores = peer.get_scores(known) if known else [0.0] * len(ids)
            expected[x["id"]] = dict(zip(ids, (float(s) for s in scores)))
        hold("bm25s " + name, search(args, index, method), expected, 1e-6, True)


def compare_lucene(args, index, queries, analyzer):
    if not args.lucene:
        skip("no --lucene")
        return
    number = {str(i): x["id"] for i, x in enumerate(queries)}
    tsv, out = os.path.join(args.work, "q.tsv"), os.path.join(args.work, "lucene.run")
    with open(tsv, "w", encoding="utf8") as f:
        for i, x in enumerate(queries):
            f.write(f"{i}\t{x['question']}\n")
    subprocess.run([args.lucene, args.passages, tsv, out, analyzer], check=True)
    theirs, ours = read_run(out), search(args, index, "elasticsearch")
    worst, order, n = 0.0, True, 0
    for q, hits in theirs.items():
        own = dict(ours[number[q]])
        for (passage, score), (_, at_rank) in zip(hits, ours[number[q]]):
            n += 1
            order = order and abs(score - at_rank) <= 1e-4
            if passage in own:
                worst = max(worst, abs(own[passage] - score))
    note(worst <= 1e-4 and order and n > 0, f"Lucene {analyzer}: {n} hits, error {worst:.2e} (bound 1e-4), "
         f"{'same' if order else 'another'} order but for ties")


def compare_speed(args, index, words, asked):
    """Queries as words; the best of five, peers warm."""
    try:
        import bm25s
        import numba                                                # noqa: F401
    except ImportError:
        skip("bm25s or numba is not installed")
        return
    threads = int(args.threads)
    begun = time.perf_counter()
    peer = bm25s.BM25(backend="numba")
    peer.index(words, show_progress=False)
    built = time.perf_counter() - begun
    peer.activate_numba_scorer()
    many = asked * 40
    rates = []
    for _ in range(6):
        begun = time.perf_counter()
        peer.retrieve(many, k=20, show_progress=False, n_threads=threads, backend_selection="numba")
        rates.append(len(many) / (time.perf_counter() - begun))
    out = subprocess.run([os.path.join(BUILD, "search"), "--index", index, "--queries",
                          args.queries, "--threads", args.threads, "--repeat", "200", "--run",
                          os.path.join(args.work, "speed.run")], check=True,
                         stderr=subprocess.PIPE, encoding="utf8").stderr
    ours = float(out.strip().splitlines()[-1].split(", ")[-1].split()[0])
    first = float(out.strip().splitlines()[0].split(", ")[-1].split()[0])
    print(f"queries/s: ours {ours:.0f} (first call {first:.0f}), bm25s numba {max(rates):.0f}: "
          f"{ours / max(rates):.2f} times")
    out = subprocess.run([os.path.join(BUILD, "index"), "--passages", args.passages, "--analyzer",
                          "whitespace", "--output", index, "--threads", args.threads], check=True,
                         stderr=subprocess.PIPE, encoding="utf8").stderr
    own = float(out.strip().rsplit(" ", 2)[1])
    print(f"index: ours {own:.3f} s from texts to disk, bm25s {built:.3f} s from words in memory: "
          f"{built / own:.1f} times")


if __name__ == "__main__":
    sys.exit(main())
