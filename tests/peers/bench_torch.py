#!/usr/bin/env python3
"""The peers of build/bench: PyTorch, ONNX Runtime, HF tokenizers, transformers and bm25s, one per
process.

usage: bench_torch.py KIND [key=value ..]

build/bench starts this beside its own worker with the same arguments and talks to both by lines:

    this prints     ready NAME VERSION          once it can work
                    missing HOW TO INSTALL      when a package is not here; it ends then
    is told         go SECONDS                  repeat the work for at least so long, at least once
    this prints     MEAN_SECONDS CHECK CPU_SECONDS      of one repetition; CHECK counts what was
                    made; CPU_SECONDS are of all threads
    is told         peak
    this prints     BYTES 0 0                   of resident memory, at its highest so far

KIND: gemm (the three products of a linear layer's step by torch.mm: MKL's in f32, oneDNN's in bf16);
train, forward (PyTorch; precision=bf16: autocast); family (transformers' class); onnx (a forward pass by ONNX Runtime;
precision=int8: dynamic, by channel); openvino (precision=bf16; int8: static, calibrated by NNCF);
ctranslate2 (an encoder of the same size, int8); tokenize (HF tokenizers);
search, index (bm25s, queries by numba); reader (a model directory answering questions, transformers).
The model is the reader of the study: a RoBERTa encoder and a linear or a BiLSTM head, as PyTorch's
own modules compute it, random weights, dropout 0.1, AdamW as it comes.  All sequences are full, so
no mask is given to attention: its fastest form.

    bench_torch.py answer MODEL_DIR FILE.jsonl

loads the model with transformers, prints the answer to FILE's first question and ends.
"""
import json
import os
import resource
import sys
import tempfile
import time

INSTALL = {"torch": "pip install torch", "onnxruntime": "pip install onnx onnxruntime",
           "onnx": "pip install onnx onnxruntime", "openvino": "pip install onnx openvino",
           "nncf": "pip install nncf", "ctranslate2": "pip install ctranslate2 transformers",
           "tokenizers": "pip install tokenizers",
           "transformers": "pip install transformers", "bm25s": "pip install bm25s numba",
           "numba": "pip install bm25s numba"}


def missing(error):
    name = (error.name or "").split(".")[0]
    print("missing", INSTALL.get(name, f"pip install {name}"), flush=True)
    raise SystemExit(0)


def arguments(words):
    found = dict(word.split("=", 1) for word in words)
    return {k: int(v) if v.lstrip("-").isdigit() else v for k, v in found.items()}


def serve(name, version, work):
    """work() does one repetition and returns what to check, a number."""
    print("ready", name, version, flush=True)
    for line in sys.stdin:
        word = line.split()
        if word and word[0] == "peak":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(peak if sys.platform == "darwin" else peak * 1024, 0, 0, flush=True)
            continue
        least, n, begun = float(word[1]), 0, time.perf_counter()
        used = time.process_time()
        while True:
            check = work()
            n += 1
            passed = time.perf_counter() - begun
            if passed >= least:
                break
        print(passed / n, check, (time.process_time() - used) / n, flush=True)


# ---------------------------------------------------------------------------- products

def gemm(a):
    import torch
    torch.set_num_threads(a["threads"])
    kind = torch.bfloat16 if a.get("precision") == "bf16" else torch.float32
    hidden, ffn, n = a["hidden"], a["ffn"], a["tokens"]
    inner, outer = {"attn": (hidden, hidden), "up": (hidden, ffn), "down": (ffn, hidden)}[a["which"]]
    x, w, dy = (torch.full(shape, 1e-3, dtype=kind)
                for shape in ((n, inner), (outer, inner), (n, outer)))
    y, dx, dw = dy.clone(), x.clone(), w.clone()

    def products():
        torch.mm(x, w.t(), out=y)
        torch.mm(dy, w, out=dx)
        torch.mm(dy.t(), x, out=dw)
        return 0
    serve("torch.mm", torch.__version__, products)


# ---------------------------------------------------------------------------- the reader

def make_reader(a):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Layer(nn.Module):
        def __init__(self, hidden, heads, ffn, p):
            super().__init__()
            self.heads, self.p = heads, p
            self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden)
                                                          for _ in range(4))
            self.up, self.down = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
            self.norm = nn.ModuleList(nn.LayerNorm(hidden, 1e-5) for _ in range(2))
            self.drop = nn.Dropout(p)

        def forward(self, x):
            b, t, h = x.shape
            q, k, v = (f(x).view(b, t, self.heads, h // self.heads).transpose(1, 2)
                       for f in (self.query, self.key, self.value))
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0)
            y = self.out(y.transpose(1, 2).reshape(b, t, h))
            x = self.norm[0](x + self.drop(y))
            return self.norm[1](x + self.drop(self.down(F.gelu(self.up(x)))))

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            h = a["hidden"]
            self.word, self.place = nn.Embedding(a["vocab"], h), nn.Embedding(a["seq"] + 2, h)
            self.kind = nn.Parameter(torch.zeros(h))
            self.norm, self.drop = nn.LayerNorm(h, 1e-5), nn.Dropout(0.1)
            self.layers = nn.ModuleList(Layer(h, a["heads"], a["ffn"], 0.1)
                                        for _ in range(a["layers"]))
            rnn = a.get("rnn", 0)
            self.lstm = nn.LSTM(h, h, rnn, dropout=0.2, batch_first=True,
                                bidirectional=True) if rnn else None
            self.head = nn.Linear(2 * h if rnn else h, 2)

        def forward(self, ids, places):
            x = self.drop(self.norm(self.word(ids) + self.place(places) + self.kind))
            for layer in self.layers:
                x = layer(x)
            if self.lstm is not None:
                x = self.lstm(x)[0]
            return self.head(x)

    torch.manual_seed(0)
    torch.set_num_threads(a["threads"])
    ids = torch.randint(5, a["vocab"], (a["batch"], a["seq"]))
    places = torch.arange(2, a["seq"] + 2).expand(a["batch"], -1)
    return torch, F, Reader(), ids, places


def train(a):
    torch, F, model, ids, places = make_reader(a)
    targets = torch.randint(0, a["seq"], (2, a["batch"]))
    bf16 = a.get("precision") == "bf16"
    optimizer = torch.optim.AdamW(model.parameters(), 2e-5, eps=1e-8, weight_decay=0.0,
                                  fused=bf16 or None)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            start, end = model(ids, places).unbind(-1)
        start, end = start.float(), end.float()
        loss = (F.cross_entropy(start, targets[0]) + F.cross_entropy(end, targets[1])) / 2
        loss.backward()
        optimizer.step()
        loss.item()
        return ids.numel()
    serve("PyTorch", torch.__version__, step)


def forward(a):
    torch, _, model, ids, places = make_reader(a)
    model.eval()

    bf16 = a.get("precision") == "bf16"

    def run():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return model(ids, places).numel()
    serve("PyTorch", torch.__version__, run)


def family(a):
    """transformers' own class, with random weights and the sizes given."""
    import torch
    import transformers as T
    kinds = {"bert": "Bert", "xlm-roberta": "XLMRoberta", "distilbert": "DistilBert",
             "electra": "Electra", "albert": "Albert", "mpnet": "MPNet",
             "deberta-v2": "DebertaV2", "modernbert": "ModernBert"}
    sizes = dict(vocab_size=a["vocab"], hidden_size=a["hidden"], num_hidden_layers=a["layers"],
                 num_attention_heads=a["heads"], intermediate_size=a["ffn"],
                 max_position_embeddings=a["seq"] + 2)
    if a["family"] == "distilbert":
        sizes = dict(vocab_size=a["vocab"], dim=a["hidden"], n_layers=a["layers"],
                     n_heads=a["heads"], hidden_dim=a["ffn"], max_position_embeddings=a["seq"])
    if a["family"] == "deberta-v2":
        sizes.update(relative_attention=True, pos_att_type="p2c|c2p", share_att_key=True,
                     norm_rel_ebd="layer_norm", position_biased_input=False, type_vocab_size=0,
                     position_buckets=256)
    if a["family"] == "modernbert":
        sizes.update(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
                     sep_token_id=2, reference_compile=False)
    T.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    torch.set_num_threads(a["threads"])
    kind = kinds[a["family"]]
    model = getattr(T, kind + "ForQuestionAnswering")(getattr(T, kind + "Config")(**sizes)).eval()
    ids = torch.randint(5, a["vocab"], (a["batch"], a["seq"]))
    mask = torch.ones_like(ids)

    def run():
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask).start_logits.numel() * 2
    serve("transformers", T.__version__, run)


def export(a, folder):
    """The reader as an ONNX file; its inputs."""
    import onnx as _                    # what PyTorch exports with
    torch, _, model, ids, places = make_reader(a)
    path = os.path.join(folder, "model.onnx")
    out, sys.stdout = sys.stdout, sys.stderr            # exporters talk
    torch.onnx.export(model.eval(), (ids, places), path, input_names=["ids", "places"],
                      opset_version=17, dynamo=False)
    sys.stdout = out
    return path, {"ids": ids.numpy(), "places": places.contiguous().numpy()}


def onnx(a):
    import onnxruntime
    with tempfile.TemporaryDirectory() as folder:
        path, feed = export(a, folder)
        if a.get("precision") == "int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic
            whole, path = path, os.path.join(folder, "int8.onnx")
            out, sys.stdout = sys.stdout, sys.stderr
            quantize_dynamic(whole, path, per_channel=True, weight_type=QuantType.QInt8,
                             op_types_to_quantize=["MatMul", "Gemm"])
            sys.stdout = out
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = a["threads"], 1
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    serve("ONNX Runtime", onnxruntime.__version__, lambda: session.run(None, feed)[0].size)


def openvino(a):
    import openvino as ov
    precision = a.get("precision", "fp32")
    with tempfile.TemporaryDirectory() as folder:
        path, feed = export(a, folder)
        core = ov.Core()
        model = core.read_model(path)
        if precision == "int8":
            import nncf
            out, sys.stdout = sys.stdout, sys.stderr
            model = nncf.quantize(model, nncf.Dataset([feed] * 2), subset_size=2,
                                  model_type=nncf.ModelType.TRANSFORMER,
                                  preset=nncf.QuantizationPreset.MIXED)
            sys.stdout = out
        compiled = core.compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": a["threads"], "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16"})
    request = compiled.create_infer_request()

    def run():
        return next(iter(request.infer(feed).values())).size
    serve("OpenVINO", ov.__version__.split("-")[0], run)


def ctranslate2(a):
    """An encoder with the reader's sizes and no head: the least that a reader by it would do."""
    import ctranslate2 as ct
    import numpy as np
    import torch
    from ctranslate2.converters import TransformersConverter
    from transformers import RobertaConfig, RobertaModel
    config = RobertaConfig(vocab_size=a["vocab"], hidden_size=a["hidden"], pad_token_id=1,
                           num_hidden_layers=a["layers"], num_attention_heads=a["heads"],
                           intermediate_size=a["ffn"], max_position_embeddings=a["seq"] + 2,
                           type_vocab_size=1, layer_norm_eps=1e-5)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        source, made = os.path.join(folder, "hf"), os.path.join(folder, "ct2")
        RobertaModel(config, add_pooling_layer=False).save_pretrained(source)
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        words = special + [f"t{i}" for i in range(len(special), a["vocab"])]
        with open(os.path.join(source, "vocab.json"), "w", encoding="utf8") as f:
            json.dump({word: i for i, word in enumerate(words)}, f)
        with open(os.path.join(source, "merges.txt"), "w", encoding="utf8") as f:
            f.write("#version: 0.2\n")
        TransformersConverter(source).convert(made, quantization="int8", force=True)
        encoder = ct.Encoder(made, device="cpu", compute_type="int8", intra_threads=a["threads"])
    rng = np.random.default_rng(0)
    ids = rng.integers(5, a["vocab"], (a["batch"], a["seq"])).tolist()

    def run():
        encoder.forward_batch(ids)
        return 2 * a["batch"] * a["seq"]
    serve("CTranslate2", ct.__version__, run)


# ---------------------------------------------------------------------------- text

def tokenize(a):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    import tokenizers
    folder = a["tokenizer"]
    with open(a["text"], encoding="utf8", newline="\n") as f:
        lines = f.read().split("\n")[:-1]
    if os.path.exists(os.path.join(folder, "merges.txt")):
        tok = tokenizers.ByteLevelBPETokenizer(os.path.join(folder, "vocab.json"),
                                               os.path.join(folder, "merges.txt"))
        tok._tokenizer.post_processor = tokenizers.processors.RobertaProcessing(
            ("</s>", tok.token_to_id("</s>")), ("<s>", tok.token_to_id("<s>")),
            add_prefix_space=False)
        serve("tokenizers", tokenizers.__version__,
              lambda: sum(len(e.ids) for e in tok.encode_batch(lines)))
        return
    try:
        with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf8") as f:
            config = json.load(f)
    except OSError:
        config = {}
    lower = bool(config.get("do_lower_case", False))
    tok = tokenizers.BertWordPieceTokenizer(
        os.path.join(folder, "vocab.txt"), lowercase=lower,
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True))
    serve("tokenizers", tokenizers.__version__,
          lambda: sum(len(e.ids) for e in tok.encode_batch(lines)))


def read_texts(path, key):
    with open(path, encoding="utf8") as f:
        return [json.loads(line)[key] for line in f if line.strip()]


def index(a):
    import bm25s
    texts = read_texts(a["passages"], "text")

    def build():
        peer = bm25s.BM25()
        peer.index([x.split() for x in texts], show_progress=False)
        return len(peer.vocab_dict) - ("" in peer.vocab_dict)
    serve("bm25s", bm25s.__version__, build)


def search(a):
    import bm25s
    import numba                                                    # noqa: F401
    texts = read_texts(a["queries"], "question") * 40
    peer = bm25s.BM25(backend="numba")
    peer.index([x.split() for x in read_texts(a["passages"], "text")], show_progress=False)
    peer.activate_numba_scorer()
    terms = [peer.get_tokens_ids(x.split()) for x in texts]

    def run():
        given = [x.split() for x in texts] if a["from_text"] else terms
        scores = peer.retrieve(given, k=20, show_progress=False, n_threads=a["threads"],
                               backend_selection="numba").scores
        return int(scores[:, 0].astype(float).sum() + 0.5)
    run()
    serve("bm25s numba", bm25s.__version__, run)


def reader(a):
    import torch
    from transformers import AutoModelForQuestionAnswering, BertTokenizerFast
    torch.set_num_threads(a["threads"])
    tok = BertTokenizerFast.from_pretrained(a["model"])
    model = AutoModelForQuestionAnswering.from_pretrained(a["model"]).eval()
    with open(a["text"], encoding="utf8") as f:
        text = f.read()
    try:
        rows = [(q["question"], p["context"]) for d in json.loads(text)["data"]
                for p in d["paragraphs"] for q in p["qas"]]
    except ValueError:
        rows = [(x["question"], x["context"]) for x in map(json.loads, text.splitlines())]
    at = iter(range(1 << 30))

    def run():
        question, context = rows[next(at) % len(rows)]
        x = tok(question, context, truncation="only_second", max_length=a["seq"],
                stride=a["seq"] // 3, return_overflowing_tokens=True, padding=True,
                return_offsets_mapping=True, return_tensors="pt")
        offsets = x.pop("offset_mapping")
        for key in ("overflow_to_sample_mapping", "token_type_ids"):
            x.pop(key, None)
        with torch.inference_mode():
            y = model(**x)
        best = (y.start_logits.max(1).values + y.end_logits.max(1).values).argmax()
        begin, end = int(y.start_logits[best].argmax()), int(y.end_logits[best].argmax())
        context[int(offsets[best][begin][0]):int(offsets[best][end][1])]
        return 1
    import transformers
    serve("transformers", transformers.__version__, run)


def answer(folder, path):
    import torch
    from transformers import AutoModelForQuestionAnswering, BertTokenizerFast
    with open(path, encoding="utf8") as f:
        row = json.loads(f.readline())
    tok = BertTokenizerFast.from_pretrained(folder)
    model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    x = tok(row["question"], row["context"], truncation="only_second", max_length=384,
            return_offsets_mapping=True, return_tensors="pt")
    offsets = x.pop("offset_mapping")[0].tolist()
    x.pop("token_type_ids", None)
    with torch.inference_mode():
        y = model(**x)
    begin, end = int(y.start_logits.argmax()), int(y.end_logits.argmax())
    print(row["context"][offsets[begin][0]:max(offsets[end][1], offsets[begin][0])])


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    kinds = {"gemm": gemm, "train": train, "forward": forward, "family": family, "onnx": onnx, "openvino": openvino,
             "ctranslate2": ctranslate2, "tokenize": tokenize,
             "index": index, "search": search, "reader": reader}
    try:
        if sys.argv[1] == "answer":
            answer(*sys.argv[2:4])
        elif sys.argv[1] in kinds:
            kinds[sys.argv[1]](arguments(sys.argv[2:]))
        elif sys.argv[1] == "transformers":
            import torch as _
            import transformers
            print("ready transformers", transformers.__version__, flush=True)
        else:
            raise SystemExit(f"bench_torch: {sys.argv[1]}: no such kind")
    except ModuleNotFoundError as error:
        missing(error)


main()
