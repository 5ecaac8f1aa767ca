#!/usr/bin/env python3
"""Compares directories for retrieval and their vectors with sentence-transformers.

usage: compare_dense.py vectors MODEL_DIR INPUT.jsonl OURS.npy [--pooling mean] [--length N]
           embeds INPUT as the package does; the largest difference of an element
       compare_dense.py open DIR TEXTS.jsonl OURS.npy
           opens a directory that train wrote as a SentenceTransformer and compares
       compare_dense.py recall QUERIES.npy PASSAGES.npy QRELS.tsv
           exact search of the vectors with numpy: recall@1, 5, 10, 20 and MRR
       compare_dense.py cross DIR PAIRS.jsonl SCORES.txt
           CrossEncoder's raw logits of {"query", "text"} lines against one number a line
Skips, and says so, where the package is missing.
"""
import json, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np


def texts_of(path, key=None):
    rows = [json.loads(line) for line in open(path, encoding="utf8") if line.strip()]
    return [r[key] if key else r.get("question", r.get("text")) for r in rows]


def flag(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def package():
    try:
        import sentence_transformers
        return sentence_transformers
    except ImportError:
        print("SKIP: sentence-transformers is not installed")
        sys.exit(0)


def report(ours, theirs):
    worst = float(np.abs(ours - theirs).max())
    print(json.dumps({"rows": len(ours), "width": int(ours.shape[1]), "largest_difference": worst}))
    return worst


mode = sys.argv[1]
if mode in ("vectors", "open"):
    st = package()
    if mode == "vectors":
        from sentence_transformers import models
        t = models.Transformer(sys.argv[2])
        if flag("--length"): t.max_seq_length = int(flag("--length"))
        pool = models.Pooling(t.get_word_embedding_dimension(), flag("--pooling", "mean"))
        parts = [t, pool] + ([models.Normalize()] if "--normalize" in sys.argv else [])
        model = st.SentenceTransformer(modules=parts, device="cpu")
    else:
        model = st.SentenceTransformer(sys.argv[2], device="cpu")
    theirs = model.encode(texts_of(sys.argv[3]), batch_size=32, show_progress_bar=False)
    sys.exit(report(np.load(sys.argv[4]), theirs) > 1e-5)
if mode == "recall":
    q, p = np.load(sys.argv[2]), np.load(sys.argv[3])
    gold = [int(line.split("\t")[1]) for line in open(sys.argv[4]) if not line.startswith("query")]
    s = q @ p.T
    rank = (s > s[np.arange(len(q)), gold][:, None]).sum(1)
    out = {f"recall@{k}": round(float((rank < k).mean()), 4) for k in (1, 5, 10, 20)}
    print(json.dumps(out | {"mrr": round(float((1 / (1 + rank)).mean()), 4)}))
if mode == "cross":
    st = package()
    rows = [json.loads(line) for line in open(sys.argv[3], encoding="utf8")]
    ce = st.CrossEncoder(sys.argv[2], device="cpu")
    import torch
    theirs = np.array(ce.predict([(r["query"], r["text"]) for r in rows],
                                 activation_fn=torch.nn.Identity()))
    ours = np.array([float(x) for x in open(sys.argv[4])])
    worst = float(np.abs(ours - theirs.reshape(len(ours), -1)[:, -1]).max())
    print(json.dumps({"pairs": len(ours), "largest_difference": worst}))
    sys.exit(worst > 1e-5)
