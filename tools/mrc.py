"""mrc: readers, tokenizers and indexes of mrc.h from Python.  Needs build/libmrc.so and no package.

    import mrc
    qa = mrc.pipeline("question-answering", model="out")
    qa(question="who?", context="Ann did it.")      a dict of score, start, end, answer

    mrc.Reader("out")("who?", "Ann did it.")        the answer as `mrc predict` decodes it
    mrc.Tokenizer("out")("who?", "Ann did it.")     input_ids, offsets, token_type_ids
    mrc.Index("wiki").search("who?", top_k=5)       passages, best first
    mrc.Encoder("all-MiniLM-L6-v2").encode(texts)   vectors, as sentence-transformers has them
    mrc.CrossEncoder("reranker").rank("who?", texts)    the texts, best first

The pipeline answers as the one of transformers 4.57.6 does, the last release line that has it.
Positions count characters of Python's strings.  Whatever fails raises mrc.Error.

The library is looked for beside this file, in build/ beside its folder, in lib/ of the prefix it is
installed in, and before all that where MRC_LIBRARY says.

An object may be used by several threads: its calls wait for each other.  After a fork the child
opens what it uses again, as the threads that compute are not forked.
"""
import array
import ctypes
import json
import math
import os
import threading
import weakref
from collections import namedtuple

__all__ = ["CrossEncoder", "Encoder", "Error", "Index", "Reader", "Tokenizer", "pipeline", "version"]


class Error(ValueError):
    """What went wrong, in the library's words."""


# ==================================================================================================
# The library
# ==================================================================================================
class _Reply(ctypes.Structure):
    _fields_ = [("text", ctypes.c_void_p), ("text_bytes", ctypes.c_size_t),
                ("data", ctypes.c_void_p), ("data_bytes", ctypes.c_size_t)]


_library_lock = threading.Lock()
_library = None


def _places():
    here = os.path.dirname(os.path.abspath(__file__))
    if os.environ.get("MRC_LIBRARY"):
        return [os.environ["MRC_LIBRARY"]]
    places, folder = [os.path.join(here, "libmrc.so")], here
    places.append(os.path.join(os.path.dirname(here), "build", "libmrc.so"))
    while os.path.dirname(folder) != folder:        # PREFIX/lib/python3.x/site-packages
        folder = os.path.dirname(folder)
        places.append(os.path.join(folder, "lib", "libmrc.so"))
        places.append(os.path.join(folder, "libmrc.so"))
    return places


def _load():
    global _library
    with _library_lock:
        if _library is not None:
            return _library
        places = _places()
        path = next((p for p in places if os.path.exists(p)), None)
        if path is None:
            raise Error("libmrc.so: not found (looked at %s; ./build.sh makes it, MRC_LIBRARY says "
                        "where it is)" % ", ".join(places[:2]))
        try:
            lib = ctypes.CDLL(path)
            lib.mrc_binding_version.restype = ctypes.c_char_p
        except (OSError, AttributeError) as e:
            raise Error("%s: cannot be used: %s" % (path, e)) from None
        text, size, pointer = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p
        lib.mrc_binding_open.argtypes = [ctypes.POINTER(pointer), text, text, size, text, size]
        lib.mrc_binding_call.argtypes = [pointer, text, size, ctypes.POINTER(_Reply), text, size]
        lib.mrc_binding_release.argtypes = [ctypes.POINTER(_Reply)]
        lib.mrc_binding_release.restype = None
        lib.mrc_binding_close.argtypes = [pointer]
        lib.mrc_binding_close.restype = None
        _library = lib
        return lib


def version():
    """The library's version, as "0.2.0"."""
    return _load().mrc_binding_version().decode()


def _encode(request):
    try:
        # Escapes keep half of a surrogate pair apart from text: the library refuses it.
        return json.dumps(request).encode("ascii")
    except (TypeError, ValueError) as e:
        raise Error("the request cannot be passed on: %s" % e) from None


# Every object of this process, for what a fork leaves.
_objects = weakref.WeakSet()


def _close(lib, handle, pid):
    # In a forked child the threads to be joined do not exist: what the parent made is left alone.
    if os.getpid() == pid:
        lib.mrc_binding_close(handle)


def _path(x):
    return None if x is None else os.fspath(x)


class _Object:
    """A reader, a tokenizer or an index of the library, opened when it is made and after a fork."""

    def __init__(self, kind, path, **options):
        self._kind = kind
        self._options = dict(options, path=os.fspath(path))
        self._lock = threading.Lock()
        self._handle = self._finalizer = None
        with self._lock:
            self._open()
        _objects.add(self)

    def _open(self):
        lib, handle, error = _load(), ctypes.c_void_p(), ctypes.create_string_buffer(2048)
        options = _encode({k: v for k, v in self._options.items() if v is not None})
        if lib.mrc_binding_open(ctypes.byref(handle), self._kind.encode(), options, len(options),
                                error, len(error)):
            raise Error(error.value.decode("utf-8", "replace"))
        self._handle = handle
        self._finalizer = weakref.finalize(self, _close, lib, handle, os.getpid())
        self._finalizer.atexit = False              # threads may still be in a call then

    def _after_fork(self):
        self._lock = threading.Lock()               # another thread may have held it
        if self._finalizer is not None:
            self._finalizer.detach()
        self._handle = self._finalizer = None

    def close(self):
        """Frees what the object holds; using it again opens it again."""
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._handle = self._finalizer = None

    def _call(self, request, data=False):
        """The reply's JSON as Python has it; with data, and the bytes that came with it."""
        text = _encode(request)
        error, reply = ctypes.create_string_buffer(2048), _Reply()
        with self._lock:
            if self._handle is None:
                self._open()
            if _library.mrc_binding_call(self._handle, text, len(text), ctypes.byref(reply), error,
                                         len(error)):
                raise Error(error.value.decode("utf-8", "replace"))
        try:
            result = json.loads(ctypes.string_at(reply.text, reply.text_bytes).decode("utf-8"))
            if not data:
                return result
            return result, ctypes.string_at(reply.data, reply.data_bytes) if reply.data else b""
        finally:
            _library.mrc_binding_release(ctypes.byref(reply))


def _fork_child():
    global _library_lock
    _library_lock = threading.Lock()
    for x in list(_objects):
        x._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fork_child)


def _plain(x):
    """Lists as lists, also where an array was given (of numpy, or whatever has tolist)."""
    if isinstance(x, (str, bytes, dict)):
        return x
    if hasattr(x, "tolist"):
        return x.tolist()
    return list(x) if hasattr(x, "__iter__") else x


def _several(x, what):
    """What stands for texts, as a list."""
    x = _plain(x)
    if not isinstance(x, list):
        raise Error("%s: is no text (found %s)" % (what, type(x).__name__))
    return x


def _texts(x, what):
    if not all(isinstance(s, str) for s in x):
        raise Error("%s: is no text (found %s)" % (what, next(
            type(s).__name__ for s in x if not isinstance(s, str))))
    return x


# ==================================================================================================
# Readers
# ==================================================================================================
class Reader(_Object):
    """A trained reader: a folder that `mrc train` wrote, or Hugging Face's."""

    def __init__(self, model, tokenizer=None, threads=None):
        super().__init__("reader", model, threads=threads,
                         tokenizer=None if tokenizer is None else os.fspath(tokenizer))

    def answer(self, question, context, n_best_size=20, max_answer_length=30,
               version_2_with_negative=False, null_score_diff_threshold=0.0, postprocess="squad",
               max_seq_length=None, doc_stride=None, batch_size=None):
        """The answer to a question from a passage, or a list of them: dicts of answer, start, end,
        score (its probability among the n best), null_score_diff and n_best.

        Windows are those that the reader was trained with, unless max_seq_length and doc_stride say
        otherwise.  postprocess: squad, pipeline or legacy, as of `mrc predict`."""
        one = isinstance(question, str)
        questions = [question] if one else _several(question, "question")
        contexts = [context] * len(questions) if isinstance(context, str) \
            else _several(context, "context")
        replies = self._call({
            "questions": _texts(questions, "question"), "contexts": _texts(contexts, "context"),
            "postprocess": postprocess, "n_best_size": n_best_size,
            "max_answer_length": max_answer_length, "batch_size": batch_size,
            "version_2_with_negative": bool(version_2_with_negative),
            "null_score_diff_threshold": float(null_score_diff_threshold),
            "max_seq_length": max_seq_length, "doc_stride": doc_stride})
        result = []
        for r in replies:
            a = r["answer"]
            result.append({"answer": a["text"], "start": a["start"], "end": a["end"],
                           "score": a["score"], "null_score_diff": r["null_score_diff"],
                           "n_best": r["spans"]})
        return result[0] if one else result

    __call__ = answer


_PIPELINE = {"top_k": 1, "doc_stride": None, "max_answer_len": 15, "max_seq_len": None,
             "max_question_len": 64, "handle_impossible_answer": False, "align_to_words": True,
             "batch_size": None, "padding": None}


class QuestionAnsweringPipeline:
    """Answers as the pipeline of transformers 4.57.6: see pipeline()."""

    def __init__(self, reader, **defaults):
        self.reader = reader
        self._defaults = self._known(defaults)

    @staticmethod
    def _known(given):
        given = {k: v for k, v in given.items() if v is not None}
        if "topk" in given:                         # its older name
            given.setdefault("top_k", given.pop("topk"))
        for k in given:
            if k not in _PIPELINE:
                raise TypeError("the pipeline has no argument %r (expected %s)"
                                % (k, ", ".join(sorted(_PIPELINE))))
        return given

    @staticmethod
    def _example(x):
        if not isinstance(x, dict):
            raise Error("an example is no dict of question and context (found %s)"
                        % type(x).__name__)
        for k in ("question", "context"):
            if k not in x:
                raise Error("an example has no %s" % k)
            if not isinstance(x[k], str):
                raise Error("`%s` is no text (found %s)" % (k, type(x[k]).__name__))
            if not x[k]:
                raise Error("`%s` cannot be empty" % k)
        return x["question"], x["context"]

    def _examples(self, args, question, context):
        if args:
            if len(args) == 2 and all(isinstance(a, str) for a in args):
                inputs = [{"question": args[0], "context": args[1]}]
            else:
                inputs = _plain(args[0]) if len(args) == 1 else list(args)
        elif question is not None and context is not None:
            if isinstance(question, str):
                question = [question]
                if not isinstance(context, str):
                    raise Error("one question needs one context (found a list of them)")
            question = _several(question, "question")
            context = [context] * len(question) if isinstance(context, str) \
                else _several(context, "context")
            if len(question) != len(context):
                raise Error("questions and contexts are not as many (found %d and %d)"
                            % (len(question), len(context)))
            inputs = [{"question": q, "context": c} for q, c in zip(question, context)]
        else:
            raise Error("question and context are missing")
        inputs = [inputs] if isinstance(inputs, dict) else _several(inputs, "question and context")
        return [self._example(x) for x in inputs]

    def __call__(self, *args, question=None, context=None, **options):
        o = dict(_PIPELINE, **dict(self._defaults, **self._known(options)))
        examples = self._examples(args, question, context)
        if o["top_k"] < 1:
            raise Error("top_k parameter should be >= 1 (got %s)" % o["top_k"])
        if o["max_answer_len"] < 1:
            raise Error("max_answer_len parameter should be >= 1 (got %s)" % o["max_answer_len"])
        if o["doc_stride"] is not None and o["doc_stride"] > (o["max_seq_len"] or 384):
            raise Error("`doc_stride` (%s) is larger than `max_seq_len` (%s)"
                        % (o["doc_stride"], o["max_seq_len"] or 384))
        replies = self.reader._call({
            "questions": [q for q, _ in examples], "contexts": [c for _, c in examples],
            "postprocess": "pipeline", "n_best_size": int(o["top_k"]),
            "max_answer_length": int(o["max_answer_len"]),
            "version_2_with_negative": bool(o["handle_impossible_answer"]),
            "align_to_words": bool(o["align_to_words"]), "max_seq_length": o["max_seq_len"],
            "doc_stride": o["doc_stride"], "batch_size": o["batch_size"]})
        result = []
        for (_, text), r in zip(examples, replies):
            if not r["windows"]:
                raise Error("a question is too long: it leaves no room for its passage in windows "
                            "of max_seq_len tokens")
            answers = [{"score": s["score"], "start": s["start"], "end": s["end"],
                        "answer": text[s["start"]:s["end"]]} for s in r["spans"]]
            result.append(answers[0] if len(answers) == 1 else answers)
        return result[0] if len(result) == 1 else result


def pipeline(task="question-answering", model=None, tokenizer=None, threads=None, device=None,
             **defaults):
    """transformers' pipeline("question-answering"), of a folder with a model.

    Called with question and context (texts, or lists of them), or dicts of both, it gives a dict of
    score, start, end and answer, or with top_k a list; of several questions a list of those.  Other
    arguments are those of transformers: doc_stride=128, max_answer_len=15, max_seq_len=384,
    max_question_len=64 (which fast tokenizers do not look at there, nor here),
    handle_impossible_answer=False, align_to_words=True; here they become the defaults."""
    if task != "question-answering":
        raise Error("there is no pipeline %r (expected question-answering)" % (task,))
    if model is None:
        raise Error("the model is missing (expected the folder of one)")
    if device not in (None, -1, "cpu"):
        raise Error("there is no device %r here (expected cpu)" % (device,))
    reader = model if isinstance(model, Reader) else Reader(model, tokenizer, threads)
    return QuestionAnsweringPipeline(reader, **defaults)


# ==================================================================================================
# Tokenizers
# ==================================================================================================
class Encoding(namedtuple("Encoding", "input_ids offsets token_type_ids")):
    """Lists, one element a token; also by name: e["input_ids"].  Special tokens have the offsets
    (0, 0); sequence_ids says None for them, 0 for the text, 1 for its pair."""

    def __getitem__(self, key):
        if isinstance(key, str):
            try:
                return getattr(self, key)
            except AttributeError:
                raise KeyError(key) from None
        return super().__getitem__(key)

    @property
    def offset_mapping(self):
        return self.offsets

    @property
    def attention_mask(self):
        return [1] * len(self.input_ids)

    def keys(self):
        return ["input_ids", "offsets", "token_type_ids"]


class Tokenizer(_Object):
    """A folder's tokenizer, or a tokenizer.json or vocab.txt."""

    def __init__(self, path):
        super().__init__("tokenizer", path)

    def windows(self, text, pair=None, max_length=0, stride=0, truncation="none",
                add_special_tokens=True):
        """All encodings of a text or pair: one, or with truncation only_first or only_second as
        many as it takes, which overlap by `stride` tokens."""
        _texts([text] if pair is None else [text, pair], "text")
        replies = self._call({"text": text, "pair": pair, "max_length": max_length,
                              "stride": stride, "truncation": truncation,
                              "add_special_tokens": bool(add_special_tokens)})
        result = []
        for r in replies:
            flat = r["offsets"]
            e = Encoding(r["input_ids"], list(zip(flat[0::2], flat[1::2])), r["token_type_ids"])
            e.tokens = r["tokens"]
            e.word_ids = [None if i < 0 else i for i in r["word_ids"]]
            e.sequence_ids = [None if i < 0 else i for i in r["sequence_ids"]]
            result.append(e)
        return result

    def __call__(self, text, pair=None, add_special_tokens=True):
        """The Encoding of a text, or of a text and its pair; of a list of texts a list."""
        if not isinstance(text, str):
            texts = _several(text, "text")
            pairs = [None] * len(texts) if pair is None else _several(pair, "pair")
            if len(texts) != len(pairs):
                raise Error("texts and pairs are not as many (found %d and %d)"
                            % (len(texts), len(pairs)))
            return [self(t, p, add_special_tokens) for t, p in zip(texts, pairs)]
        return self.windows(text, pair, add_special_tokens=add_special_tokens)[0]


# ==================================================================================================
# Indexes
# ==================================================================================================
class Index(_Object):
    """Passages of a folder that `mrc index` wrote, found by words (retriever "bm25"), vectors
    ("dense"), token rows ("colbert") or all of them fused ("hybrid"), and ordered again by a
    reranker's folder.  The options are flags of `mrc search`; fusion_depth, ef, rerank_top_k
    and rerank_weight have its defaults, the models are those that made the index."""

    def __init__(self, path, method="elasticsearch", k1=None, b=None, delta=None, threads=None,
                 retriever="bm25", reranker=None, rerank_top_k=None, retrieval_model=None,
                 token_model=None, query_model=None, fusion=None, fusion_depth=None, ef=None,
                 exact=None, any_model=None, rerank_weight=None):
        super().__init__("index", path, method=method, k1=k1, b=b, delta=delta, threads=threads,
                         retriever=retriever, reranker=_path(reranker), rerank_top_k=rerank_top_k,
                         retrieval_model=_path(retrieval_model), token_model=_path(token_model),
                         query_model=_path(query_model), fusion=fusion, fusion_depth=fusion_depth,
                         ef=ef, exact=exact, any_model=any_model, rerank_weight=rerank_weight)

    def search(self, query, top_k=10):
        """The best passages for a query, best first: dicts of id, title, text, score and passage
        (its number), and of each stage's score ("bm25", "dense", "colbert", "fused", "rerank")
        where there is more than words; of a list of queries a list of such lists."""
        one = isinstance(query, str)
        queries = [query] if one else _several(query, "query")
        result = self._call({"queries": _texts(queries, "query"), "top_k": int(top_k)})
        return result[0] if one else result


# ==================================================================================================
# Encoders
# ==================================================================================================
def _floats(data, rows, width):
    """Floats as a numpy array, or without numpy as lists."""
    try:
        import numpy
        return numpy.frombuffer(data, dtype="<f4").reshape(rows, width).copy()
    except ImportError:
        values = array.array("f")
        values.frombytes(data)
        return [values[i * width:(i + 1) * width].tolist() for i in range(rows)]


class Encoder(_Object):
    """Texts into vectors: a directory of sentence-transformers, a plain encoder, DPR or ColBERT."""

    def __init__(self, path, pooling=None, max_length=None, threads=None):
        super().__init__("encoder", path, pooling=pooling, max_length=max_length, threads=threads)
        self._cosine = True

    def encode(self, texts, prompt_name=None, normalize_embeddings=False):
        """One vector a text, as rows of a numpy array where numpy is there; of ColBERT one array of
        token vectors a text.  prompt_name: "query", or "document", "passage", "corpus"; None: no
        prompt but the directory's default."""
        one = isinstance(texts, str)
        side = {None: "none", "query": "query"}.get(prompt_name, "passage")
        if prompt_name not in (None, "query", "document", "passage", "corpus"):
            raise Error("prompt_name: is not known (found %r, expected query or document)"
                        % (prompt_name,))
        texts = [texts] if one else _several(texts, "texts")
        result, data = self._call({"texts": _texts(texts, "texts"), "side": side}, data=True)
        self._cosine = result["similarity"] == "cosine"
        rows = _floats(data, result["rows"], result["width"])
        if normalize_embeddings:
            rows = [[x / max(sum(y * y for y in row) ** 0.5, 1e-12) for x in row] for row in rows] \
                if isinstance(rows, list) else rows / _lengths(rows)
        if result["offsets"]:
            at = result["offsets"]
            rows = [rows[a:b] for a, b in zip(at, at[1:])]
        return rows[0] if one else rows

    def similarity(self, a, b):
        """Of each row of a with each of b: cosine or dot product, as the directory says."""
        import numpy
        a, b = numpy.atleast_2d(a), numpy.atleast_2d(b)
        if self._cosine:
            a, b = a / _lengths(a), b / _lengths(b)
        return a @ b.T


def _lengths(rows):
    import numpy
    return numpy.maximum(numpy.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class CrossEncoder(_Object):
    """Scores of pairs of texts, as sentence-transformers' class of that name."""

    def __init__(self, path, max_length=None, threads=None):
        super().__init__("encoder", path, max_length=max_length, threads=threads)

    def predict(self, pairs, activation="model"):
        """A score for each (query, text).  activation: "model": the directory's; "sigmoid"; None:
        raw logits (of two labels their difference); or a function of a number."""
        pairs = _several(pairs, "pairs")
        one = len(pairs) == 2 and all(isinstance(x, str) for x in pairs)
        pairs = [pairs] if one else [_several(p, "pairs") for p in pairs]
        if any(len(p) != 2 for p in pairs):
            raise Error("pairs: are no two texts (found %d)"
                        % next(len(p) for p in pairs if len(p) != 2))
        result = self._call({"queries": _texts([p[0] for p in pairs], "pairs"),
                             "texts": _texts([p[1] for p in pairs], "pairs")})
        scores = result["scores"]
        if activation == "sigmoid" or (activation == "model" and result["sigmoid"]):
            scores = [1 / (1 + math.exp(-x)) if x > -700 else 0.0 for x in scores]
        elif callable(activation):
            scores = [activation(x) for x in scores]
        elif activation not in ("model", None):
            raise Error("activation: is not known (found %r, expected \"model\", \"sigmoid\", None "
                        "or a function)" % (activation,))
        return scores[0] if one else scores

    def rank(self, query, documents, top_k=None, return_documents=False, activation="model"):
        """The documents, best first: dicts of corpus_id, score and, if asked for, text."""
        documents = _several(documents, "documents")
        scores = self.predict([[query, d] for d in documents], activation) if documents else []
        if len(documents) == 1 and not isinstance(scores, list):
            scores = [scores]
        order = sorted(range(len(documents)), key=lambda i: (-scores[i], i))[:top_k]
        return [dict({"corpus_id": i, "score": scores[i]},
                     **({"text": documents[i]} if return_documents else {})) for i in order]
