#!/usr/bin/env python3
"""Trains a small reader of every family on data/ from random weights, and prints a table.

usage: train_families.py [--build build] [--epochs N] [--head NAME] [--learning_rate X] [--work DIR]
                         [FAMILY..]

Each family has the size of the demo's encoder (two layers of 64) and the tokenizer of its kind, made
of the demo's vocabulary: WordPiece as it is, Unigram or BPE with the same pieces.  `train` starts
from config.json alone, `predict` answers the held-out questions of data/validation.jsonl, `evaluate`
counts them.  For each family a line with tabs: family, tokenizer, parameters, exact match, F1,
seconds of training.  Below 0.9 exact match a family has failed.  Last line: N passed, N failed.
Nothing but Python and the programs is needed.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(ROOT, "data")
BAR = 0.9
EPOCHS = {"modernbert": 5}          # the others: 3
MARK = "\u2581"
SIZE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
            max_position_embeddings=256, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            initializer_range=0.1)
REL = dict(SIZE, relative_attention=True, type_vocab_size=0, position_biased_input=False)
# model_type, the tokenizer's kind, what config.json says
FAMILIES = {
    "roberta": ("roberta", "byte-level BPE", dict(SIZE, type_vocab_size=1)),
    "bert": ("bert", "WordPiece", dict(SIZE, type_vocab_size=2)),
    "xlm-roberta": ("xlm-roberta", "Unigram", dict(SIZE, type_vocab_size=1)),
    "camembert": ("camembert", "Unigram", dict(SIZE, type_vocab_size=1)),
    "electra": ("electra", "WordPiece", dict(SIZE, type_vocab_size=2, embedding_size=32)),
    "distilbert": ("distilbert", "WordPiece", dict(
        dim=64, n_layers=2, n_heads=4, hidden_dim=128, max_position_embeddings=256, dropout=0.0,
        attention_dropout=0.0, qa_dropout=0.0, initializer_range=0.1)),
    "albert": ("albert", "Unigram", dict(SIZE, type_vocab_size=2, embedding_size=32)),
    "mpnet": ("mpnet", "WordPiece", dict(SIZE)),
    "deberta-v3": ("deberta-v2", "Unigram", dict(
        REL, pos_att_type=["p2c", "c2p"], share_att_key=True, norm_rel_ebd="layer_norm",
        position_buckets=32)),
    "deberta-v2": ("deberta-v2", "Unigram", dict(
        REL, pos_att_type=["p2c", "c2p"], position_buckets=32, conv_kernel_size=3,
        conv_act="gelu")),
    "deberta": ("deberta", "byte-level BPE", dict(REL, pos_att_type=["c2p", "p2c"])),
    "modernbert": ("modernbert", "byte-level BPE", dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=256, global_attn_every_n_layers=3, initializer_range=0.1)),
    "mobilebert": ("mobilebert", "WordPiece", dict(
        SIZE, type_vocab_size=2, embedding_size=32, intra_bottleneck_size=32, intermediate_size=64,
        num_feedforward_networks=2)),
    "splinter": ("splinter", "WordPiece", dict(SIZE, type_vocab_size=2)),
    "big_bird": ("big_bird", "BPE", dict(SIZE, type_vocab_size=2)),
}
IDS = dict(bos_token_id=0, pad_token_id=1, eos_token_id=2)      # of data/vocab.txt
TEMPLATE = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
SECOND = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]


def byte_alphabet():
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return {b: chr(b if b in own else 256 + sum(x not in own for x in range(b))) for b in range(256)}


def bpe(words, more):
    """A BPE whose merges lead to each of these words, all prefixes of which are tokens too."""
    vocab = dict.fromkeys(more)
    for word in words:
        vocab.update(dict.fromkeys(word[:k] for k in range(1, len(word) + 1)))
    vocab.update(dict.fromkeys(c for word in words for c in word))
    merges = [[word[:k], word[k:]] for word in vocab for k in range(1, len(word))
              if word not in more and word[:k] in vocab and word[k:] in vocab]
    return {"type": "BPE", "unk_token": more[3], "fuse_unk": True, "byte_fallback": False,
            "merges": merges, "vocab": {word: i for i, word in enumerate(vocab)}}


def tokenizer(kind, words):
    """tokenizer.json of this kind with the pieces of a WordPiece vocabulary."""
    special = [word for word in words if re.fullmatch(r"\[[A-Z]+\]", word)]
    texts = [w[2:] if w[:2] == "##" else MARK + w for w in words if w not in special]
    texts = list(dict.fromkeys(texts + [MARK] + sorted({c for t in texts for c in t})))
    pre = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True}
    if kind == "Unigram":           # equal scores: the fewest pieces
        model = {"type": "Unigram", "unk_id": special.index("[UNK]"), "byte_fallback": False,
                 "vocab": [[x, 0.0] for x in special] + [[t, -1.0 - (len(t) < 2)] for t in texts]}
        size = len(model["vocab"])
    elif kind == "BPE":
        model = bpe(texts, special)
        size = len(model["vocab"])
    else:
        alphabet = byte_alphabet()
        level = ["".join(alphabet[b] for b in t.replace(MARK, " ").encode()) for t in texts]
        model = bpe(level, special + list(alphabet.values()))
        size = len(model["vocab"])
        pre = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    added = [{"id": i, "content": x, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, x in enumerate(special)]
    template = {"type": "TemplateProcessing", "single": TEMPLATE, "pair": TEMPLATE + SECOND,
                "special_tokens": {x: {"id": x, "ids": [special.index(x)], "tokens": [x]}
                                   for x in ("[CLS]", "[SEP]")}}
    if kind == "byte-level BPE":    # offsets without the space before a word, as RoBERTa's
        template = {"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}, template]}
    return size, {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
                  "normalizer": None, "pre_tokenizer": pre, "post_processor": template,
                  "decoder": None, "model": model}


def make(name, folder):
    """config.json and the tokenizer."""
    model_type, kind, numbers = FAMILIES[name]
    os.makedirs(folder)
    with open(os.path.join(DATA, "vocab.txt"), encoding="utf-8") as f:
        words = f.read().splitlines()
    config = dict(model_type=model_type, **numbers, **IDS)
    if model_type == "splinter":
        words.append("[QUESTION]")
        config["question_token_id"] = len(words) - 1
    size = len(words)
    if kind == "WordPiece":
        with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as f:
            f.writelines(word + "\n" for word in words)
    else:
        size, j = tokenizer(kind, words)
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
            json.dump(j, f, ensure_ascii=False)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(dict(config, vocab_size=size), f)
    with open(os.path.join(DATA, "tokenizer_config.json"), encoding="utf-8") as f:
        settings = json.load(f)
    if model_type == "splinter":
        settings.update(tokenizer_class="SplinterTokenizer", question_token="[QUESTION]")
    elif kind != "WordPiece":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump(settings, f)


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout


def train(name, a, work):
    source, model = os.path.join(work, name), os.path.join(work, name + ".model")
    valid = os.path.join(DATA, "validation.jsonl")
    make(name, source)
    head = ["--head", a.head] if a.head == "linear" else [
        "--head", a.head, "--num_rnn_layers", "2", "--rnn_hidden_size", "64", "--rnn_dropout", "0"]
    begun = time.time()
    run([os.path.join(a.build, "train"), "--config_name", os.path.join(source, "config.json"),
         "--tokenizer_name", source, "--train_file", os.path.join(DATA, "train.jsonl"),
         "--output_dir", model, *head, "--per_device_train_batch_size", "8", "--learning_rate",
         str(a.learning_rate), "--lr_scheduler_type", "linear", "--warmup_steps", "0",
         "--weight_decay", "0", "--max_grad_norm", "1", "--num_train_epochs",
         str(a.epochs or EPOCHS.get(name, 3)),
         "--logging_steps", "500", "--save_steps", "100000", "--seed", "1",
         *(["--max_steps", str(a.max_steps)] if a.max_steps else [])])
    seconds = time.time() - begun
    out = os.path.join(work, name + ".out")
    run([os.path.join(a.build, "predict"), "--model_name_or_path", model, "--test_file", valid,
         "--output_dir", out])
    scores = json.loads(run([os.path.join(a.build, "evaluate"), "--metric", "korquad", valid,
                             os.path.join(out, "predictions.json")]))
    size = os.path.getsize(os.path.join(model, "model.safetensors")) // 4
    for folder in (source, model, out):
        shutil.rmtree(folder)
    return size, scores["exact_match"] / 100, scores["f1"] / 100, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--epochs", type=float, default=0, help="0: 3, ModernBERT 5")
    parser.add_argument("--max_steps", type=int, default=0)
    parser.add_argument("--head", default="bilstm")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--work", default=None)
    parser.add_argument("families", nargs="*")
    a = parser.parse_args()
    passed = failed = 0
    print("family\ttokenizer\tparameters\texact match\tF1\tseconds", flush=True)
    with tempfile.TemporaryDirectory(dir=a.work) as work:
        for name in a.families or FAMILIES:
            try:
                size, match, f1, seconds = train(name, a, work)
            except RuntimeError as e:
                failed += 1
                print(f"{name}\t{FAMILIES[name][1]}\tfailed: {e}", flush=True)
                continue
            good = match >= BAR
            passed, failed = passed + good, failed + (not good)
            print(f"{name}\t{FAMILIES[name][1]}\t{size}\t{match:.3f}\t{f1:.3f}\t{seconds:.0f}",
                  flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
