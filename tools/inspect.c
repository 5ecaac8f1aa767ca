// inspect: whether the library would take a file, and what it finds there, as one JSON object.
#include "folders.h"

enum { AS_AUTO, AS_SAFETENSORS, AS_TORCH, AS_DATASET, AS_JSON, AS_YAML, AS_TOKENIZER, AS_CONFIG,
       AS_CHECKPOINT, AS_ARROW, AS_RUN, AS_TRAINER };

typedef struct inspect_flags { const char *file; int as, tensors, strict; } inspect_flags;

static int inspect_ends(const char *s, const char *tail) {
    size_t bytes = strlen(s), n = strlen(tail);
    return bytes >= n && strcmp(s + bytes - n, tail) == 0;
}

static int inspect_has(const char *dir, const char *name) {
    char path[TOOL_PATH_BYTES];
    return mrc_path_kind(tool_path(path, dir, name)) == MRC_PATH_FILE;
}

// What a file is by its name, or else by its first bytes.
static int inspect_kind(mrc_ctx *ctx, const char *path) {
    static const struct { const char *tail; int as; } names[] = {
        { ".safetensors", AS_SAFETENSORS }, { ".safetensors.index.json", AS_SAFETENSORS },
        { ".bin.index.json", AS_TORCH }, { "tokenizer.json", AS_TOKENIZER },
        { ".model", AS_TOKENIZER },
        { "vocab.txt", AS_TOKENIZER }, { "config.json", AS_CONFIG }, { ".yaml", AS_YAML },
        { ".yml", AS_YAML }, { ".arrow", AS_ARROW }, { ".jsonl", AS_DATASET }, { ".bin", AS_TORCH },
        { ".pt", AS_TORCH }, { ".pth", AS_TORCH }, { ".ckpt", AS_TORCH },
    };
    if (mrc_path_kind(path) == MRC_PATH_DIR) {
        const tool_folder folder = folder_kind(ctx, path);
        if (folder == FOLDER_CHECKPOINT) return AS_CHECKPOINT;
        if (folder == FOLDER_RUN) return AS_RUN;
        if (folder == FOLDER_TRAINER) return AS_TRAINER;
        if (inspect_has(path, "model.safetensors")) return AS_SAFETENSORS;
        if (inspect_has(path, "model.safetensors.index.json")) return AS_SAFETENSORS;
        if (inspect_has(path, "pytorch_model.bin")) return AS_TORCH;
        if (inspect_has(path, "pytorch_model.bin.index.json")) return AS_TORCH;
        if (inspect_has(path, "state.json") || inspect_has(path, "dataset_dict.json")) {
            return AS_ARROW;
        }
        return inspect_has(path, "config.json") ? AS_CONFIG : AS_TOKENIZER;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (inspect_ends(path, names[i].tail)) return names[i].as;
    }
    char *text;
    size_t bytes;
    tool_want_twice(path);
    tool_check(ctx, mrc_file_read(ctx, &text, &bytes, path));
    int as = AS_JSON;
    if (bytes >= 4 && (!memcmp(text, "PK\3\4", 4) || !memcmp(text, "\x80\2", 2))) as = AS_TORCH;
    if (bytes >= 4 && !memcmp(text, "\xff\xff\xff\xff", 4)) as = AS_ARROW;
    if (bytes >= 9 && text[8] == '{' && !text[7] && !text[6]) as = AS_SAFETENSORS;
    mrc_file_free(ctx, text);
    if (as != AS_JSON) return as;
    // JSON that has "data" or a question, itself or in its first record, is a data set.
    mrc_json *root;
    if (mrc_json_load(ctx, &root, path) != MRC_OK) {
        mrc_ctx_clear_error(ctx);
        return AS_DATASET;
    }
    const mrc_json *row = root->type == MRC_JSON_ARRAY ? root->child : root;
    if (mrc_json_get(root, "data") || mrc_json_get(row, "question")) as = AS_DATASET;
    mrc_json_free(root);
    return as;
}

// A parsed value as JSON, without recursion.
static void inspect_value(mrc_text *t, const mrc_json *v) {
    const mrc_json *open[513];
    size_t depth = 0;
    for (;;) {
        int object = depth > 0 && open[depth - 1]->type == MRC_JSON_OBJECT;
        if (object) {
            mrc_text_json_string(t, v->key, v->key_bytes, 0);
            mrc_text_add(t, ": ", 2);
        }
        if (v->type == MRC_JSON_STRING) mrc_text_json_string(t, v->string, v->bytes, 0);
        else if (v->type == MRC_JSON_NUMBER && v->is_int) {
            mrc_text_printf(t, "%lld", (long long)v->integer);
        } else if (v->type == MRC_JSON_NUMBER) mrc_text_number(t, v->number);
        else if (v->type == MRC_JSON_NULL) mrc_text_add(t, "null", 4);
        else if (v->type == MRC_JSON_TRUE) mrc_text_add(t, "true", 4);
        else if (v->type == MRC_JSON_FALSE) mrc_text_add(t, "false", 5);
        else mrc_text_add(t, v->type == MRC_JSON_OBJECT ? "{" : "[", 1);
        int container = v->type == MRC_JSON_OBJECT || v->type == MRC_JSON_ARRAY;
        if (container && v->child) {
            open[depth++] = v;
            v = v->child;
            continue;
        }
        if (container) mrc_text_add(t, v->type == MRC_JSON_OBJECT ? "}" : "]", 1);
        for (; !v->next; v = open[--depth]) {
            if (depth == 0) return;
            mrc_text_add(t, open[depth - 1]->type == MRC_JSON_OBJECT ? "}" : "]", 1);
        }
        if (depth == 0) return;
        mrc_text_add(t, ", ", 2);
        v = v->next;
    }
}

static void inspect_tree(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a, int as) {
    mrc_json *root;
    tool_check(ctx, as == AS_YAML ? yaml_load(ctx, &root, a->file)
                                  : mrc_json_load(ctx, &root, a->file));
    inspect_value(t, root);
    if (as == AS_YAML) yaml_free(root);
    else mrc_json_free(root);
}

static void inspect_tensor(mrc_ctx *ctx, mrc_text *t, mrc_weights *st, const mrc_st_entry *e) {
    uint32_t crc;
    mrc_text_add(t, "{", 1);
    tool_json_string(t, "name", e->name);
    tool_json_string(t, "dtype", e->dtype);
    tool_json_key(t, "shape");
    mrc_text_add(t, "[", 1);
    for (int i = 0; i < e->ndim; i++) {
        mrc_text_printf(t, i ? ", %llu" : "%llu", (unsigned long long)e->shape[i]);
    }
    mrc_text_add(t, "]", 1);
    tool_json_key(t, "crc32c");
    mrc_status status = mrc_weights_crc32c(st, e, &crc);
    if (status == MRC_OK) mrc_text_printf(t, "%lu", (unsigned long)crc);
    else if (status == MRC_ERR_UNSUPPORTED) mrc_text_add(t, "null", 4);
    else tool_check(ctx, status);
    mrc_ctx_clear_error(ctx);
    mrc_text_add(t, "}", 1);
}

// How many tensors there are, and with --tensors which.
static void inspect_add_tensors(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a,
                                mrc_weights *st) {
    const mrc_st_entry *e;
    size_t n = 0;
    while (mrc_weights_at(st, n)) n++;
    tool_json_integer(t, "tensors", (int64_t)n);
    if (!a->tensors) return;
    tool_json_key(t, "list");
    mrc_text_add(t, "[", 1);
    for (size_t i = 0; (e = mrc_weights_at(st, i)) != NULL; i++) {
        if (i) mrc_text_add(t, ", ", 2);
        inspect_tensor(ctx, t, st, e);
    }
    mrc_text_add(t, "]", 1);
}

// A folder or an index is read as its kind's shards.
static void inspect_weights(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a, int as) {
    mrc_weights *st;
    tool_log_no_notes = a->strict;
    int several = mrc_path_kind(a->file) == MRC_PATH_DIR || inspect_ends(a->file, ".index.json");
    tool_check(ctx, several ? mrc_weights_open(ctx, &st, a->file)
               : as == AS_TORCH ? mrc_torch_open(ctx, &st, a->file)
                                : mrc_safetensors_open(ctx, &st, a->file));
    if (a->strict && mrc_weights_unchecked(st)) {
        tool_fail(TOOL_BAD_INPUT, "%s: records without checksums (found %zu, expected none with "
                  "--strict)", a->file, mrc_weights_unchecked(st));
    }
    tool_json_string(t, "kind", mrc_weights_format(st));
    inspect_add_tensors(ctx, t, a, st);
    mrc_weights_close(st);
}

static void inspect_dataset(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a, int as) {
    mrc_dataset *d;
    const char *reason;
    size_t count, skipped;
    tool_check(ctx, mrc_dataset_load(ctx, &d, a->file));
    if (as == AS_ARROW && strcmp(mrc_dataset_format(d), "arrow") != 0) {
        tool_fail(TOOL_BAD_INPUT, "%s: not an Arrow stream (found %s, expected arrow)", a->file,
                  mrc_dataset_format(d));
    }
    skipped = mrc_dataset_rows(d) - mrc_dataset_size(d);
    tool_json_string(t, "kind", as == AS_ARROW ? "arrow" : "dataset");
    tool_json_string(t, "format", mrc_dataset_format(d));
    tool_json_integer(t, "examples", (int64_t)mrc_dataset_size(d));
    tool_json_integer(t, "skipped", (int64_t)skipped);
    tool_json_key(t, "reasons");
    mrc_text_add(t, "{", 1);
    for (size_t i = 0; (reason = mrc_dataset_skipped(d, i, &count)) != NULL; i++) {
        tool_json_integer(t, reason, (int64_t)count);
    }
    mrc_text_add(t, "}", 1);
    mrc_dataset_free(d);
}

static void inspect_tokenizer(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a) {
    mrc_tokenizer *tok;
    tool_check(ctx, mrc_tokenizer_load(ctx, &tok, a->file));
    tool_json_string(t, "kind", "tokenizer");
    tool_json_string(t, "model", mrc_tokenizer_kind(tok));
    tool_json_integer(t, "tokens", (int64_t)mrc_tokenizer_size(tok));
    tool_json_integer(t, "max_length", (int64_t)mrc_tokenizer_max_length(tok));
    mrc_tokenizer_free(tok);
}

static void inspect_numbers(mrc_text *t, const mrc_model_config *c) {
    tool_json_string(t, "model_type", mrc_model_type_name(c->model_type));
    tool_json_integer(t, "vocab_size", (int64_t)c->vocab_size);
    tool_json_integer(t, "hidden_size", (int64_t)c->hidden_size);
    tool_json_integer(t, "num_hidden_layers", (int64_t)c->num_hidden_layers);
    tool_json_integer(t, "num_attention_heads", (int64_t)c->num_attention_heads);
    tool_json_integer(t, "max_length", (int64_t)mrc_model_config_max_length(c));
}

static void inspect_config(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a) {
    mrc_model_config c;
    tool_check(ctx, mrc_model_config_load(ctx, &c, a->file));
    tool_json_string(t, "kind", "config");
    inspect_numbers(t, &c);
}

// Of a folder, beside its weights: the reader's numbers, its head and its kind of tokenizer.  The
// weights are what was asked for, so a config.json that is not a reader's is no error.
static void inspect_model(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a) {
    static const char *const heads[] = { "linear", "mlp", "bilstm", "bigru", "conv1d" };
    mrc_model_config c;
    mrc_tokenizer *tok = NULL;
    if (mrc_path_kind(a->file) != MRC_PATH_DIR || !inspect_has(a->file, "config.json")) return;
    tool_log_no_notes = 1;
    if (mrc_model_config_load(ctx, &c, a->file) == MRC_OK) {
        inspect_numbers(t, &c);
        tool_json_string(t, "head", heads[c.head]);
        if (mrc_tokenizer_load(ctx, &tok, a->file) == MRC_OK) {
            tool_json_string(t, "tokenizer", mrc_tokenizer_kind(tok));
            mrc_tokenizer_free(tok);
        }
    }
    mrc_ctx_clear_error(ctx);
}

// Those of the folder's model, beside what else it is.
static void inspect_add_model(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a) {
    mrc_weights *st;
    tool_check(ctx, mrc_weights_open(ctx, &st, a->file));
    inspect_add_tensors(ctx, t, a, st);
    mrc_weights_close(st);
}

// All checksums of a training run's checkpoint, then its weights.
static void inspect_checkpoint(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a) {
    folder_want_checkpoint(ctx, a->file);
    tool_check(ctx, mrc_checkpoint_check(ctx, a->file));
    tool_json_string(t, "kind", "checkpoint");
    inspect_add_model(ctx, t, a);
}

static mrc_status inspect_count(mrc_ctx *ctx, void *user, const char *name) {
    (void)ctx;
    *(size_t *)user += strncmp(name, "checkpoint-", 11) == 0;
    return MRC_OK;
}

// The output folder of train, or what transformers' Trainer left: how far it is, its weights.
static void inspect_run(mrc_ctx *ctx, mrc_text *t, const inspect_flags *a, int as) {
    static const struct { const char *theirs, *name; } keys[] = {
        { "global_step", "step" }, { "max_steps", "max_steps" }, { "epoch", "epoch" },
        { "best_metric", "best_metric" }, { "best_global_step", "best_step" } };
    mrc_json *state = folder_state(ctx, a->file);
    const mrc_json *finished = state ? mrc_json_get(state, "finished") : NULL;
    size_t checkpoints = 0;
    tool_json_string(t, "kind", as == AS_RUN ? "run" : "trainer");
    if (as == AS_RUN) {
        tool_json_key(t, "finished");
        mrc_text_printf(t, "%s", finished && finished->type == MRC_JSON_TRUE ? "true" : "false");
    }
    for (size_t i = 0; state && i < sizeof keys / sizeof *keys; i++) {
        const mrc_json *v = mrc_json_get(state, keys[i].theirs);
        if (!v || v->type != MRC_JSON_NUMBER) continue;
        tool_json_key(t, keys[i].name);
        tool_json_value(t, v);
    }
    tool_check(ctx, mrc_dir_list(ctx, a->file, inspect_count, &checkpoints));
    tool_json_integer(t, "checkpoints", (int64_t)checkpoints);
    if (inspect_has(a->file, "config.json")) inspect_add_model(ctx, t, a);
    mrc_json_free(state);
}

static void inspect(mrc_ctx *ctx, const inspect_flags *a) {
    mrc_text t;
    int as = a->as == AS_AUTO ? inspect_kind(ctx, a->file) : a->as;
    mrc_text_init(&t, ctx);
    if (as == AS_YAML || as == AS_JSON) {
        inspect_tree(ctx, &t, a, as);
    } else {
        mrc_text_add(&t, "{", 1);
        if (as == AS_SAFETENSORS || as == AS_TORCH) {
            inspect_weights(ctx, &t, a, as);
            inspect_model(ctx, &t, a);
        }
        if (as == AS_DATASET || as == AS_ARROW) inspect_dataset(ctx, &t, a, as);
        if (as == AS_TOKENIZER) inspect_tokenizer(ctx, &t, a);
        if (as == AS_CONFIG) inspect_config(ctx, &t, a);
        if (as == AS_CHECKPOINT) inspect_checkpoint(ctx, &t, a);
        if (as == AS_RUN || as == AS_TRAINER) inspect_run(ctx, &t, a, as);
        mrc_text_add(&t, "}", 1);
    }
    mrc_text_add(&t, "\n", 1);
    tool_write_text(&t);
    mrc_text_free(&t);
}

static inspect_flags a;

static int run(tool_program *p) {
    (void)p;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    inspect(ctx, &a);
    mrc_ctx_free(ctx);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "as", .group = "reading", .choice = &a.as, .preset = "auto",
      .choices = "auto|safetensors|torch|dataset|json|yaml|tokenizer|config|checkpoint|arrow",
      .help = "what to read it as; auto goes by its name and first bytes" },
    { .name = "tensors", .flag = &a.tensors, .help = "list each tensor: name, dtype, shape, "
      "CRC-32C of its values as little-endian float32" },
    { .name = "strict", .flag = &a.strict, .help = "refuse a PyTorch file without checksums, "
      "which otherwise is a warning" },
    { .name = "FILE", .string = &a.file, .positional = 1, .required = 1,
      .help = "a file, or a folder: a model, a run of train, a checkpoint (of transformers' "
      "Trainer too), a tokenizer or a data set" },
    { 0 }
};

static tool_program program = {
    .name = "inspect", .group = "files", .run = run,
    .usage = "[--as KIND] [--tensors] [--strict] FILE", .flags = flags,
    .purpose = "Reads a whole file as the library would and prints what it is as one JSON "
               "object, or says why it would not be taken (exit code 3).",
    .examples = { "inspect --tensors model.safetensors", "inspect --as yaml config.yaml" },
};
TOOL_PROGRAM(inspect, program)
