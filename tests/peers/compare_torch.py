#!/usr/bin/env python3
"""Holds our programs against PyTorch: one model directory, the same logits on both sides.

usage: compare_torch.py MODEL_DIR LOGITS.safetensors [--pad_to_max_length]
       compare_torch.py --make DIR --kind roberta|bert --head linear|bilstm --tokenizer_name DIR
                        [--pad_to_max_length] [--seed N]

First form: MODEL_DIR is what train saved (or PyTorch did), LOGITS what
`predict --save_logits LOGITS.safetensors` wrote with it.  The weights are loaded into the modules
of transformers (BiLSTM head: the module of tests/golden/torch_reader.py) with strict=True, run on
the file's rows, and the largest difference is printed.  Exit 1 when the names or shapes do not
fit, or when a logit is off by more than 1e-3 of the largest; 3 for a file that cannot be used.
Rows run at their real lengths, and with their pads if config.json or predict's flag says so.

Second form: writes a small model directory with random weights by PyTorch, for predict to run:

    python3 tests/peers/compare_torch.py --make /tmp/m --kind bert --head bilstm --tokenizer_name data/tok
    build/predict --model_name_or_path /tmp/m --test_file F --output_dir /tmp/o \\
                  --save_logits /tmp/o/logits.safetensors
    python3 tests/peers/compare_torch.py /tmp/m /tmp/o/logits.safetensors

Needs torch, transformers, safetensors; without them it says so and ends well.
"""
import argparse
import json
import os
import shutil
import sys

WARN, BAR = 1e-4, 1e-3              # of the largest logit: what to expect, what fails
ROWS = 8                            # of one PyTorch run
NAMES = ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json")


def fail(path, what):
    print(f"compare_torch: {path}: {what}", file=sys.stderr)
    raise SystemExit(3)


# ---------------------------------------------------------------------------- compare

def token_types(config, logits, row, real, separator):
    """predict saves no types.  BERT's second segment starts with the passage: after the question's
    [SEP], so with the first token that has a place in the passage."""
    types = torch.zeros(logits["input_ids"].shape[1], dtype=torch.long)
    if config.get("type_vocab_size", 2) < 2 or config["model_type"] != "bert":
        return types
    first = None
    if "offset_mapping" in logits:
        inside = (logits["offset_mapping"][row, :real, 0] >= 0).nonzero()
        first = int(inside[0]) if len(inside) else None
    if first is None and separator is not None:
        found = (logits["input_ids"][row, :real] == separator).nonzero()
        first = int(found[0]) + 1 if len(found) else None
    if first is not None:
        types[first:real] = 1
    return types


def separator_of(directory):
    path = os.path.join(directory, "vocab.txt")
    if os.path.exists(path):
        with open(path, encoding="utf8") as f:
            for i, line in enumerate(f):
                if line.rstrip() == "[SEP]":
                    return i
    return None


def runs(mask, padded):
    """Rows that can run together: with pads as the file has them, else by real length, so that
    no row sees a pad: a BiLSTM's logits depend on them."""
    real = mask.sum(1).tolist()
    by_length = {}
    for row, n in enumerate(real):
        by_length.setdefault(mask.shape[1] if padded else n, []).append(row)
    for width, rows in sorted(by_length.items()):
        for i in range(0, len(rows), ROWS):
            yield width, rows[i:i + ROWS]


def read_logits(path):
    try:
        logits = load_file(path)
    except Exception as e:              # whatever safetensors raises for a bad file
        fail(path, f"not readable as safetensors ({e})")
    for name in ("input_ids", "attention_mask", "start_logits", "end_logits"):
        if name not in logits:
            fail(path, f"no tensor {name} (found {', '.join(sorted(logits))})")
        if logits[name].shape != logits["input_ids"].shape:
            fail(path, f"{name} has shape {list(logits[name].shape)}, input_ids "
                       f"{list(logits['input_ids'].shape)}")
    if logits["input_ids"].numel() == 0:
        fail(path, "no rows")
    return logits


def load(directory):
    """None after saying what does not fit."""
    try:
        return torch_reader.load_reader(directory)
    except (OSError, ValueError, SafetensorError) as e:
        fail(directory, e)
    except RuntimeError as e:           # load_state_dict names what is missing or unexpected
        print(f"{directory}: strict loading failed: {e}")
        return None


def differences(reader, config, logits, separator, padded):
    """Largest difference, largest logit, how many logits were compared."""
    padded = padded or bool((config.get("mrc_head") or {}).get("pad_to_max_length"))
    mask, worst, largest, count = logits["attention_mask"], 0.0, 0.0, 0
    for width, rows in runs(mask, padded):
        types = torch.stack([token_types(config, logits, r, int(mask[r].sum()), separator)
                             for r in rows])
        with torch.no_grad():
            out = reader(logits["input_ids"][rows, :width],
                         attention_mask=mask[rows, :width], token_type_ids=types[:, :width])
        real = mask[rows, :width] == 1
        for name in ("start_logits", "end_logits"):
            ours, theirs = logits[name][rows, :width][real], out[name][real]
            if not torch.isfinite(ours).all():
                return float("inf"), float(theirs.abs().max()), count
            worst = max(worst, float((ours - theirs).abs().max()))
            largest = max(largest, float(theirs.abs().max()))
            count += ours.numel()
    return worst, largest, count


def compare(directory, path, padded):
    logits, loaded = read_logits(path), load(directory)
    if not loaded:
        print("0 passed, 1 failed")
        return 1
    reader, module, config = loaded
    top = int(logits["input_ids"].max())
    if top >= config["vocab_size"] or int(logits["input_ids"].min()) < 0:
        fail(path, f"ids reach {top}, the model has {config['vocab_size']} words")
    worst, largest, count = differences(reader, config, logits, separator_of(directory), padded)
    ratio = worst / max(largest, 1e-30)
    bad = int(ratio > BAR)
    verdict = "TOO FAR" if bad else "as expected" if ratio <= WARN else "more than expected"
    print(f"{len(module.state_dict())} tensors loaded strictly; {len(logits['input_ids'])} rows, "
          f"{count} logits")
    print(f"largest difference {worst:.3e}, largest logit {largest:.3e}, ratio {ratio:.1e} "
          f"(expected {WARN:.0e}, bar {BAR:.0e}): {verdict}")
    print(f"{1 - bad} passed, {bad} failed")
    return bad


# ---------------------------------------------------------------------------- make

def make(a):
    vocab = os.path.join(a.tokenizer_name, "vocab.txt")
    if not os.path.exists(vocab):
        fail(vocab, "no such file")
    with open(vocab, encoding="utf8") as f:
        words = [line.rstrip() for line in f]
    if "[PAD]" not in words:
        fail(vocab, "no [PAD] in the vocabulary")
    roberta = a.kind == "roberta"
    # RoBERTa counts positions from pad + 1, so that a model for 512 tokens has 513 + pad of them
    pad = words.index("[PAD]")
    positions = 513 + pad if roberta else 512
    config = {"model_type": a.kind, "vocab_size": len(words), "hidden_size": 48,
              "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 80,
              "max_position_embeddings": positions, "type_vocab_size": 1 if roberta else 2,
              "pad_token_id": pad, "layer_norm_eps": 1e-5 if roberta else 1e-12,
              "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
              "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02}
    if a.head == "bilstm":
        config["mrc_head"] = {"type": "bilstm", "num_layers": 2, "hidden_size": 20, "dropout": 0.2,
                              "pad_to_max_length": a.pad_to_max_length}
    else:
        config["architectures"] = [torch_reader.KINDS[a.kind][1].__name__]
    os.makedirs(a.make, exist_ok=True)
    with open(os.path.join(a.make, "config.json"), "w", encoding="utf8") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    torch.manual_seed(a.seed)
    _, module = torch_reader.new_reader(config)
    torch_reader.fill(module, torch.Generator().manual_seed(a.seed))
    save_file({k: v.clone() for k, v in module.state_dict().items()},
              os.path.join(a.make, "model.safetensors"), metadata={"format": "pt"})
    for name in NAMES:
        source = os.path.join(a.tokenizer_name, name)
        if os.path.exists(source):
            shutil.copyfile(source, os.path.join(a.make, name))
    print(f"{a.make}: {a.kind} with {a.head} head, {len(words)} words, "
          f"{sum(p.numel() for p in module.parameters())} parameters")
    return 0


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ap.add_argument("paths", nargs="*", metavar="MODEL_DIR LOGITS", help="what to compare")
    ap.add_argument("--make", metavar="DIR", help="write a model directory instead")
    ap.add_argument("--kind", choices=("roberta", "bert"), default="roberta")
    ap.add_argument("--head", choices=("linear", "bilstm"), default="linear")
    ap.add_argument("--tokenizer_name", metavar="DIR", help="where vocab.txt and its like are")
    ap.add_argument("--pad_to_max_length", action="store_true", help="run a BiLSTM over pads")
    ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args()
    if a.make and (a.paths or not a.tokenizer_name):
        ap.error("--make needs --tokenizer_name and takes no other paths")
    if not a.make and len(a.paths) != 2:
        ap.error("MODEL_DIR and LOGITS.safetensors are needed")
    raise SystemExit(make(a) if a.make else compare(*a.paths, a.pad_to_max_length))


if __name__ == "__main__":
    try:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save_file
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden"))
        import torch_reader
    except ImportError as e:
        print(f"SKIP: comparing with PyTorch needs torch, transformers, safetensors ({e})")
        print("0 passed, 0 failed, 1 skipped")
        raise SystemExit(0) from None
    main()
