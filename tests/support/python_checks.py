"""Checks of tools/mrc.py: python_checks.py MODEL INDEX FOLDER, where MODEL is a reader over the
demo's vocabulary, INDEX an index of FOLDER/passages.jsonl, and FOLDER has what the programs printed for
FOLDER/questions.jsonl.  tests/cli/test_python.sh makes all three.  The last line is the count."""
import gc
import json
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import mrc  # noqa: E402

model, index, folder = sys.argv[1:4]
counts = [0, 0, 0]


def check(good, what):
    counts[not good] += 1
    if not good:
        print("FAIL %s" % (what,))


def raises(kind, text, call, *args, **options):
    try:
        call(*args, **options)
    except kind as e:
        check(text in str(e), "%r is not in %r" % (text, str(e)))
        return
    check(False, "no %s: %s" % (kind.__name__, text))


def load(name):
    with open(os.path.join(folder, name), encoding="utf8") as f:
        return [json.loads(line) for line in f] if name.endswith("l") else json.load(f)


rows = load("questions.jsonl")
questions, contexts = [r["question"] for r in rows], [r["context"] for r in rows]


# --------------------------------------------------------------------------------------------------
# The pipeline, against what predict --postprocess pipeline wrote
# --------------------------------------------------------------------------------------------------
qa = mrc.pipeline("question-answering", model=model)
for name, options in (("one", {"top_k": 1}), ("five", {"top_k": 5}),
                      ("none", {"top_k": 5, "handle_impossible_answer": True})):
    expected = load(name + "/nbest_predictions.json")
    got = qa(question=questions, context=contexts, max_seq_len=64, doc_stride=16, **options)
    check(len(got) == len(rows), "as many answers as questions")
    for row, answers in zip(rows, got):
        answers = [answers] if isinstance(answers, dict) else answers
        check(answers == expected[row["id"]], "%s: %s" % (name, row["id"]))
        for a in answers:
            check(row["context"][a["start"]:a["end"]] == a["answer"], "text of %s" % row["id"])

first = qa(question=questions[0], context=contexts[0])
check(sorted(first) == ["answer", "end", "score", "start"], "keys %s" % sorted(first))
check(qa(questions[0], contexts[0]) == first, "two texts")
check(qa({"question": questions[0], "context": contexts[0]}) == first, "a dict")
check(qa([{"question": questions[0], "context": contexts[0]}]) == first, "a list of one dict")
check(qa(question=[questions[0]], context=[contexts[0]]) == first, "a list of one")
two = qa(question=questions[:2], context=contexts[0])
check(isinstance(two, list) and len(two) == 2 and two[0] == first, "one passage for two questions")
check(qa([{"question": q, "context": c} for q, c in zip(questions[:3], contexts)])
      == qa(question=questions[:3], context=contexts[:3]), "a list of dicts")
check(qa(question=questions[0], context=contexts[0], topk=3)
      == qa(question=questions[0], context=contexts[0], top_k=3), "topk")
check(mrc.pipeline(model=model, top_k=3)(questions[0], contexts[0])
      == qa(questions[0], contexts[0], top_k=3), "defaults of the pipeline")
tokens = qa(questions[0], contexts[0], top_k=20, align_to_words=False)
check(all(a["score"] >= b["score"] for a, b in zip(tokens, tokens[1:])), "in order")
none = qa(questions[0], contexts[0], top_k=20, handle_impossible_answer=True)
check(any(a["answer"] == "" and a["start"] == a["end"] == 0 for a in none), "no answer is there")

raises(mrc.Error, "question", qa, question="", context="x")
raises(mrc.Error, "context", qa, {"question": "x"})
# What is no text at all is an error of the module's, not of its lines.
for wrong in (3, None, b"x", 1.5):
    name = type(wrong).__name__
    raises(mrc.Error, "missing" if wrong is None else name, qa, question=wrong, context="x")
    raises(mrc.Error, "missing" if wrong is None else name, qa, question=["x"], context=wrong)
    raises(mrc.Error, name, qa.reader.answer, wrong, "x")
    raises(mrc.Error, name, qa.reader.answer, "x", [wrong])
    raises(mrc.Error, name, mrc.Tokenizer(model), wrong)
    raises(mrc.Error, name, mrc.Index(index).search, wrong, 1)
raises(mrc.Error, "int", qa, 3)
raises(mrc.Error, "top_k", qa, "x", "y", top_k=0)
raises(mrc.Error, "max_answer_len", qa, "x", "y", max_answer_len=0)
raises(mrc.Error, "doc_stride", qa, "x", "y", doc_stride=100, max_seq_len=64)
raises(mrc.Error, "not as many", qa, question=["x", "y"], context=["z"])
raises(mrc.Error, "no room", qa, "? " * 300, "y", max_seq_len=64, doc_stride=16)
raises(mrc.Error, "alone", qa, "\ud800", "y")
raises(mrc.Error, "windows", qa, "x", "y", max_seq_len=100000)
raises(TypeError, "frobnicate", qa, "x", "y", frobnicate=1)
raises(mrc.Error, "no such", mrc.pipeline, "question-answering", model="no/such/folder")
raises(mrc.Error, "summarization", mrc.pipeline, "summarization", model=model)
check(qa(questions[0], contexts[0]) == first, "as good as new after errors")

# --------------------------------------------------------------------------------------------------
# Reader, Tokenizer, Index against predict, tok, search
# --------------------------------------------------------------------------------------------------
reader = mrc.Reader(model)
expected = load("squad/nbest_predictions.json")
for row, a in zip(rows, reader(questions, contexts)):
    e = expected[row["id"]][0]
    check(a["answer"] == e["text"] and a["score"] == e["probability"], "Reader: %s" % row["id"])
    check(len(a["n_best"]) == len(expected[row["id"]]), "n_best of %s" % row["id"])
raises(mrc.Error, "n_best_size", reader, "x", "y", n_best_size=10 ** 9)
raises(mrc.Error, "postprocess", reader, "x", "y", postprocess="other")

tok = mrc.Tokenizer(model)
for row, e in zip(load("texts.jsonl"), load("tok.jsonl")):
    ids, offsets, types = tok(row["text"], row["text_pair"])
    check(ids == e["input_ids"] and types == e["token_type_ids"]
          and [list(o) for o in offsets] == e["offset_mapping"], "tok: %s" % row["text"])
    again = tok(row["text"], pair=row["text_pair"])
    check(again["input_ids"] == ids and again.tokens == e["tokens"]
          and again.sequence_ids == e["sequence_ids"] and dict(again)["offsets"] == offsets,
          "by name: %s" % row["text"])
check(len(tok.windows(questions[0], contexts[0], max_length=32, stride=8,
                      truncation="only_second")) > 1, "windows")
check(tok([questions[0], "x"])[1] == tok("x"), "a list of texts")
raises(mrc.Error, "text", tok.windows, 5)

ix = mrc.Index(index)
run = {}
with open(os.path.join(folder, "run.trec"), encoding="utf8") as f:
    for line in f:
        qid, _, doc, _, score, _ = line.split()
        run.setdefault(qid, []).append((doc, float(score)))
for row, hits in zip(rows, ix.search(questions, top_k=5)):
    check([(h["id"], h["score"]) for h in hits] == run[row["id"]], "search: %s" % row["id"])
texts = {p["id"]: p["text"] for p in load("passages.jsonl")}
check(all(texts[h["id"]] == h["text"] for h in ix.search(questions[0], top_k=3)), "passages")
raises(mrc.Error, "top_k", ix.search, "x", top_k=0)
raises(mrc.Error, "method", mrc.Index, index, method="other")
raises(mrc.Error, "retriever", mrc.Index, index, retriever="other")
raises(mrc.Error, "words only", mrc.Index, index, retriever="hybrid")
raises(mrc.Error, "vectors.bin", mrc.Index, index, retriever="dense")

staged = os.path.join(folder, "staged")
for name, options in (("dense", {}), ("colbert", {}), ("hybrid", {}),
                      ("reranked", {"retriever": "hybrid", "rerank_top_k": 4,
                                    "reranker": os.path.join(folder, "vectors")}),
                      ("weighted", {"retriever": "hybrid", "rerank_top_k": 4, "rerank_weight": 0.3,
                                    "reranker": os.path.join(folder, "vectors")})):
    with open(os.path.join(folder, name + ".trec"), encoding="utf8") as f:
        lines = [line.split() for line in f]
    stages = mrc.Index(staged, **dict({"retriever": name, "threads": 2}, **options))
    for row, hits in zip(rows, stages.search(questions, top_k=5)):
        want = [(x[2], float(x[4])) for x in lines if x[0] == row["id"]]
        check([(h["id"], h["score"]) for h in hits] == want, "%s: %s" % (name, row["id"]))
    if name == "reranked":
        check({"bm25", "dense", "colbert", "fused", "rerank"} <= {key for h in hits for key in h},
              "scores of stages")
        check("rerank" not in hits[4], "the fifth of four reranked")
    if name == "weighted":
        def zscores(key):
            values = [h[key] for h in hits[:4]]
            mean = sum(values) / 4
            deviation = (sum((v - mean) ** 2 for v in values) / 4) ** 0.5
            return [(v - mean) / deviation for v in values]
        for h, below, above in zip(hits, zscores("fused"), zscores("rerank")):
            check(abs(h["score"] - 0.7 * below - 0.3 * above) < 1e-12, "a share of the reranker's")
    stages.close()
raises(mrc.Error, "rerank_weight", mrc.Index, staged, rerank_weight=1.5)

try:
    import numpy
except ImportError:
    print("SKIP: no numpy")
    counts[2] += 1
else:
    check(qa(question=numpy.array(questions[:2]), context=numpy.array(contexts[:2]))
          == qa(question=questions[:2], context=contexts[:2]), "arrays of numpy")

# --------------------------------------------------------------------------------------------------
# Threads, garbage, forks
# --------------------------------------------------------------------------------------------------
expected = qa(question=questions, context=contexts)
results = [None] * 8


def work(k):
    results[k] = qa(question=questions, context=contexts)


threads = [threading.Thread(target=work, args=(k,)) for k in range(len(results))]
for t in threads:
    t.start()
for t in threads:
    t.join()
check(all(r == expected for r in results), "eight threads")

for _ in range(20):
    a = mrc.Tokenizer(model)
    a.self = a                          # a cycle: only the collector finds it
    finalizer = a._finalizer
    del a
    gc.collect()
    check(not finalizer.alive, "freed by the collector")
temporary = mrc.Reader(model)
temporary.close()
check(temporary(questions[0], contexts[0])["answer"] == reader(questions[0], contexts[0])["answer"],
      "opened again after close")


def child():
    """The forked process has none of the threads, and locks as they were."""
    ok = qa(question=questions, context=contexts) == expected
    ok = ok and mrc.pipeline(model=model)(questions[0], contexts[0]) == first
    return ok and tok("x")[0] == mrc.Tokenizer(model)("x")[0]


if hasattr(os, "fork"):
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            qa(question=questions, context=contexts)

    other = threading.Thread(target=busy)
    other.start()
    for _ in range(3):                  # while another thread is in a call
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if child() else 1)
            finally:
                os._exit(2)
        check(os.waitpid(pid, 0)[1] == 0, "a forked child answers")
    stop.set()
    other.join()
    check(qa(question=questions, context=contexts) == expected, "and so does its parent")

environment = dict(os.environ, MRC_LIBRARY="/no/such/libmrc.so")
broken = subprocess.run([sys.executable, "-c", "import sys; sys.path.insert(0, %r); import mrc\n"
                         "try: mrc.version()\nexcept mrc.Error as e: print(e)" % sys.path[0]],
                        env=environment, stdout=subprocess.PIPE, universal_newlines=True)
check("/no/such/libmrc.so" in broken.stdout, "no library: %s" % broken.stdout)

print("%d passed, %d failed, %d skipped" % tuple(counts))
sys.exit(counts[1] > 0)
