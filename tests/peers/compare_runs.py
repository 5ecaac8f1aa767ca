#!/usr/bin/env python3
"""Holds the measures of runs against pytrec_eval, and fusion against Haystack, pyserini and ranx.

usage: compare_runs.py [N]          (N: random runs, 1000 without it)

Measures: each run has ten questions with ties (also scores that differ in 64 bits alone), passages
nobody judged, questions without a hit, without judgements and without a relevant passage; `fuse
--ties trec` prints what pytrec_eval has, to the last bit but one of a sum.  pytrec_eval leaves a
question without a hit out; here it counts 0, as in trec_eval -c.
Fusion: 200 pairs of random lists, without ties; the scores that `fuse` writes.
    rrf      pyserini, ranx; Haystack with equal weights, whose scores are ours times 61 / lists
    minmax   pyserini, ranx
    raw      pyserini's hybrid (dense + alpha sparse, an absent passage has its list's least)
    zscore   no package fills an absent passage so: its numbers from the formula with numpy
Each package that is missing is named and its lines are left out.
"""
import importlib, json, os, random, subprocess, sys, tempfile

here = os.path.dirname(os.path.abspath(__file__)) + "/../.."
failed = lines = 0
NAMES = {"recall@1": "recall_1", "recall@5": "recall_5", "recall@10": "recall_10",
         "recall@20": "recall_20", "recall@100": "recall_100", "mrr@10": None,
         "ndcg@10": "ndcg_cut_10", "map@100": "map_cut_100"}


def optional(name):
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        print(f"SKIP: {name} is not installed ({missing})")
        return None


def line(what, worst, bar):
    global failed, lines
    lines += 1
    failed += not worst <= bar
    print(json.dumps({"what": what, "largest_difference": worst, "within": worst <= bar}),
          flush=True)


def fuse(*flags):
    p = subprocess.run([here + "/build/fuse", *map(str, flags)], capture_output=True, text=True)
    if p.returncode: sys.exit("fuse: " + p.stderr)
    return p.stdout


def random_run(rng):
    """A run and judgements as dictionaries."""
    run, qrels = {}, {}
    for q in range(10):
        query, n = f"q{q}", rng.choice([0, 1, 3, 12, 150])
        ids = [str(i) if rng.random() < .5 else f"d{i}" for i in rng.sample(range(400), 200)]
        kind = rng.random()
        if n:
            run[query] = {i: float(rng.randint(0, 8)) if kind < .4 else rng.gauss(0, 1)
                          if kind < .8 else 1 + 1e-9 * rng.randint(0, 5) for i in ids[:n]}
        if rng.random() < .9:
            qrels[query] = {i: rng.choice([0, 0, 1, 1, 2, 3])
                            for i in rng.sample(ids, rng.choice([1, 2, 9, 40]))}
    if not run: run["q0"] = {"d1": 1.0}
    if not any(r >= 1 for judged in qrels.values() for r in judged.values()): qrels["q0"] = {"d1": 1}
    return run, qrels


def measures(pytrec_eval, runs):
    rng = random.Random(7)
    worst = dict.fromkeys(NAMES, 0.0)
    with tempfile.TemporaryDirectory() as top:
        for _ in range(runs):
            run, qrels = random_run(rng)
            with open(top + "/run", "w") as f:
                hits = [(q, d, s) for q in run for d, s in run[q].items()]
                rng.shuffle(hits)
                f.writelines(f"{q} Q0 {d} 1 {s!r} x\n" for q, d, s in hits)
            with open(top + "/qrels", "w") as f:
                f.writelines(f"{q} 0 {d} {r}\n" for q in qrels for d, r in qrels[q].items())
            ours = json.loads(fuse("--runs", top + "/run", "--method", "raw", "--depth", 1000,
                                   "--qrels", top + "/qrels", "--ties", "trec"))
            known = [q for q in qrels if any(r >= 1 for r in qrels[q].values())]
            names = {n for n in NAMES.values() if n} | {"recip_rank"}
            theirs = pytrec_eval.RelevanceEvaluator(qrels, names).evaluate(run)
            # recip_rank has no cut: below a tenth it is past rank 10.
            value = lambda q, n: theirs.get(q, {}).get(n, 0.0) if n else (
                lambda r: r if r >= 0.0999 else 0.0)(theirs.get(q, {}).get("recip_rank", 0.0))
            for name, other in NAMES.items():
                right = sum(value(q, other) for q in known) / len(known)
                worst[name] = max(worst[name], abs(right - ours[name]))
            if ours["queries"] != len(known): sys.exit(f"queries: {ours['queries']}, {len(known)}")
    for name in NAMES: line(f"{name} of {runs} runs, pytrec_eval", worst[name], 4e-16)


def write(path, run, tag):
    with open(path, "w") as f:
        for q in run:
            best = sorted(run[q].items(), key=lambda hit: -hit[1])
            f.writelines(f"{q} Q0 {d} {i + 1} {s!r} {tag}\n" for i, (d, s) in enumerate(best))


def read(path):
    run = {}
    for text in open(path):
        q, _, d, _, s, _ = text.split()
        run.setdefault(q, {})[d] = float(s)
    return run


def apart(a, b, factor=1.0):
    if a.keys() != b.keys() or any(a[q].keys() != b[q].keys() for q in a): return float("inf")
    return max(abs(a[q][d] - factor * b[q][d]) for q in a for d in a[q])


def ours(a, b, *flags):
    with tempfile.TemporaryDirectory() as top:
        write(top + "/a", a, "a")
        write(top + "/b", b, "b")
        fuse("--runs", top + "/a", top + "/b", "--run", top + "/f", "--depth", 1000, *flags)
        return read(top + "/f")


def zscores(a, b, weights):
    import numpy as np
    out = {}
    for q in sorted(a.keys() | b.keys()):
        out[q] = {}
        for run, w in ((a, weights[0]), (b, weights[1])):
            x = run.get(q, {})
            if not x: continue
            values = np.array(list(x.values()))
            unit = lambda v: (v - values.mean()) / values.std()
            for d in a.get(q, {}).keys() | b.get(q, {}).keys():
                out[q][d] = out[q].get(d, 0.0) + w * float(unit(x.get(d, values.min())))
    return out


def fusion():
    rng = random.Random(5)
    ids = [f"d{i}" for i in range(80)]
    made = lambda: {f"q{q}": {d: rng.gauss(9, 4) for d in rng.sample(ids, rng.randint(2, 40))}
                    for q in range(200)}
    a, b = made(), made()
    rrf, minmax = ours(a, b, "--method", "rrf"), ours(a, b, "--method", "minmax")
    line("zscore, weights 1 and 0.5, the formula", apart(
        ours(a, b, "--method", "zscore", "--weights", 1, 0.5), zscores(a, b, (1, 0.5))), 1e-12)
    if optional("ranx"):
        import numpy, ranx
        numpy.seterr(all="ignore")
        runs = [ranx.Run(x) for x in (a, b)]
        line("rrf, ranx", apart(rrf, ranx.fuse(runs, method="rrf").to_dict()), 1e-15)
        line("minmax, ranx", apart(minmax, ranx.fuse(runs, norm="min-max", method="sum").to_dict()),
             1e-15)
    if optional("pyserini.fusion"):
        from pyserini import fusion as theirs
        from pyserini.trectools import TrecRun
        with tempfile.TemporaryDirectory() as top:
            for x, name in ((a, "a"), (b, "b")): write(f"{top}/{name}", x, name)
            runs = [TrecRun(top + "/a"), TrecRun(top + "/b")]
            for name, right, fused in (("rrf", rrf, theirs.reciprocal_rank_fusion(runs)),
                                       ("minmax", minmax, theirs.normalize(runs))):
                fused.save_to_txt(top + "/f", tag="t")
                text = {}
                for _, row in fused.run_data.iterrows():
                    text.setdefault(str(row["topic"]), {})[str(row["docid"])] = float(row["score"])
                line(name + ", pyserini", apart(right, text), 1e-15)
    hybrid = optional("pyserini.search.hybrid")
    if hybrid:
        from pyserini.search.faiss import DenseSearchResult as Hit
        hits = lambda run, q: [Hit(d, s) for d, s in run[q].items()]
        for alpha in (0.1, 1.7):
            text = {q: {h.docid: h.score for h in hybrid.HybridSearcher._hybrid_results(
                hits(a, q), hits(b, q), alpha, 1000)} for q in a}
            line(f"raw, pyserini's hybrid of alpha {alpha}", apart(
                ours(a, b, "--method", "raw", "--weights", 1, alpha), text), 1e-14)
    if optional("haystack"):
        from haystack import Document
        from haystack.components.joiners import DocumentJoiner
        join = lambda q: DocumentJoiner(join_mode="reciprocal_rank_fusion").run([
            [Document(id=d, content=d, score=s) for d, s in sorted(
                run[q].items(), key=lambda hit: -hit[1])] for run in (a, b)])["documents"]
        text = {q: {d.id: d.score for d in join(q)} for q in a}
        line("rrf, Haystack", apart(text, rrf, 61 / 2), 1e-15)


pytrec_eval = optional("pytrec_eval")
if pytrec_eval: measures(pytrec_eval, int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
fusion()
print(f"{lines} comparisons, {failed} beyond their bars")
sys.exit(failed > 0)
