#!/usr/bin/env python3
"""tools/mrc.py's pipeline against transformers' own, of 4.57.6, the last that has one.

    compare_pipeline.py MODEL DATA_FILE [--questions 300] [--max_seq_len 384] [--doc_stride 128]

DATA_FILE is SQuAD or KorQuAD JSON.  Every question is asked with top_k 1, 5 and 20, with and
without handle_impossible_answer, and once without align_to_words: answers, starts and ends must be
the same, scores within 1e-6.  Where two neighbours in the list are closer than that, either order is right.
Needs torch and transformers.
"""
import argparse
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
os.environ["HF_HUB_OFFLINE"] = "1"
import mrc  # noqa: E402


def as_list(x):
    return [x] if isinstance(x, dict) else x


def place(a):
    return a["start"], a["end"], a["answer"]


def same(ours, theirs, tolerance):
    """Whether two lists agree, scores to the tolerance, ties of that size in any order; and the
    largest difference of two scores."""
    if len(ours) != len(theirs):
        return False, 0
    worst = max([abs(a["score"] - b["score"]) for a, b in zip(ours, theirs)], default=0)
    if worst > tolerance:
        return False, worst
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if place(a) == place(b):
            continue
        near = [x for x in theirs if abs(x["score"] - a["score"]) <= tolerance]
        last = abs(theirs[-1]["score"] - a["score"]) <= tolerance     # one beyond the cut may tie
        if not (any(place(x) == place(a) for x in near) or last):
            return False, worst
    return True, worst


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("data")
    p.add_argument("--questions", type=int, default=300)
    p.add_argument("--max_seq_len", type=int, default=384)
    p.add_argument("--doc_stride", type=int, default=128)
    args = p.parse_args()
    import torch
    import transformers
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer
    examples = [(q["question"], paragraph["context"])
                for article in json.load(open(args.data, encoding="utf8"))["data"]
                for paragraph in article["paragraphs"] for q in paragraph["qas"]]
    step = max(1, len(examples) // args.questions)
    examples = examples[::step][:args.questions]
    theirs = transformers.pipeline(
        "question-answering", model=AutoModelForQuestionAnswering.from_pretrained(args.model),
        tokenizer=AutoTokenizer.from_pretrained(args.model), device="cpu")
    ours = mrc.pipeline("question-answering", model=args.model)
    settings = [(k, none, True) for k in (1, 5, 20) for none in (False, True)]
    settings.append((5, False, False))
    wrong, exact, worst, n, windows = 0, 0, 0.0, 0, 0
    got = {s: ours(question=[q for q, _ in examples], context=[c for _, c in examples],
                   max_seq_len=args.max_seq_len, doc_stride=args.doc_stride, top_k=s[0],
                   handle_impossible_answer=s[1], align_to_words=s[2]) for s in settings}
    for i, (question, context) in enumerate(examples):
        with torch.no_grad():           # what __call__ does, with one pass for all settings
            outputs = [theirs.forward(x) for x in theirs.preprocess(
                {"question": question, "context": context}, max_seq_len=args.max_seq_len,
                doc_stride=args.doc_stride)]
        windows += len(outputs)
        for s in settings:
            expected = as_list(theirs.postprocess(
                outputs, top_k=s[0], handle_impossible_answer=s[1], align_to_words=s[2]))
            mine = as_list(got[s][i])
            good, difference = same(mine, expected, 1e-6)
            worst = max(worst, difference)
            exact += [place(a) for a in mine] == [place(b) for b in expected]
            n += 1
            if not good:
                wrong += 1
                if wrong < 5:
                    print("differs: question %d, top_k %d, impossible %s, words %s\n  %s\n  %s"
                          % (i, *s, mine[:3], expected[:3]))
    print("transformers %s, %s: %d questions, %d windows, %d lists, %d of them the same places in "
          "the same order, worst difference of a score %.3g" % (
              transformers.__version__, os.path.basename(args.data), len(examples), windows, n,
              exact, worst))
    print("%d passed, %d failed" % (n - wrong, wrong))
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
