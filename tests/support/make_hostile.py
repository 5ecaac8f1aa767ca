#!/usr/bin/env python3
"""Writes tests/support/hostile_calls.inc from mrc.h: for each public function calls in which one argument after the
other is what no caller should give, the others being good.  usage, in the repository's root: make_hostile.py"""
import re

OUT = "tests/support/hostile_calls.inc"
text = open("mrc.h", encoding="utf-8").read()
text = text[text.index("#ifndef MRC_H"):text.index("// >>impl.passes")]
text = re.sub(r"//[^\n]*", "", text)
ENUMS = set(re.findall(r"typedef enum (mrc_\w+)", text))
functions = []
for head in re.findall(r"^MRCDEF (?:__attribute__\(\(.*?\)\)\s*)?([^;{]*?\));", text, re.S | re.M):
    head = " ".join(head.split())
    m = re.match(r"(.*?)\b(mrc_\w+)\((.*)\)$", head)
    functions.append((m.group(1).strip(), m.group(2), m.group(3)))

NUMBERS = {"size_t": ["0", "1", "SIZE_MAX", "SIZE_MAX / 2 + 1"], "uint64_t": ["0", "UINT64_MAX"],
           "uint32_t": ["0", "UINT32_MAX"], "int": ["0", "-1", "99", "INT_MAX"], "int32_t": ["-1", "INT32_MIN", "INT32_MAX"],
           "double": ["NAN", "INFINITY", "-1.0", "0.0", "1e308"]}
# How many elements an array has, the caller alone knows: too many cannot be survived, none can.
COUNTS = {"n", "bytes", "text_bytes", "pair_bytes", "n_in", "n_models", "n_answers", "n_runs", "n_judged", "capacity"}
GOOD = {  # by "function.parameter", "type name" or type
    "mrc_json_parse.bytes": "2", "mrc_json_parse.text": "\"[]\"",
    "mrc_json_parse.max_depth": "8", "const char *path": "H.path", "const char *name": "\"name\"",
    "const char *pooling": "\"mean\"", "const char *s": "H.text",
    "const char *text": "H.text", "const char *pair": "H.text", "const char *key": "\"a\"", "const void *data": "H.text",
    "const char *token": "\"[UNK]\"", "const char *output_dir": "H.path", "const char *tokenizer_dir": "\"data\"",
    "const char *state": "\"{}\"", "const char *prediction": "H.text", "const char *text_key": "\"text\"",
    "const char *module_name": "\"m\"", "const char *fmt": "\"%d\"", "mrc_ctx *": "H.ctx", "size_t": "1", "double": "0.5",
    "int": "0", "int32_t": "0", "uint32_t": "1", "uint64_t": "1", "mrc_tensor *": "H.t", "mrc_tensor *denominator": "H.one",
    "mrc_tensor *targets": "H.targets", "mrc_tensor *word": "H.t", "mrc_tensor *bias": "H.v", "mrc_tensor *weight": "H.t",
    "mrc_layer_norm.weight": "H.v", "mrc_add_norm.weight": "H.v", "mrc_tensor *alpha": "H.v", "const mrc_batch *": "&H.batch",
    "mrc_backward.y": "H.one", "mrc_mark": "(mrc_mark){ 1 }", "mrc_random": "(mrc_random){ 1, 1, 0 }", "mrc_backend *": "H.be",
    "mrc_backend *like": "H.be", "mrc_params *": "H.params", "mrc_model *": "H.model", "mrc_optimizer *": "H.optimizer",
    "mrc_tokenizer *": "H.tok", "mrc_dataset *": "H.dataset", "mrc_features *": "&H.features", "mrc_index *": "H.index",
    "mrc_searcher *": "H.searcher", "mrc_passages *": "H.passages", "mrc_reader *": "H.reader", "mrc_dense *": "H.dense",
    "mrc_json *": "H.json", "mrc_weights *": "H.st", "mrc_weights *": "H.st", "mrc_st_entry *": "H.entry", "mrc_text *": "&H.room",
    "mrc_file_writer *": "H.writer", "mrc_vectors *": "&H.vectors", "mrc_vectors *queries": "&H.vectors",
    "mrc_dense_score.passages": "H.passage_ids", "const int32_t *": "H.ids", "const float *": "H.floats",
    "mrc_rank_add.sum": "&H.rank", "mrc_fuse.runs": "H.runs", "mrc_fuse.out": "H.hits", "mrc_tensor_new.shape": "H.shape",
    "mrc_param_new.shape": "H.shape", "mrc_param_new.ndim": "2", "mrc_tensor_new.ndim": "2", "mrc_utf8_decode.bytes": "4",
    "mrc_kfold.k": "2", "mrc_kfold.n": "4", "mrc_attention.heads": "1", "mrc_unfold.size": "1", "size_t bytes": "4",
    "size_t text_bytes": "4", "size_t pair_bytes": "4", "mrc_ctx_reserve.bytes": "4096", "mrc_checkpoint_find.capacity": "sizeof H.bytes",
    "mrc_decode.capacity": "8", "const size_t *indices": "H.indices", "size_t *fold": "H.folds", "char *path": "H.bytes",
    "const char *const *": "NULL", "mrc_encoder *": "H.encoder", "mrc_pairs *": "H.pairs",
    "mrc_encoder_encode.list": "H.texts", "mrc_encoder_score.query": "H.texts", "mrc_encoder_score.list": "H.text_list",
    "mrc_encoder_score_pairs.queries": "H.text_list", "mrc_encoder_score_pairs.list": "H.text_list",
    "mrc_encoder_score.scores": "H.scores", "mrc_encoder_score_pairs.scores": "H.scores", "mrc_encoder_encode.out": "hostile_zero()",
    "mrc_contrastive_step.desc": "&H.contrastive", "mrc_contrastive_step.o": "H.encoder_optimizer", "mrc_encoder_new.path": "H.encoder_path",
    "mrc_encoder_config_load.path": "H.encoder_path", "mrc_pairs_load.desc": "&H.pairs_desc", "mrc_pairs_plan.batch": "2",
    "mrc_pairs_plan.num_negatives": "1", "mrc_custom.out": "H.step", "mrc_grad_seed.y": "H.one", "mrc_drop.t": "H.step",
    "mrc_random random": "(mrc_random){ 1, 1, 0 }", "mrc_mark mark": "(mrc_mark){ 1 }", "mrc_fuse.n_runs": "1",
    "mrc_checkpointed.fn": "hostile_segment", "mrc_model_batch.features": "H.feature_list", "mrc_metric_score.answers": "&H.answer",
}
# Functions that free are given something of their own each time, or NULL.
FREES = {"mrc_file_free.data": "NULL", "mrc_dataset_free.d": "hostile_dataset()", "mrc_passages_free.p": "NULL",
         "mrc_index_close.ix": "NULL", "mrc_searcher_free.s": "NULL", "mrc_reader_free.r": "NULL", "mrc_dense_close.d": "NULL",
         "mrc_json_free.root": "hostile_json()", "mrc_weights_close.st": "NULL", "mrc_weights_close.w": "NULL",
         "mrc_backend_free.be": "NULL", "mrc_ctx_free.ctx": "NULL", "mrc_params_free.params": "NULL", "mrc_model_free.m": "NULL",
         "mrc_optimizer_free.o": "NULL", "mrc_tokenizer_free.tok": "NULL", "mrc_features_free.f": "hostile_zero()",
         "mrc_batch_plan_free.p": "hostile_zero()", "mrc_encodings_free.e": "hostile_zero()", "mrc_vectors_free.v": "hostile_zero()",
         "mrc_text_free.t": "hostile_zero()", "mrc_file_writer_commit.w": "hostile_writer()",
         "mrc_file_writer_abort.w": "hostile_writer()", "mrc_encoder_free.e": "hostile_encoder()", "mrc_pairs_free.p": "hostile_pairs()",
         "mrc_pair_plan_free.plan": "hostile_zero()"}


def split(params):
    if params in ("void", ""):
        return []
    out, depth, part = [], 0, ""
    for c in params + ",":
        if c == "," and depth == 0:
            out.append(part.strip())
            part = ""
            continue
        depth += c in "(["
        depth -= c in ")]"
        part += c
    return out


def arguments(function, param):
    """The good value of a parameter, and the hostile ones."""
    if param == "...":
        return "1", []
    m = re.match(r"(.*?\(\*)(\w+)(\)\(.*\))$", param)
    if m:
        return "hostile_%s" % re.sub(r"\W+", "_", m.group(2) + "_" + function), ["NULL"]
    m = re.match(r"(.*?)(\w+)((?:\[\w*\])*)$", param)
    kind, name, array = m.group(1).strip(), m.group(2), m.group(3)
    base = re.sub(r"^const ", "", kind)
    key = function + "." + name
    if key in FREES:
        return FREES[key], ["NULL"]
    good = GOOD.get(key) or GOOD.get(kind + name) or GOOD.get(base + name) or GOOD.get(kind + " " + name) \
        or GOOD.get(base + " " + name)
    if array:
        if "mrc_tensor" in kind:
            return "H.eight", ["NULL", "H.nulls"]
        return ("(char *)" if "char" in kind else "") + "H.numbers", []  # out[4] and the like: C's own promise
    if base in ENUMS:
        return good or "(%s)0" % base, ["(%s)99" % base, "(%s)-1" % base, "(%s)INT_MAX" % base]
    if base in NUMBERS:
        values = NUMBERS[base]
        if name in COUNTS and key not in ("mrc_ctx_reserve.bytes", "mrc_kfold.n"):
            values = ["0"]
        return good or GOOD.get(base) or "1", values
    if "*" not in kind:
        return good or GOOD.get(kind) or "hostile_%s()" % kind, []
    if kind.endswith("**") or kind.endswith("*const *"):
        if good:
            return good, ["NULL"]
        return ("(void *)H.out" if kind.endswith("**") else "(void *)H.list"), ["NULL"]
    hostile = ["NULL"]
    if base == "char *" and kind.startswith("const"):
        hostile += ["\"\"", "\"/proc/absent/x\"", "H.folder", "H.long_text"]
        if name in ("text", "s", "pair", "prediction"):         # as long as the caller says
            hostile = ["NULL"]
    if base == "mrc_ctx *":
        hostile += ["H.bare"]
    if base == "mrc_tensor *":
        hostile += ["H.scalar", "H.i32", "H.f64", "H.rank4", "H.dropped"]
    if good:
        return good, hostile
    if base in GOOD:
        return GOOD[base], hostile
    zero = "hostile_zero()"
    if kind == "void *":
        return ("H.bytes" if name != "user" else "NULL"), hostile
    if base.startswith("mrc_") and base != "mrc_fn *":
        return zero, hostile
    if base in ("size_t *", "double *", "uint32_t *", "uint64_t *", "int64_t *", "int *", "float *", "char *", "void *"):
        return "(void *)H.bytes", hostile
    return zero, hostile


rows, lines, callbacks = [], [], {}
for kind, name, params in functions:
    pairs = [arguments(name, p) for p in split(params)]
    for p, (good, _) in zip(split(params), pairs):
        if good.startswith("hostile_") and "(*" in p:
            callbacks[good] = p
    calls = [[g for g, _ in pairs]]
    for i, (_, hostile) in enumerate(pairs):
        calls += [[h if k == i else g for k, (g, _) in enumerate(pairs)] for h in hostile]
    if len(pairs) > 1:
        calls.append([("NULL" if "NULL" in h else h[0] if h else g) for g, h in pairs])
    lines.append("static void call_%s(size_t i) {" % name)
    lines.append("    switch (i) {")
    for i, values in enumerate(calls):
        call = "%s(%s)" % (name, ", ".join(values))
        macro = {"mrc_status": "STATUS", "void": "DOES", "mrc_tensor *": "TENSOR"}.get(kind, "VALUE")
        own = bool(values) and values[0] in ("H.ctx", "H.encoder", "H.reader")
        lines.append("    case %d: %s(%d, %s); break;" % (i, macro, own, call))
    lines.append("    }")
    lines.append("}")
    rows.append("    { \"%s\", \"%s\", call_%s, %d }," % (name, params.replace("\"", "\\\""), name, len(calls)))

with open(OUT, "w", encoding="utf-8") as f:
    f.write("// Written by tests/support/make_hostile.py from mrc.h: make it again when a signature changes.\n")
    f.write("// clang-format off\n")
    f.write("\n".join(lines))
    f.write("\nstatic const struct hostile_row { const char *name, *parameters; void (*call)(size_t); size_t n; } "
            "hostile_rows[] = {\n")
    f.write("\n".join(rows))
    f.write("\n};\n")
for good, p in callbacks.items():
    print(good, "<-", p)
print(len(rows), "functions,", sum(1 for line in lines if " case " in line), "calls")
