#!/usr/bin/env python3
"""Holds every family of encoders against transformers, both ways, at the width of a base model.

usage: compare_families.py [--build build] [--tokenizer_name DIR] [--train_file F] [--test_file F]
                           [--max_questions N] [--layers 2] [--work DIR] [FAMILY..]

For each family transformers makes a reader of random weights, 768 wide with two layers, and saves
it.  `predict --save_logits` answers with it: the logits must be those of transformers on the same
rows, and each question's answer the one that transformers' logits give.  Then `train --max_steps 2`
starts from it and saves: transformers must open that folder with no weight missing or left over,
and give the logits and answers that predict gives with it.  For each family a line with tabs:
family, questions, the same answers, the largest difference of logits over the largest logit, the
last two again for what train saved.  Last line: N passed, N failed.

Needs torch, transformers and safetensors (4.57.6); without them it says so and ends well.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers as T
    from safetensors.torch import load_file
except ImportError as e:
    print(f"SKIP: {e}: torch, transformers and safetensors are needed")
    raise SystemExit(0)

BAR = 1e-4                          # of the largest logit
BASE = dict(hidden_size=768, num_attention_heads=12, intermediate_size=3072,
            max_position_embeddings=514)
REL = dict(BASE, relative_attention=True, max_relative_positions=-1)
MODERN = dict(hidden_size=768, num_attention_heads=12, intermediate_size=1152,
              attn_implementation="eager")
FAMILIES = {
    "roberta": ("Roberta", dict(BASE, type_vocab_size=1)),
    "bert": ("Bert", BASE),
    "xlm-roberta": ("XLMRoberta", dict(BASE, type_vocab_size=1)),
    "camembert": ("Camembert", dict(BASE, type_vocab_size=1)),
    "electra": ("Electra", dict(BASE, embedding_size=128)),
    "distilbert": ("DistilBert", dict(dim=768, n_heads=12, hidden_dim=3072,
                                      max_position_embeddings=514)),
    "albert": ("Albert", dict(BASE, embedding_size=128)),
    "mpnet": ("MPNet", BASE),
    "deberta-v3": ("DebertaV2", dict(REL, pos_att_type="p2c|c2p", share_att_key=True,
                                     norm_rel_ebd="layer_norm", position_biased_input=False,
                                     type_vocab_size=0, position_buckets=256)),
    "deberta-v2": ("DebertaV2", dict(REL, pos_att_type=["p2c", "c2p"], conv_kernel_size=3,
                                     conv_act="gelu", type_vocab_size=2, position_buckets=256)),
    "modernbert": ("ModernBert", MODERN),
    "mobilebert": ("MobileBert", dict(max_position_embeddings=514)),
    "deberta": ("Deberta", dict(REL, pos_att_type="c2p|p2c", position_biased_input=False,
                                type_vocab_size=0)),
    "splinter": ("Splinter", BASE),
    "big_bird": ("BigBird", dict(BASE, max_position_embeddings=4096)),
}
QUESTION = 104                      # Splinter's token for the question
SPECIAL = dict(pad_token_id="[PAD]", cls_token_id="[CLS]", sep_token_id="[SEP]",
               bos_token_id="[CLS]", eos_token_id="[SEP]")


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"compare_families: {' '.join(command)}\n{done.stderr}")


def make(name, a, folder, vocab):
    kind, numbers = FAMILIES[name]
    layers = "n_layers" if kind == "DistilBert" else "num_hidden_layers"
    ids = {key: a.words.index(word) for key, word in SPECIAL.items()}
    if kind == "Splinter":
        ids["question_token_id"] = QUESTION
    config = getattr(T, kind + "Config")(vocab_size=vocab, **{layers: a.layers}, **numbers, **ids)
    torch.manual_seed(7)
    model = getattr(T, kind + "ForQuestionAnswering")(config)
    with torch.no_grad():           # larger than transformers starts with, so that spans differ
        for n, p in model.named_parameters():
            if p.ndim > 1:
                p.mul_(3)
    model.save_pretrained(folder)
    for file in os.listdir(a.tokenizer_name):
        if file in ("vocab.txt", "tokenizer.json", "tokenizer_config.json",
                    "special_tokens_map.json"):
            shutil.copy(os.path.join(a.tokenizer_name, file), folder)
    if kind == "Splinter":
        words = list(a.words)
        words[QUESTION] = "[QUESTION]"
        with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as f:
            f.write("".join(word + "\n" for word in words))
    return type(model)


def predict(a, folder, out):
    logits = os.path.join(out, "logits.safetensors")
    run([os.path.join(a.build, "predict"), "--model_name_or_path", folder, "--test_file",
         a.test_file, "--output_dir", out, "--save_logits", logits, "--max_seq_length", "384",
         "--doc_stride", "128"])
    return load_file(logits)


def types_of(ours, row, real):
    """The second segment begins with the passage, whose tokens have places."""
    types = torch.zeros(real, dtype=torch.long)
    inside = (ours["offset_mapping"][row, :real, 0] >= 0).nonzero()
    if len(inside):
        types[int(inside[0]):] = 1
    return types


def best(start, end, offsets):
    """The best span as run_qa.py finds it, 20 starts and ends, up to 30 tokens: score, place."""
    found = (-float("inf"), (0, 0))
    for i in start.topk(min(20, len(start))).indices.tolist():
        for j in end.topk(min(20, len(end))).indices.tolist():
            if offsets[i][0] < 0 or offsets[j][0] < 0 or j < i or j - i + 1 > 30:
                continue
            found = max(found, (float(start[i] + end[j]), (offsets[i][0], offsets[j][1])),
                        key=lambda pair: pair[0])
    return found


def differences(model, folder, ours, a):
    """The largest difference of logits over the largest logit, and how many answers are the same."""
    worst = most = 0.0
    answers = {}
    has_types = (getattr(model.config, "type_vocab_size", 0) or 0) > 1
    for row in range(len(ours["input_ids"])):
        real = int(ours["attention_mask"][row].sum())
        args = {"input_ids": ours["input_ids"][row, :real][None]}
        if has_types:
            args["token_type_ids"] = types_of(ours, row, real)[None]
        with torch.no_grad():
            out = model(**args)
        theirs = torch.stack([out.start_logits[0], out.end_logits[0]])
        got = torch.stack([ours["start_logits"][row, :real], ours["end_logits"][row, :real]])
        seen = theirs.abs() < 1e5                   # BigBird lowers the question's by a million
        worst = max(worst, (theirs - got)[seen].abs().max().item())
        most = max(most, theirs[seen].abs().max().item())
        one = best(*theirs, ours["offset_mapping"][row, :real].tolist())
        example = int(ours["example_index"][row])
        answers[example] = max(answers.get(example, one), one, key=lambda pair: pair[0])
    with open(os.path.join(folder, "predictions.json"), encoding="utf-8") as f:
        predicted = json.load(f)
    same = sum(predicted[key] == context[answers[k][1][0]:answers[k][1][1]]
               for k, (key, context) in enumerate(a.questions))
    return worst / most, same


def compare(name, a, work):
    hf, out = os.path.join(work, name, "hf"), os.path.join(work, name, "predicted")
    trained = os.path.join(work, name, "trained")
    reader = make(name, a, hf, a.vocab)
    ours = predict(a, hf, out)
    off, same = differences(reader.from_pretrained(hf).eval(), out, ours, a)
    run([os.path.join(a.build, "train"), "--model_name_or_path", hf, "--train_file", a.train_file,
         "--output_dir", trained, "--max_steps", "2", "--per_device_train_batch_size", "2",
         "--max_seq_length", "128", "--doc_stride", "32", "--learning_rate", "1e-4",
         "--overwrite_output_dir"])
    model, info = reader.from_pretrained(trained, output_loading_info=True)
    left = info["missing_keys"] + info["unexpected_keys"] + info["mismatched_keys"]
    off2, same2 = differences(model.eval(), out, predict(a, trained, out), a)
    n = len(a.questions)
    good = [off <= BAR and same == n, off2 <= BAR and same2 == n and not left]
    shutil.rmtree(os.path.join(work, name))
    print(f"{name}\t{n}\t{same}\t{off:.1e}\t{same2}\t{off2:.1e}\t{left or ''}", flush=True)
    return sum(good), len(good) - sum(good)


def read_questions(a, work):
    """The first questions as a file of lines, in a.test_file; a.questions: ids and passages."""
    with open(a.test_file, encoding="utf-8") as f:
        text = f.read()
    try:                                            # a file of SQuAD, else a row a line
        articles = json.loads(text)["data"]
    except (json.JSONDecodeError, KeyError):
        articles = None
    if articles is not None:
        rows = [dict(id=q["id"], question=q["question"], context=p["context"], answers={
                    "text": [x["text"] for x in q["answers"]],
                    "answer_start": [x["answer_start"] for x in q["answers"]]})
                for article in articles for p in article["paragraphs"]
                for q in p["qas"]]
    else:
        rows = [json.loads(line) for line in text.splitlines()]
    rows = rows[:: max(1, len(rows) // a.max_questions)][: a.max_questions]
    a.questions = [(row["id"], row["context"]) for row in rows]
    a.test_file = os.path.join(work, "test.jsonl")
    with open(a.test_file, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--tokenizer_name", default="data")
    parser.add_argument("--train_file", default="data/train.jsonl")
    parser.add_argument("--test_file", default="data/validation.jsonl")
    parser.add_argument("--max_questions", type=int, default=300)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--work", default=None)
    parser.add_argument("families", nargs="*")
    a = parser.parse_args()
    T.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    work = tempfile.mkdtemp(dir=a.work)
    with open(os.path.join(a.tokenizer_name, "vocab.txt"), encoding="utf-8") as f:
        a.words = f.read().splitlines()
    a.vocab = len(a.words)
    read_questions(a, work)
    passed = failed = 0
    print("family\tquestions\tsame\tapart\tsame saved\tapart saved", flush=True)
    for name in a.families or FAMILIES:
        good, bad = compare(name, a, work)
        passed, failed = passed + good, failed + bad
    shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
