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
       compare_dense.py families [MRC_PY_DIR]
           made cross-encoders of each family that has them, one and two labels, saved by
           transformers: its raw logits against CrossEncoder of mrc.py, and once more from a folder
           that train wrote after a step of rate 0
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

FAMILIES = {
    "Bert": {}, "Roberta": {}, "XLMRoberta": {}, "Camembert": {}, "Electra": {}, "MPNet": {},
    "Albert": {"embedding_size": 16}, "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4,
                                                     "hidden_dim": 48},
    "Deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0,
                "pooler_hidden_size": 32},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0,
                  "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_buckets": 8,
                  "pooler_hidden_size": 32},
    "BigBird": {"attention_type": "original_full"},
    "ModernBert": {"classifier_pooling": "mean", "global_attn_every_n_layers": 2,
                   "local_attention": 8, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2,
                   "eos_token_id": 3, "reference_compile": False}}


def made(folder, family, labels, words):
    """The model, its logits of the pairs, and its folder."""
    import tokenizers, torch, transformers
    config = getattr(transformers, family + "Config")(**{**dict(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64, initializer_range=0.2, num_labels=labels,
        pad_token_id=0, type_vocab_size=2), **FAMILIES[family]})
    torch.manual_seed(len(family) + labels)
    model = getattr(transformers, family + "ForSequenceClassification")(config).eval()
    for name, p in model.named_parameters():
        if name.endswith("bias"): p.data.normal_(0, 0.2)
    model.save_pretrained(folder)
    tok = tokenizers.Tokenizer(tokenizers.models.WordPiece({w: i for i, w in enumerate(words)},
                                                           unk_token="[UNK]"))
    tok.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tok.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tok.add_special_tokens(words[:5])
    tok.save(folder + "/tokenizer.json")
    return model, tok


if mode == "families":
    import subprocess, tempfile
    try:
        import tokenizers, torch, transformers
    except ImportError as missing:
        print(f"SKIP: {missing.name} is not installed")
        sys.exit(0)
    here = os.path.dirname(os.path.abspath(__file__)) + "/../.."
    sys.path.insert(0, sys.argv[2] if len(sys.argv) > 2 else here + "/tools")
    import mrc
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [f"w{i}" for i in range(40)]
    pairs = [(f"w{i} w{2 * i + 1}", " ".join(f"w{(i * k) % 40}" for k in range(3, 14 + i)))
             for i in range(8)]
    failed = 0
    with tempfile.TemporaryDirectory() as top:
        for family in FAMILIES:
            for labels in (1, 2):
                folder = f"{top}/{family}{labels}"
                model, tok = made(folder, family, labels, words)
                theirs = []
                for pair in pairs:
                    e = tok.encode(*pair)
                    types = {} if model.config.model_type in ("distilbert", "mpnet", "modernbert") \
                        else {"token_type_ids": torch.tensor([e.type_ids])}
                    with torch.no_grad():
                        z = model(input_ids=torch.tensor([e.ids]),
                                  attention_mask=torch.ones(1, len(e.ids), dtype=torch.long),
                                  **types).logits[0]
                    theirs.append(float(z[1] - z[0] if labels == 2 else z[0]))
                with open(top + "/l.jsonl", "w") as f:
                    f.write(json.dumps({"query": "w1", "pos": ["w2 w3"], "neg": ["w4"]}) + "\n")
                again = folder + "again"
                subprocess.run([here + "/build/train", "--task", "cross", "--model_name_or_path",
                                folder, "--train_file", top + "/l.jsonl", "--max_steps", "1",
                                "--num_negatives", "1", "--learning_rate", "1e-30",
                                "--warmup_steps", "0", "--output_dir", again], check=True,
                               capture_output=True)
                kept = getattr(transformers, family + "ForSequenceClassification")
                kept, report_ = kept.from_pretrained(again, output_loading_info=True)
                lost = [k for k in report_["missing_keys"] + report_["unexpected_keys"]
                        if family != "BigBird" or "pooler" not in k]    # its class never uses it
                for path in (folder, again):
                    ours = mrc.CrossEncoder(path).predict(pairs, activation=None)
                    worst = max(abs(a - b) for a, b in zip(ours, theirs))
                    good = worst <= 1e-5 and not lost
                    failed += not good
                    print(json.dumps({"family": family, "labels": labels, "saved": path == again,
                                      "largest_difference": worst, "lost": lost, "within": good}),
                          flush=True)
    sys.exit(failed > 0)
