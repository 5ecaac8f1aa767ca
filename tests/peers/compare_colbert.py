#!/usr/bin/env python3
"""Holds ColBERT's directories and residual codes against the packages that made them.

usage: compare_colbert.py [MRC_PY_DIR]

A made BERT of two layers and a projection:
  saved by Stanford's colbert-ai and by PyLate, opened by mrc.py: token rows, 1e-6;
  saved by `train --task colbert` after a step of rate 0, opened by colbert-ai, PyLate and
      sentence-transformers from version 6 on (MultiVectorEncoder): token rows, 1e-6;
  an index of its token rows with 1, 2 and 4 bits: colbert-ai's codec, given the index's centroids
      and buckets, makes the same codes and the same bytes of the same rows, and the scores that
      `search` prints are MaxSim over what that codec decompresses, 1e-5.
Each package that is missing is named and its lines are left out.
"""
import json, os, struct, subprocess, sys, tempfile
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import warnings
warnings.filterwarnings("ignore")

here = os.path.dirname(os.path.abspath(__file__)) + "/../.."
sys.path.insert(0, sys.argv[1] if len(sys.argv) > 1 else here + "/tools")
WIDTH, QUERY, DOCUMENT = 32, 12, 40
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"] \
    + list(",.!?") + [f"w{i}" for i in range(60)]
failed = lines = 0


def line(what, worst, bar):
    global failed, lines
    lines += 1
    failed += not worst <= bar
    print(json.dumps({"what": what, "largest_difference": worst, "within": bool(worst <= bar)}),
          flush=True)


def optional(name):
    """The package, or None where it is missing: said once."""
    try:
        return __import__(name)
    except ImportError as missing:
        print(f"SKIP: {name} is not installed ({missing})")
        return None


def apart(a, b):
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in zip(a, b)]
    return float(max(np.abs(x - y).max() if x.shape == y.shape else np.inf for x, y in pairs))


def put(path, what):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f: json.dump(what, f)


def base(folder):
    """A BERT of random weights, its biases too, as transformers saves it."""
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64, initializer_range=0.2)
    model = transformers.BertModel(config).eval()
    for name, p in model.named_parameters():
        if name.endswith("bias"): p.data.normal_(0, 0.2)
    os.makedirs(folder)
    with open(folder + "/vocab.txt", "w") as f: f.write("\n".join(WORDS) + "\n")
    tok = transformers.BertTokenizerFast(folder + "/vocab.txt", do_lower_case=True,
                                         model_max_length=64)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return model, tok


def stanford_folder(folder, model, tok):
    """As colbert-ai saves a checkpoint: its own class of the same weights."""
    from colbert.infra import ColBERTConfig
    from colbert.modeling.base_colbert import BaseColBERT
    config = ColBERTConfig(dim=WIDTH, query_maxlen=QUERY, doc_maxlen=DOCUMENT, checkpoint=folder)
    put(folder + "/config.json", {**model.config.to_dict(), "architectures": ["HF_ColBERT"],
                                  "model_type": "bert"})
    safetensors.torch.save_file(
        {**{"bert." + k: v.contiguous() for k, v in model.state_dict().items()},
         "linear.weight": torch.randn(WIDTH, 32)}, folder + "/model.safetensors",
        metadata={"format": "pt"})
    tok.save_pretrained(folder)
    config.save_for_checkpoint(folder)
    theirs = BaseColBERT(folder, config)
    theirs.save(folder + "-saved")
    return folder + "-saved"


def stanford_rows(folder):
    from colbert.infra import ColBERTConfig
    from colbert.modeling.checkpoint import Checkpoint
    c = Checkpoint(folder, ColBERTConfig.load_from_checkpoint(folder), verbose=0)
    c.eval()
    with torch.no_grad():
        return {"query": list(c.queryFromText(QUERIES)),
                "document": c.docFromText(TEXTS, keep_dims=False)}


def pylate_rows(model):
    return {"query": model.encode(QUERIES, is_query=True, show_progress_bar=False),
            "document": model.encode(TEXTS, is_query=False, show_progress_bar=False)}


def multi_rows(folder):
    model = sentence_transformers.MultiVectorEncoder(folder, device="cpu")
    rows = {"query": model.encode_query(QUERIES, show_progress_bar=False),
            "document": model.encode_document(TEXTS, show_progress_bar=False)}
    return {side: [np.asarray(x) for x in rows[side]] for side in rows}


def our_rows(folder):
    e = mrc.Encoder(folder)
    return {"query": e.encode(QUERIES, prompt_name="query"),
            "document": e.encode(TEXTS, prompt_name="document")}


def compare(what, a, b):
    for side in ("query", "document"): line(f"{what}, {side}", apart(a[side], b[side]), 1e-6)


def trained(folder, again):
    """What `train` writes after a step that changes nothing."""
    put(again + ".jsonl", {"query": "w1", "pos": ["w2 w3"], "neg": ["w4"]})
    subprocess.run([here + "/build/train", "--task", "colbert", "--model_name_or_path", folder,
                    "--train_file", again + ".jsonl", "--max_steps", "1", "--learning_rate",
                    "1e-30", "--warmup_steps", "0", "--num_negatives", "1", "--output_dir", again],
                   check=True, stdout=subprocess.DEVNULL)


SECTIONS = ["rows", "scales", "full", "offsets", "codes", "centroids", "buckets"]


def tokens_bin(path):
    """The end record and the sections of a tokens.bin, by name."""
    data = open(path, "rb").read()
    end = data[-(8 + 8 * 4 + 6 * 8 + 3 * 8 + 15 * 8 + 8):]
    assert end[:8] == b"MRCTOKEN", end[:8]
    bits = struct.unpack_from("<8I", end, 8)[3]
    n, n_rows, width, n_centroids = struct.unpack_from("<4Q", end, 40)
    at = struct.unpack_from("<15Q", end, 40 + 48 + 24)
    part = {name: data[at[i]:at[i + 1]] for i, name in enumerate(SECTIONS)}
    f32 = lambda name, count: np.frombuffer(part[name], "<f4")[:count]
    return dict(bits=bits, width=width,
                codes=np.frombuffer(part["codes"], "<u4")[:n_rows],
                offsets=np.frombuffer(part["offsets"], "<u8")[:n + 1].astype(int),
                rows=np.frombuffer(part["rows"], np.uint8)[:n_rows * (width * bits // 8)].reshape(
                    n_rows, -1),
                centroids=f32("centroids", n_centroids * width).reshape(-1, width),
                cuts=f32("buckets", 31)[:(1 << bits) - 1],
                weights=f32("buckets", 31)[15:15 + (1 << bits)])


def codes(folder, top):
    """Our residual codes against colbert-ai's codec."""
    from colbert.indexing.codecs.residual import ResidualCodec
    from colbert.infra import ColBERTConfig
    rng = np.random.default_rng(1)
    texts = [" ".join(f"w{k}" for k in rng.integers(0, 60, rng.integers(3, 30)))
             for _ in range(400)]
    with open(top + "/p.tsv", "w") as f: f.writelines(f"d{i}\t{t}\n" for i, t in enumerate(texts))
    with open(top + "/q.jsonl", "w") as f:
        f.writelines(json.dumps({"id": f"q{i}", "question": q}) + "\n"
                     for i, q in enumerate(QUERIES))
    encoder = mrc.Encoder(folder)
    rows = torch.tensor(np.concatenate(encoder.encode(texts, prompt_name="document")))
    questions = encoder.encode(QUERIES, prompt_name="query")
    for bits in (1, 2, 4):
        index, run = f"{top}/ix{bits}", f"{top}/{bits}.run"
        subprocess.run([here + "/build/index", "--passages", top + "/p.tsv", "--analyzer",
                        "whitespace", "--output", index, "--model_name_or_path", folder, "--tokens",
                        "--bits", str(bits)], check=True, capture_output=True)
        ours = tokens_bin(index + "/tokens.bin")
        codec = ResidualCodec(ColBERTConfig(dim=WIDTH, nbits=bits), torch.tensor(ours["centroids"]),
                              torch.tensor(0.0), torch.tensor(ours["cuts"]),
                              torch.tensor(ours["weights"]))
        theirs = codec.compress(rows)
        # A row that lies as near to two centroids but for the last bits may have either.
        other = theirs.codes.numpy() != ours["codes"]
        score = rows @ torch.tensor(ours["centroids"]).T
        chosen = score[torch.arange(len(rows)), torch.tensor(ours["codes"].astype(int))]
        line(f"{bits} bits: similarity lost by another centroid, {other.sum()} of {len(rows)} rows",
             float((score.max(1).values - chosen).max()), 1e-6)
        wrong = (theirs.residuals.numpy() != ours["rows"]).any(1) & ~other
        line(f"{bits} bits: rows with other bytes, of {len(rows)}", int(wrong.sum()), 0)
        packed = ResidualCodec.Embeddings(torch.tensor(ours["codes"].astype(np.int64)),
                                          torch.tensor(ours["rows"]))
        back = codec.decompress(packed).float().numpy()
        subprocess.run([here + "/build/search", "--index", index, "--queries", top + "/q.jsonl",
                        "--retriever", "colbert", "--top_k", "20", "--run", run], check=True,
                       capture_output=True)
        worst = 0.0
        hits = [h.split() for h in open(run)]
        for q, _, passage, _, value, _ in hits:
            i = int(passage[1:])
            part = back[ours["offsets"][i]:ours["offsets"][i + 1]]
            exact = float((questions[int(q[1:])] @ part.T).max(1).sum())
            worst = max(worst, abs(exact - float(value)))
        line(f"{bits} bits: scores of {len(hits)} hits over what the codec decompresses", worst,
             1e-5)


QUERIES = ["w3", "w4 w5 w6 ?", "w9 w8 , w7 w50 w1"]
TEXTS = ["w3", "w4 w5 w6 , w7 .", " ".join(f"w{i % 60}" for i in range(70)), "w1 ! ?"]

try:
    import numpy as np, safetensors.torch, torch, transformers
except ImportError as missing:
    print(f"SKIP: {missing.name} is not installed")
    sys.exit(0)
import mrc
stanford, pylate = optional("colbert"), optional("pylate")
sentence_transformers = optional("sentence_transformers")
with tempfile.TemporaryDirectory() as top:
    model, tok = base(top + "/base")
    folder = top + "/plain"
    put(folder + "/artifact.metadata", {"dim": WIDTH, "query_maxlen": QUERY, "doc_maxlen": DOCUMENT,
                                        "mask_punctuation": True, "attend_to_mask_tokens": False,
                                        "similarity": "cosine"})
    put(folder + "/config.json", {**model.config.to_dict(), "architectures": ["HF_ColBERT"]})
    torch.manual_seed(7)
    safetensors.torch.save_file(
        {**{"bert." + k: v.contiguous() for k, v in model.state_dict().items()},
         "linear.weight": torch.randn(WIDTH, 32)}, folder + "/model.safetensors")
    tok.save_pretrained(folder)
    trained(folder, top + "/ours")
    ours = our_rows(top + "/ours")
    compare("written by train, read back", our_rows(folder), ours)
    if stanford:
        theirs = stanford_folder(top + "/stanford", model, tok)
        compare("saved by colbert-ai", our_rows(theirs), stanford_rows(theirs))
        compare("written by train, opened by colbert-ai", ours, stanford_rows(top + "/ours"))
        codes(top + "/ours", top)
    if pylate:
        from pylate import models
        for name, flags in (("as it comes", {}), ("expansion attended", {
                "attend_to_expansion_tokens": True}), ("no expansion", {
                "do_query_expansion": False}), ("other prefixes", {
                "query_prefix": "[unused1]", "document_prefix": "[unused0]"})):
            theirs = models.ColBERT(top + "/base", device="cpu", embedding_size=WIDTH,
                                    query_length=QUERY, document_length=DOCUMENT, **flags)
            path = top + "/pylate " + name
            theirs.save_pretrained(path)
            compare("saved by PyLate, " + name, our_rows(path), pylate_rows(theirs))
        theirs = models.ColBERT(top + "/ours", device="cpu")
        compare("written by train, opened by PyLate", ours, pylate_rows(theirs))
    if sentence_transformers and not hasattr(sentence_transformers, "MultiVectorEncoder"):
        print("SKIP: sentence-transformers", sentence_transformers.__version__,
              "has no MultiVectorEncoder")
    elif sentence_transformers:
        compare("written by train, opened by sentence-transformers "
                + sentence_transformers.__version__, ours, multi_rows(top + "/ours"))
        path = top + "/multi"
        theirs = sentence_transformers.MultiVectorEncoder(top + "/ours", device="cpu")
        theirs.save_pretrained(path)
        compare("saved by sentence-transformers " + sentence_transformers.__version__,
                our_rows(path), multi_rows(path))
print(f"{lines} comparisons, {failed} beyond their bars")
sys.exit(failed > 0)
