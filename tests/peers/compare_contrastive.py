#!/usr/bin/env python3
"""Holds `train --task` against PyTorch, step by step: each loss of retrieval, ten steps of a small
model, two seeds.

usage: compare_contrastive.py [MRC]        (MRC: the program, build/mrc without it)

A step holds all questions of a made file, each with its gold and three negatives, so the order that
the planner draws cannot matter.  PyTorch trains the same BERT (transformers' own) from the same
weights with torch.optim.AdamW and gradients clipped at 1; the losses are written out here from
their papers' formulas.  Each logged loss must agree within 1e-5 of itself, or of a tenth of the
first one where it has fallen below that: it is a difference of numbers as large as the scores.

Needs torch, transformers, safetensors; without them it says so and ends well.
"""
import json
import os
import subprocess
import sys
import tempfile

BAR, STEPS, QUESTIONS, NEGATIVES, WIDTH, QUERY_ROWS = 1e-5, 10, 6, 3, 16, 32
CASES = [("biencoder", loss) for loss in ("infonce", "symmetric", "listwise", "margin_mse", "kl")]
CASES += [("colbert", loss) for loss in ("infonce", "listwise", "margin_mse", "kl")]
CASES += [("cross", loss) for loss in ("bce", "listwise", "margin_mse", "kl")]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]


def make(folder, seed):
    """A BERT with a pooler, its tokenizer, and lists of a question, a gold and negatives."""
    torch.manual_seed(seed)
    words = WORDS + [f"w{i}" for i in range(60)]
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=0.2, num_labels=1)
    os.makedirs(folder)
    with open(folder + "/vocab.txt", "w") as f:
        f.write("\n".join(words) + "\n")
    with open(folder + "/tokenizer_config.json", "w") as f:
        json.dump({"tokenizer_class": "BertTokenizer", "do_lower_case": True}, f)
    rng = torch.Generator().manual_seed(seed)

    def text(n):
        picks = torch.randint(0, 60, (n,), generator=rng)
        return " ".join(f"w{i}" for i in picks.tolist())

    lists = []
    for i in range(QUESTIONS):
        scores = torch.randn(1 + NEGATIVES, generator=rng).tolist()
        lists.append({"query": text(4 + i % 3), "pos": [text(9 + i)], "pos_scores": scores[:1],
                      "neg": [text(8 + k + i % 4) for k in range(NEGATIVES)],
                      "neg_scores": scores[1:]})
    with open(folder + "/lists.jsonl", "w") as f:
        f.writelines(json.dumps(line) + "\n" for line in lists)
    return config, words, lists


def ids_of(words, text, marker=None):
    ids = [words.index(w) for w in text.split()]
    return [2] + ([marker] if marker else []) + ids + [3]


class Encoder:
    """One sequence at a time, so that there are no pads to get wrong."""

    def __init__(self, task, model, projection, words):
        self.task, self.model, self.projection, self.words = task, model, projection, words

    def rows(self, ids, fill=0):
        """Last hidden rows; the fill of [MASK] behind ids has rows, but nothing attends to it."""
        x = torch.tensor([ids + [4] * fill])
        seen = torch.tensor([[1] * len(ids) + [0] * fill])
        return self.model(input_ids=x, attention_mask=seen).last_hidden_state[0]

    def vector(self, text):
        return F.normalize(self.rows(ids_of(self.words, text)).mean(0), dim=0)

    def tokens(self, text, marker, length=0):
        ids = ids_of(self.words, text, marker)
        rows = self.rows(ids, max(length - len(ids), 0))
        return F.normalize(rows @ self.projection.T, dim=1)

    def pair(self, query, text):
        a, b = ids_of(self.words, query), ids_of(self.words, text)[1:]
        return self.model(input_ids=torch.tensor([a + b]),
                          token_type_ids=torch.tensor([[0] * len(a) + [1] * len(b)])).logits[0, 0]


def scores_of(e, lists, passages, scale):
    """(questions, passages) similarities; of a cross-encoder only those of the lists."""
    if e.task == "biencoder":
        q = torch.stack([e.vector(x["query"]) for x in lists])
        return scale * q @ torch.stack([e.vector(p) for p in passages]).T
    if e.task == "colbert":
        q = [e.tokens(x["query"], 5, QUERY_ROWS) for x in lists]
        d = [e.tokens(p, 6) for p in passages]
        return torch.stack([torch.stack([(a @ b.T).max(1).values.sum() for b in d]) for a in q])
    z = torch.full((len(lists), len(passages)), float("nan"))
    z = [list(row) for row in z]
    for i, x in enumerate(lists):
        for p in x["pos"] + x["neg"]:
            z[i][passages.index(p)] = e.pair(x["query"], p)
    return torch.stack([torch.stack(row) for row in z])


def loss_of(loss, z, lists, passages):
    gold = torch.tensor([passages.index(x["pos"][0]) for x in lists])
    if loss == "infonce":
        return F.cross_entropy(z, gold)
    if loss == "symmetric":
        return (F.cross_entropy(z, gold)
                + F.cross_entropy(z[:, gold].T, torch.arange(len(lists)))) / 2
    own = torch.stack([z[i, [passages.index(p) for p in x["pos"] + x["neg"]]]
                       for i, x in enumerate(lists)])
    teacher = torch.tensor([x["pos_scores"] + x["neg_scores"] for x in lists])
    if loss == "listwise":
        return F.cross_entropy(own, torch.zeros(len(lists), dtype=torch.long))
    if loss == "bce":
        labels = torch.zeros_like(own)
        labels[:, 0] = 1
        return F.binary_cross_entropy_with_logits(own, labels)
    if loss == "kl":
        return F.kl_div(own.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    return F.mse_loss(own[:, :1] - own[:, 1:], teacher[:, :1] - teacher[:, 1:])


def start(task, config, folder, seed):
    """The model of both sides, saved where ours reads it."""
    torch.manual_seed(seed)
    projection = None
    if task == "cross":
        model = transformers.BertForSequenceClassification(config)
        tensors = dict(model.state_dict())
        arch = "BertForSequenceClassification"
    else:
        model = transformers.BertModel(config, add_pooling_layer=False)
        tensors = dict(model.state_dict())
        arch = "BertModel"
    if task == "colbert":
        projection = torch.nn.Parameter(torch.randn(WIDTH, config.hidden_size) * 0.2)
        tensors = {"bert." + k: v for k, v in tensors.items()}
        tensors["linear.weight"] = projection.detach()
        arch = "HF_ColBERT"
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder + "/model.safetensors")
    with open(folder + "/config.json", "w") as f:
        json.dump({**config.to_dict(), "architectures": [arch], "dtype": "float32"}, f)
    if task == "colbert":
        with open(folder + "/artifact.metadata", "w") as f:
            json.dump({"dim": WIDTH, "query_maxlen": QUERY_ROWS, "doc_maxlen": 64,
                       "mask_punctuation": False, "attend_to_mask_tokens": False,
                       "similarity": "cosine"}, f)
    elif os.path.exists(folder + "/artifact.metadata"):
        os.remove(folder + "/artifact.metadata")
    return model, projection


def ours(mrc, task, loss, folder, out):
    command = [mrc, "train", "--task", task, "--loss", loss, "--model_name_or_path", folder,
               "--train_file", folder + "/lists.jsonl", "--output_dir", out,
               "--per_device_train_batch_size", str(QUESTIONS), "--num_negatives", str(NEGATIVES),
               "--max_steps", str(STEPS), "--learning_rate", "1e-3", "--lr_scheduler_type",
               "constant", "--warmup_steps", "0", "--weight_decay", "0", "--max_grad_norm", "1",
               "--logging_steps", "1", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{task} {loss}: {done.stderr}")
    with open(out + "/log.jsonl", encoding="utf8") as f:
        rows = [json.loads(line) for line in f]
    return [r["train/loss"] for r in rows if "train/loss" in r]


def theirs(task, loss, model, projection, words, lists):
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    model.train()
    parameters = list(model.parameters()) + ([projection] if projection is not None else [])
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
    passages = [p for x in lists for p in x["pos"] + x["neg"]]
    out = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        z = scores_of(Encoder(task, model, projection, words), lists, passages,
                      1 if loss == "margin_mse" else 20)
        value = loss_of(loss, z, lists, passages)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        out.append(float(value.detach()))
    return out


def main():
    mrc = sys.argv[1] if len(sys.argv) > 1 else "build/mrc"
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as top:
        for seed in (1, 2):
            folder = f"{top}/model{seed}"
            config, words, lists = make(folder, seed)
            for task, loss in CASES:
                model, projection = start(task, config, folder, seed)
                a = ours(mrc, task, loss, folder, f"{top}/{task}-{loss}-{seed}")
                b = theirs(task, loss, model, projection, words, lists)
                worst = max((abs(x - y) / max(abs(y), b[0] / 10) for x, y in zip(a, b)), default=float("nan"))
                good = len(a) == len(b) == STEPS and worst <= BAR
                failed += not good
                print(json.dumps({"task": task, "loss": loss, "seed": seed, "first": b[0],
                                  "last": b[-1], "largest_difference": worst,
                                  "within": good}), flush=True)
                if not good:
                    print("  ours  ", a, "\n  theirs", b)
    return failed > 0


try:
    import torch
    import torch.nn.functional as F
    import transformers
    from safetensors.torch import save_file
except ImportError as missing:
    print(f"SKIP: {missing.name} is not installed")
    sys.exit(0)
sys.exit(main())
