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
       compare_dense.py forms [MRC_PY_DIR]
           made directories: each pooling, prompts that are pooled or not, Dense, Normalize, against
           sentence-transformers, also after a step of rate 0, opened by both; DPR, also of pairs
           with either token types, against transformers; ColBERT against its formulas: 1e-6
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


here = os.path.dirname(os.path.abspath(__file__)) + "/../.."


def bindings():
    """mrc.py, of the folder that the command line names or of this tree."""
    sys.path.insert(0, sys.argv[2] if len(sys.argv) > 2 else here + "/tools")
    import mrc
    return mrc


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
    mrc = bindings()
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


def body(config, seed, add_pooling_layer=False):
    """A BERT of random weights, its biases too."""
    torch.manual_seed(seed)
    model = transformers.BertModel(config, add_pooling_layer=add_pooling_layer).eval()
    for name, p in model.named_parameters():
        if name.endswith("bias"): p.data.normal_(0, 0.2)
    return model


def put(path, what):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f: json.dump(what, f)


def put_tokenizer(folder, words):
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/vocab.txt", "w") as f: f.write("\n".join(words) + "\n")
    put(folder + "/tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 40})


POOLINGS = ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens",
            "weightedmean_tokens", "lasttoken"]


def put_modules(folder, config, words, modes, include, dense, normalize):
    """A directory of sentence-transformers in its old spelling."""
    put_tokenizer(folder, words)
    body(config, 1).save_pretrained(folder)
    modules, width = [("", "Transformer"), ("1_Pooling", "Pooling")], 32 * len(modes)
    put(folder + "/1_Pooling/config.json",
        {"word_embedding_dimension": 32, "include_prompt": include,
         **{"pooling_mode_" + m: m in modes for m in POOLINGS}})
    if dense:
        modules.append(("2_Dense", "Dense"))
        put(folder + "/2_Dense/config.json",
            {"in_features": width, "out_features": 16, "bias": True,
             "activation_function": "torch.nn.modules." + dense})
        safetensors.torch.save_file({"linear.weight": torch.randn(16, width) / width ** 0.5,
                                     "linear.bias": torch.randn(16)},
                                    folder + "/2_Dense/model.safetensors")
    if normalize: modules.append((f"{len(modules)}_Normalize", "Normalize"))
    put(folder + "/modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.models." + kind}
        for i, (path, kind) in enumerate(modules)])
    if normalize: os.makedirs(folder + "/" + modules[-1][0], exist_ok=True)
    put(folder + "/sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": False})
    put(folder + "/config_sentence_transformers.json",
        {"prompts": {"query": "w1 w2 ", "document": "w9 "}, "similarity_fn_name": "cosine"})


def rows_of(words, text, marker=None):
    ids = [words.index(w) for w in text.split()]
    return [2] + ([marker] if marker is not None else []) + ids + [3]


def colbert(model, linear, words, text, query, length, expand, attend, skip):
    """The rows of a text as ColBERT's paper has them."""
    ids = rows_of(words, text, words.index("[unused0]" if query else "[unused1]"))
    real = len(ids)
    if query and expand: ids += [4] * (length - real)
    mask = [1] * (len(ids) if attend else real) + [0] * (0 if attend else len(ids) - real)
    with torch.no_grad():
        h = model(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([mask]),
                  token_type_ids=torch.zeros(1, len(ids), dtype=torch.long)).last_hidden_state[0]
        x = torch.nn.functional.normalize(h @ linear.T, dim=1)
    keep = [query or i not in skip for i in ids]
    return x[torch.tensor(keep)].numpy()


def forms():
    """Differences of every form, by name; each must be within 1e-6."""
    st, out = package(), {}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", ",", "."] \
        + [f"w{i}" for i in range(40)]
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64, initializer_range=0.2)
    texts = ["w3", "w4 w5 w6 , w7 .", " ".join(f"w{i % 40}" for i in range(60))]
    short = [t for t in texts if len(t) < 60]

    def apart(a, b):
        """The largest difference, of vectors longer than 1 as a part of their largest element."""
        pairs = [(np.asarray(x), np.asarray(y)) for x, y in zip(a, b)]
        return float(max(np.abs(x - y).max() / max(1, np.abs(y).max()) if x.shape == y.shape
                         else np.inf for x, y in pairs))

    cases = [([m], True, None, True) for m in POOLINGS] + [
        ([m], False, None, False) for m in POOLINGS] + [
        (["cls_token", "mean_tokens"], True, None, True),
        (["mean_tokens"], True, "activation.Tanh", True),
        (["mean_tokens"], False, "linear.Identity", False),
        (["max_tokens"], True, "activation.GELU", True),
        (["max_tokens", "mean_tokens", "lasttoken"], False, "activation.Tanh", False)]
    with tempfile.TemporaryDirectory() as top:
        with open(top + "/l.jsonl", "w") as f:
            f.write(json.dumps({"query": "w1", "pos": ["w2 w3"], "neg": ["w4"]}) + "\n")
        for i, case in enumerate(cases):
            folder, again = f"{top}/{i}", f"{top}/{i}again"
            put_modules(folder, config, words, *case)
            subprocess.run([here + "/build/train", "--task", "biencoder", "--model_name_or_path",
                            folder, "--train_file", top + "/l.jsonl", "--max_steps", "1",
                            "--learning_rate", "1e-30", "--warmup_steps", "0",
                            "--query_max_length", "40", "--passage_max_length", "40",
                            "--output_dir", again], check=True, stdout=subprocess.DEVNULL)
            theirs = st.SentenceTransformer(folder, device="cpu")
            theirs_again = st.SentenceTransformer(again, device="cpu")
            for side in ("query", "document"):
                right = theirs.encode(texts, prompt_name=side)
                name = "%s prompt %s dense %s norm %s %s" % ("+".join(case[0]), *case[1:], side)
                out[name] = apart(mrc.Encoder(folder).encode(texts, prompt_name=side), right)
                out[name + " written, ours"] = apart(
                    mrc.Encoder(again).encode(texts, prompt_name=side), right)
                out[name + " written, theirs"] = apart(
                    theirs_again.encode(texts, prompt_name=side), right)
        for width in (0, 16):
            for kind, side in (("Question", "query"), ("Context", "document")):
                folder = f"{top}/dpr{width}{kind}"
                dpr = transformers.DPRConfig(**{**config.to_dict(), "projection_dim": width,
                                                "model_type": "dpr"})
                torch.manual_seed(width)
                model = getattr(transformers, f"DPR{kind}Encoder")(dpr).eval()
                model.save_pretrained(folder)
                put_tokenizer(folder, words)
                with torch.no_grad():
                    right = [model(input_ids=torch.tensor([rows_of(words, t)]),
                                   attention_mask=torch.ones(1, len(rows_of(words, t))),
                                   token_type_ids=torch.zeros(1, len(rows_of(words, t)),
                                                              dtype=torch.long)
                                   ).pooler_output[0].numpy() for t in short]
                out[f"DPR {kind} projection {width}"] = apart(
                    mrc.Encoder(folder).encode(short, prompt_name=side), right)
            with open(top + "/p.jsonl", "w") as f:
                f.write(json.dumps({"title": "w1 w2", "text": "w3 w4 w5"}) + "\n")
            ids = rows_of(words, "w1 w2") + rows_of(words, "w3 w4 w5")[1:]
            for types in (0, 1):
                with torch.no_grad():
                    right = model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor(
                        [[0] * 4 + [types] * 4])).pooler_output[0].numpy()
                subprocess.run([here + "/build/embed", "--model_name_or_path", folder, "--input",
                                top + "/p.jsonl", "--output", top + "/p.npy",
                                "--passage_token_types", str(types)], check=True,
                               capture_output=True)
                out[f"DPR pair types {types} projection {width}"] = apart(np.load(top + "/p.npy"),
                                                                          [right])
        for attend in (False, True):
            model, linear = body(config, 5), torch.randn(16, 32)
            weights = {"bert." + k: v.contiguous() for k, v in model.state_dict().items()}
            for spelling in ("stanford", "pylate"):
                folder = f"{top}/{spelling}{attend}"
                put_tokenizer(folder, words)
                put(folder + "/config.json", {**config.to_dict(), "architectures": ["HF_ColBERT"]})
                safetensors.torch.save_file({**weights, "linear.weight": linear},
                                            folder + "/model.safetensors")
                put(folder + "/artifact.metadata", {
                    "dim": 16, "query_maxlen": 12, "doc_maxlen": 40, "mask_punctuation": True,
                    "attend_to_mask_tokens": attend, "similarity": "cosine"})
                if spelling == "pylate":
                    put(folder + "/config_sentence_transformers.json", {
                        "model_type": "ColBERT", "query_prefix": "[unused0]",
                        "document_prefix": "[unused1]", "query_length": 12, "document_length": 40,
                        "do_query_expansion": True, "attend_to_expansion_tokens": attend,
                        "skiplist_words": [",", "."]})
                for side in ("query", "document"):
                    right = [colbert(model, linear, words, t, side == "query", 12, True, attend,
                                     (7, 8)) for t in short]
                    out[f"ColBERT {spelling} attend {attend} {side}"] = apart(
                        mrc.Encoder(folder).encode(short, prompt_name=side), right)
    return out


if mode == "forms":
    import subprocess, tempfile
    try:
        import safetensors.torch, torch, transformers
    except ImportError as missing:
        print(f"SKIP: {missing.name} is not installed")
        sys.exit(0)
    mrc = bindings()
    found = forms()
    for name, worst in found.items():
        print(json.dumps({"form": name, "largest_difference": worst, "within": worst <= 1e-6}))
    print(f"{len(found)} forms, {sum(x > 1e-6 for x in found.values())} beyond 1e-6, "
          f"largest {max(found.values()):.2e}")
    sys.exit(any(x > 1e-6 for x in found.values()))
