// What readers of files are given besides files: no context, no place for the result, no name.
// Each says MRC_ERR_ARG, touches nothing and goes on; what may be absent is.
// tags: threads
#define TEST_LINKED
#include "../support/folder.h"
#include "../support/pickles.h"
#include <unistd.h>

static mrc_ctx *ctx;
#define REFUSED(call) do { \
        CHECK((call) == MRC_ERR_ARG, "%s", #call); \
        mrc_ctx_clear_error(ctx); \
    } while (0)

static void test_trees(void) {
    mrc_json *j;
    REFUSED(mrc_json_parse(NULL, &j, "n", "1", 1, 0));
    REFUSED(mrc_json_parse(ctx, NULL, "n", "1", 1, 0));
    REFUSED(mrc_json_parse(ctx, &j, "n", NULL, 1, 0));
    REFUSED(mrc_json_load(NULL, &j, "x"));
    REFUSED(mrc_json_load(ctx, NULL, "x"));
    REFUSED(mrc_json_load(ctx, &j, path_of("absent")));
    if (!CHECK(mrc_json_parse(ctx, &j, NULL, "{\"a\": 1}", 8, 0) == MRC_OK, "no name")) return;
    CHECK(!mrc_json_get(j, NULL) && !mrc_json_get(NULL, "a"), "no key, no object");
    REFUSED(mrc_json_unique_keys(NULL, j, "n"));
    REFUSED(mrc_json_unique_keys(ctx, NULL, "n"));
    REFUSED(mrc_json_unique_keys(ctx, j, NULL));
    CHECK(mrc_json_unique_keys(ctx, j->child, "n") == MRC_OK, "no object, no keys");
    mrc_json_free(j);
    mrc_json_free(NULL);
}

static mrc_status any_entry(mrc_ctx *c, void *user, const char *name) {
    (void)c;
    (void)user;
    return *name ? MRC_OK : MRC_ERR_ARG;
}

static void test_files(void) {
    char *data;
    size_t bytes;
    uint32_t crc;
    uint64_t size;
    mrc_file_writer *w;
    REFUSED(mrc_file_read(NULL, &data, &bytes, "x"));
    REFUSED(mrc_file_read(ctx, NULL, &bytes, "x"));
    REFUSED(mrc_file_read(ctx, &data, NULL, "x"));
    REFUSED(mrc_file_read(ctx, &data, &bytes, NULL));
    REFUSED(mrc_file_crc32c(NULL, "x", &crc, &size));
    REFUSED(mrc_file_crc32c(ctx, NULL, &crc, &size));
    REFUSED(mrc_file_crc32c(ctx, "x", NULL, &size));
    REFUSED(mrc_file_crc32c(ctx, "x", &crc, NULL));
    REFUSED(mrc_file_writer_new(NULL, &w, "x"));
    REFUSED(mrc_file_writer_new(ctx, NULL, "x"));
    REFUSED(mrc_file_writer_new(ctx, &w, NULL));
    REFUSED(mrc_file_writer_new(ctx, &w, ""));
    REFUSED(mrc_file_writer_add(NULL, "x", 1));
    REFUSED(mrc_file_writer_commit(NULL));
    mrc_file_writer_abort(NULL);
    if (CHECK(mrc_file_writer_new(ctx, &w, path_of("new")) == MRC_OK, "writer")) {
        REFUSED(mrc_file_writer_add(w, NULL, 1));
        CHECK(mrc_file_writer_add(w, NULL, 0) == MRC_OK, "nothing is nothing");
        mrc_file_writer_abort(w);
    }
    CHECK(!mrc_path_kind(NULL) && !mrc_path_kind(path_of("new")), "nothing was written");
    REFUSED(mrc_dir_new(NULL, "x"));
    REFUSED(mrc_dir_new(ctx, NULL));
    REFUSED(mrc_dir_new(ctx, ""));
    REFUSED(mrc_dir_sync(NULL, "x"));
    REFUSED(mrc_dir_sync(ctx, NULL));
    REFUSED(mrc_dir_remove(NULL, "x"));
    REFUSED(mrc_dir_remove(ctx, NULL));
    REFUSED(mrc_dir_remove(ctx, ""));
    REFUSED(mrc_dir_list(NULL, "x", any_entry, NULL));
    REFUSED(mrc_dir_list(ctx, NULL, any_entry, NULL));
    REFUSED(mrc_dir_list(ctx, "x", NULL, NULL));
}

static void test_weights(void) {
    static const float x[2] = { 1, 2 };
    const mrc_st_tensor list = { .name = "x", .dtype = "F32", .ndim = 1, .shape = { 2 },
                                 .data = x };
    float out[2];
    uint32_t crc;
    mrc_weights *st;
    REFUSED(mrc_safetensors_open(NULL, &st, "x"));
    REFUSED(mrc_safetensors_open(ctx, NULL, "x"));
    REFUSED(mrc_safetensors_open(ctx, &st, NULL));
    REFUSED(mrc_torch_open(NULL, &st, "x"));
    REFUSED(mrc_torch_open(ctx, NULL, "x"));
    REFUSED(mrc_torch_open(ctx, &st, NULL));
    REFUSED(mrc_weights_open(NULL, &st, "x"));
    REFUSED(mrc_weights_open(ctx, NULL, "x"));
    REFUSED(mrc_weights_open(ctx, &st, NULL));
    REFUSED(mrc_safetensors_write(NULL, "x", &list, 1, NULL));
    REFUSED(mrc_safetensors_write(ctx, NULL, &list, 1, NULL));
    REFUSED(mrc_safetensors_write(ctx, "x", NULL, 1, NULL));
    CHECK(!*mrc_weights_format(NULL) && !mrc_weights_at(NULL, 0)
          && !mrc_weights_find(NULL, "x") && !mrc_weights_meta(NULL, "x"), "no file");
    mrc_weights_close(NULL);
    if (!CHECK(mrc_safetensors_write(ctx, path_of("w.safetensors"), &list, 1, NULL) == MRC_OK
               && mrc_safetensors_open(ctx, &st, path_of("w.safetensors")) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) return;
    const mrc_st_entry *e = mrc_weights_at(st, 0);
    CHECK(e && !mrc_weights_at(st, 1) && !mrc_weights_find(st, NULL)
          && !mrc_weights_meta(st, NULL), "no name");
    REFUSED(mrc_weights_read(NULL, e, MRC_DTYPE_F32, out));
    REFUSED(mrc_weights_read(st, NULL, MRC_DTYPE_F32, out));
    REFUSED(mrc_weights_read(st, e, MRC_DTYPE_F32, NULL));
    REFUSED(mrc_weights_bytes(NULL, e, out));
    REFUSED(mrc_weights_bytes(st, NULL, out));
    REFUSED(mrc_weights_bytes(st, e, NULL));
    REFUSED(mrc_weights_crc32c(NULL, e, &crc));
    REFUSED(mrc_weights_crc32c(st, NULL, &crc));
    REFUSED(mrc_weights_crc32c(st, e, NULL));
    CHECK(mrc_weights_bytes(st, e, out) == MRC_OK && !memcmp(out, x, sizeof x), "bytes");
    mrc_weights_close(st);
}

#define CASE(object, message) { object, sizeof(object) - 1, message }

// Members of a dict that also holds the tensor "a"; message NULL: read, the tensor with it.
static const struct { const char *object; size_t n; const char *message; } pickles[] = {
    CASE("", NULL),
    CASE(KEY("b") "ctorch\nSize\nK\1K\2\206\205R", NULL),
    CASE(KEY("b") "ctorch\nSize\n](K\1K\2e\205R", NULL),
    CASE(KEY("b") "ctorch\nSize\n)\205R", NULL),
    CASE(KEY("b") "ctorch\nSize\nK\1\210\206\205R", "a size that is no integer"),
    CASE(KEY("b") "ctorch\nSize\n](K\1Ne\205R", "a size that is no integer"),
    CASE(KEY("b") "ctorch\nSize\n)R", "a call that makes no tensor"),
    CASE(KEY("b") "ctorch\nSize\n}\205R", "a call that makes no tensor"),
    CASE(KEY("b") "ctorch\nSize\n]R", "a call without arguments"),
    CASE(KEY("b") "ccollections\nOrderedDict\nK\1\205R", "a call that makes no tensor"),
    CASE(KEY("b") PARAMETER "K\1\210" ODICT "tR", "a call that makes no tensor"),
    CASE(KEY("b") PARAMETER "\210" ODICT "tR", "a call that makes no tensor"),
    CASE(KEY("b") PARAMETER "h\0K\1" ODICT "tR", "a call that makes no tensor"),
    CASE(KEY("b") PARAMETER "h\0\210" ODICT KEY("x") "K\1stR", "a call that makes no tensor"),
    CASE(KEY("b") PARAMETER "h\0\210]tR", "a call that makes no tensor"),
    CASE(KEY("b") "K\1)R", "a call that makes no tensor"),
    CASE(KEY("b") "cos\nsystem\n)R", "nothing is executed"),
    CASE(KEY("b") "c\1\377\n\2\n)R", "asks for ??.?"),
    CASE(KEY("b") "\212\2\1\1", NULL),
    CASE(KEY("b") "\212\0", NULL),
    CASE(KEY("b") "\212\10\377\377\377\377\377\377\377\377", NULL),
    CASE(KEY("b") "\212\11\0\0\0\0\0\0\0\200\0", "does not fit 64 bits"),
    CASE(KEY("b") "\212\11\0\0\0\0\0\0\0\1\1", "does not fit 64 bits"),
    CASE(KEY("b") "\212\13", "integer"),
    CASE(KEY("b") "J\377\377\377\377", NULL),
    CASE(KEY("b") "G\77\360\0\0\0\0\0\0", NULL),
    CASE(KEY("b") "K\1K\2K\3\207", NULL),
    CASE(KEY("b") "}K\1NsK\1", "a key without a value"),
    CASE(KEY("b") "}K\1NsK\2Ns", NULL),
    CASE(KEY("b") "}K\2NsK\1Ns" KEY("k") "Ns", NULL),
    CASE(KEY("b") "}(K\1NK\1Nu", "twice"),
    CASE(KEY("b") "}(" KEY("k") "N" KEY("k") "Nu", "twice"),
    CASE(KEY("b") "}(K\1u", ""),
    CASE(KEY("b") "](K\1tR", ""),
    CASE(KEY("b") "K\1K\1a", ""),
    CASE(KEY("b") "}\210Ns", ""),
    CASE(KEY("b") "hx", ""),
    CASE(KEY("b") "X\1\0\0\0\377", "no UTF-8"),
    CASE(KEY("b") "X\1\0\0\0\0", "has a NUL"),
    CASE(KEY("b") "X\377\377\377\377", "at most 1 MiB"),
    CASE(KEY("b") "cno_line", ""),
    CASE(KEY("b") "\1", ""),
    CASE(KEY("b") STORAGE("tQ"), ""),
    CASE(KEY("b") STORAGE("K\1tQ"), ""),
    CASE(KEY("b") "K\1Q", ""),
    CASE(KEY("b") REBUILD "K\1K\0K\2\205K\1\205\211" ODICT "tR", ""),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "J\377\377\377\377K\2\205K\1\205\211" ODICT "tR", ""),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "NK\2\205K\1\205\211" ODICT "tR", ""),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\0K\3\205K\1\205\211" ODICT "tR", "beyond its storage"),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\1K\2\205K\1\205\211" ODICT "tR", "beyond its storage"),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\0K\3\205K\0\205\211" ODICT "tR", "beyond its storage"),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\3K\0\205K\1\205\211" ODICT "tR", "beyond its storage"),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\2K\0\205K\1\205\211" ODICT "tR", NULL),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\0K\2\205\212\10\377\377\377\377\377\377\377\177\205\211"
         ODICT "tR", "beyond its storage"),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\0K\1K\1\206K\1\205\211" ODICT "tR", ""),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\0N\205K\1\205\211" ODICT "tR", ""),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\0K\2\205K\1\205\211" ODICT "}tR", NULL),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\0K\2\205K\1\205\211" ODICT "NtR", ""),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\0K\2\205K\1\205\211NtR", ""),
    CASE(KEY("b") REBUILD STORAGE("NtQ") "K\0K\2\205K\1\205N" ODICT "tR", ""),
};

static void test_pickles(void) {
    static pickle b;
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        mrc_weights *st;
        pickle_file(&b, pickles[i].object, pickles[i].n);
        CHECK(mrc_file_write(ctx, path_of("p.pt"), b.data, b.n) == MRC_OK, "write");
        mrc_status s = mrc_torch_open(ctx, &st, path_of("p.pt"));
        if (!pickles[i].message) {
            CHECK(s == MRC_OK && mrc_weights_find(st, "a"), "pickle %zu: %s", i,
                  mrc_ctx_message(ctx));
        } else {
            CHECK(s == MRC_ERR_FORMAT && !st && strstr(mrc_ctx_message(ctx), pickles[i].message),
                  "pickle %zu: %d %s", i, s, mrc_ctx_message(ctx));
        }
        mrc_ctx_clear_error(ctx);
        mrc_weights_close(st);
    }
    // Cut anywhere, it is no file of weights.
    pickle_file(&b, "", 0);
    for (size_t n = 0; n < b.n; n++) {
        mrc_weights *st;
        CHECK(mrc_file_write(ctx, path_of("p.pt"), b.data, n) == MRC_OK
              && mrc_torch_open(ctx, &st, path_of("p.pt")) == MRC_ERR_FORMAT && !st,
              "%zu bytes", n);
        mrc_ctx_clear_error(ctx);
    }
}

static void test_tokenizer(void) {
    mrc_tokenizer *tok;
    mrc_encodings out;
    REFUSED(mrc_tokenizer_load(NULL, &tok, "x"));
    REFUSED(mrc_tokenizer_load(ctx, NULL, "x"));
    REFUSED(mrc_tokenizer_load(ctx, &tok, NULL));
    REFUSED(mrc_tokenizer_encode(ctx, NULL, &out, "x", 1, NULL, 0, NULL));
    const char *file = file_new("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n");
    if (!CHECK(mrc_tokenizer_load(ctx, &tok, file) == MRC_OK, "%s", mrc_ctx_message(ctx))) return;
    REFUSED(mrc_tokenizer_encode(ctx, tok, NULL, "x", 1, NULL, 0, NULL));
    REFUSED(mrc_tokenizer_encode(NULL, tok, &out, "x", 1, NULL, 0, NULL));
    REFUSED(mrc_tokenizer_encode(ctx, tok, &out, NULL, 1, NULL, 0, NULL));
    REFUSED(mrc_tokenizer_encode(ctx, tok, &out, "x", (size_t)INT32_MAX + 1, NULL, 0, NULL));
    REFUSED(mrc_tokenizer_encode(ctx, tok, &out, "x", 1, "x", (size_t)INT32_MAX + 1, NULL));
    REFUSED(mrc_tokenizer_encode(ctx, tok, &out, "x", (size_t)INT32_MAX + 1, "x", 1, NULL));
    CHECK(mrc_tokenizer_id(tok, NULL) == -1 && mrc_tokenizer_id(tok, "a") == 5, "ids");
    CHECK(mrc_tokenizer_encode(ctx, tok, &out, NULL, 0, NULL, 0, NULL) == MRC_OK
          && out.list[0].n == 2, "no text is a text");
    mrc_encodings_free(&out);
    mrc_tokenizer_free(tok);
}

static void test_models(void) {
    static const char *const config = "{\"model_type\": \"bert\", \"vocab_size\": 7, "
        "\"hidden_size\": 4, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
        "\"intermediate_size\": 8, \"max_position_embeddings\": 16, \"type_vocab_size\": 2}";
    mrc_model_config c;
    mrc_model *m;
    const mrc_model_load_desc desc = { .path = "x" }, nowhere = {0};
    char path[64];
    REFUSED(mrc_model_config_load(NULL, &c, "x"));
    REFUSED(mrc_model_config_load(ctx, NULL, "x"));
    REFUSED(mrc_model_config_load(ctx, &c, NULL));
    REFUSED(mrc_model_load(NULL, &m, &desc));
    REFUSED(mrc_model_load(ctx, NULL, &desc));
    REFUSED(mrc_model_load(ctx, &m, NULL));
    REFUSED(mrc_model_load(ctx, &m, &nowhere));
    CHECK(mrc_model_config_load(ctx, &c, file_new("config.json", config)) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    REFUSED(mrc_model_save(ctx, NULL, "x", NULL));
    REFUSED(mrc_checkpoint_save(ctx, "x", 1, NULL, NULL, NULL, "{}"));
    REFUSED(mrc_checkpoint_find(NULL, "x", path, sizeof path));
    REFUSED(mrc_checkpoint_find(ctx, NULL, path, sizeof path));
    REFUSED(mrc_checkpoint_find(ctx, "x", NULL, sizeof path));
    REFUSED(mrc_checkpoint_find(ctx, "x", path, 0));
    REFUSED(mrc_checkpoint_check(NULL, "x"));
    REFUSED(mrc_checkpoint_check(ctx, NULL));
    REFUSED(mrc_checkpoint_prune(NULL, "x", 1));
    REFUSED(mrc_checkpoint_prune(ctx, NULL, 1));
    CHECK(mrc_checkpoint_prune(ctx, "x", 0) == MRC_OK, "0 keeps all");
    CHECK(mrc_checkpoint_find(ctx, path_of("absent"), path, sizeof path) == MRC_OK && !*path,
          "no folder, no checkpoint");
}

static mrc_model_config small_config(void) {
    mrc_model_config c = mrc_model_config_default();
    c.vocab_size = 7;
    c.hidden_size = c.head_hidden_size = 4;
    c.num_hidden_layers = c.num_head_layers = 1;
    c.num_attention_heads = 2;
    c.intermediate_size = 8;
    c.max_position_embeddings = 16;
    c.head_kernel_size = 3;
    return c;
}

// Sizes of 0, and numbers that do not fit each other, never make a model.
static void test_sizes(mrc_ctx *with) {
    mrc_model *m;
    mrc_model_config c = small_config();
    size_t *const sizes[] = { &c.vocab_size, &c.hidden_size, &c.num_hidden_layers,
        &c.num_attention_heads, &c.intermediate_size, &c.type_vocab_size, &c.head_hidden_size };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t kept = *sizes[i];
        *sizes[i] = 0;
        CHECK(mrc_model_new(with, &m, &c, MRC_DTYPE_F32, 1) == MRC_ERR_ARG && !m, "size %zu", i);
        *sizes[i] = kept;
        mrc_ctx_clear_error(with);
    }
    c.head = MRC_HEAD_CONV1D;
    c.head_kernel_size = 2;
    CHECK(mrc_model_new(with, &m, &c, MRC_DTYPE_F32, 1) == MRC_ERR_FORMAT && !m, "even kernel");
    mrc_ctx_clear_error(with);
    c = small_config();
    c.pad_token_id = -1;
    CHECK(mrc_model_new(with, &m, &c, MRC_DTYPE_F32, 1) == MRC_ERR_ARG && !m, "negative pad");
    mrc_ctx_clear_error(with);
    c = small_config();
    c.magic = 0;
    CHECK(mrc_model_new(with, &m, &c, MRC_DTYPE_F32, 1) == MRC_ERR_ARG && !m, "no config");
    mrc_ctx_clear_error(with);
}

// What a configuration says that is not ours comes through loading and saving as it was.
static void test_other_keys(mrc_ctx *with) {
    static const char *const other = "{\"task\": {\"a\": [1, -2.5, \"x\", null, true, false, "
        "{\"b\": {}}, []]}, ";
    char *text, dir[256];
    size_t bytes;
    mrc_model *m;
    mrc_json *root;
    mrc_text changed;
    const mrc_model_load_desc desc = { .path = dir };
    snprintf(dir, sizeof dir, "%s", path_of("model4"));
    if (!CHECK(mrc_file_read(with, &text, &bytes, path_of("model4/config.json")) == MRC_OK, "%s",
               mrc_ctx_message(with))) return;
    mrc_text_init(&changed, with);
    mrc_text_printf(&changed, "%s%s", other, text + 1);
    mrc_file_free(with, text);
    file_new("model4/config.json", changed.data);
    mrc_text_free(&changed);
    if (!CHECK(mrc_model_load(with, &m, &desc) == MRC_OK
               && mrc_model_save(with, m, path_of("again"), NULL) == MRC_OK, "%s",
               mrc_ctx_message(with))) return;
    mrc_model_free(m);
    if (!CHECK(mrc_json_load(with, &root, path_of("again/config.json")) == MRC_OK, "%s",
               mrc_ctx_message(with))) return;
    const mrc_json *a = mrc_json_get(mrc_json_get(root, "task"), "a");
    CHECK(a && a->n == 8 && a->child->integer == 1 && a->child->next->number == -2.5,
          "the list is the same");
    CHECK(mrc_json_get(mrc_json_get(root, "mrc_head"), "kernel_size")->integer == 3,
          "and the head");
    mrc_json_free(root);
}

static void test_saved_models(void) {
    mrc_backend *be;
    mrc_ctx *with;
    if (!CHECK(mrc_backend_naive_new(&be, NULL) == MRC_OK
               && mrc_ctx_new(&with, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "backend"))
        return;
    for (int head = 0; head < 5; head++) {
        char dir[256], name[16];
        mrc_model *m, *again = NULL;
        mrc_model_config c = small_config();
        const mrc_model_load_desc desc = { .path = dir };
        c.head = (mrc_head_type)head;
        c.model_type = head % 2 ? MRC_MODEL_BERT : MRC_MODEL_ROBERTA;
        c.type_vocab_size = head % 2 ? 2 : 1;
        c.pad_token_id = head % 2 ? 0 : 1;
        c.pad_to_max_length = head < 2;
        snprintf(name, sizeof name, "model%d", head);
        snprintf(dir, sizeof dir, "%s", path_of(name));
        if (!CHECK(mrc_model_new(with, &m, &c, MRC_DTYPE_F32, 1) == MRC_OK, "%s",
                   mrc_ctx_message(with))) continue;
        REFUSED(mrc_model_save(NULL, m, dir, NULL));
        REFUSED(mrc_model_save(ctx, m, NULL, NULL));
        CHECK(mrc_model_save(with, m, dir, NULL) == MRC_OK
              && mrc_model_load(with, &again, &desc) == MRC_OK, "%s", mrc_ctx_message(with));
        CHECK(again && again->config.head == c.head
              && again->config.pad_token_id == c.pad_token_id
              && again->config.pad_to_max_length == c.pad_to_max_length, "head %d", head);
        mrc_model_free(again);
        mrc_model_free(m);
    }
    test_other_keys(with);
    test_sizes(with);
    mrc_ctx_free(with);
    mrc_backend_free(be);
}

// Many, of which few are right; names that only look like a checkpoint's.
static void test_checkpoints(void) {
    static const char *const names[] = { "checkpoint-", "checkpoint-1x", "checkpoint-x",
        "checkpoint-:", "checkpoint-99999999999999999999", ".checkpoint-3.tmp", ".checkpoint-short",
        "other" };
    char path[128], found[128];
    for (size_t i = 0; i < 200; i++) {
        if (i < 8) snprintf(path, sizeof path, "out/%s", names[i]);
        else snprintf(path, sizeof path, "out/checkpoint-%zu", i);
        CHECK(mrc_dir_new(ctx, path_of(path)) == MRC_OK, "%s", mrc_ctx_message(ctx));
    }
    CHECK(mrc_checkpoint_find(ctx, path_of("out"), found, sizeof found) == MRC_OK && !*found,
          "none is whole: %s", mrc_ctx_message(ctx));
    CHECK(!mrc_path_kind(path_of("out/.checkpoint-3.tmp")), "what a killed save left is removed");
    CHECK(mrc_checkpoint_find(ctx, path_of("out"), found, 8) != MRC_OK && !*found, "no room");
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_checkpoint_prune(ctx, path_of("out"), 2) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_path_kind(path_of("out/checkpoint-199")) == MRC_PATH_DIR
          && mrc_path_kind(path_of("out/checkpoint-198")) == MRC_PATH_DIR
          && !mrc_path_kind(path_of("out/checkpoint-197"))
          && mrc_path_kind(path_of("out/checkpoint-1x")) == MRC_PATH_DIR, "the two newest stay");
}

static void test_passages(void) {
    mrc_passages *p;
    const char *file = file_new("p.jsonl", "{\"id\": \"1\", \"text\": \"a\"}\n");
    if (!CHECK(mrc_passages_load(ctx, &p, file, NULL) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) return;
    const mrc_index_desc desc = { .passages = p, .threads = 1 }, none = { .threads = 1 };
    mrc_index_desc odd = desc;
    REFUSED(mrc_index_new(NULL, "x", &desc));
    REFUSED(mrc_index_new(ctx, NULL, &desc));
    REFUSED(mrc_index_new(ctx, "x", NULL));
    REFUSED(mrc_index_new(ctx, "x", &none));
    odd.analyzer = MRC_ANALYZER_WORDPIECE;
    REFUSED(mrc_index_new(ctx, "x", &odd));
    odd.analyzer = (mrc_analyzer)99;
    REFUSED(mrc_index_new(ctx, "x", &odd));
    mrc_passages_free(p);
    if (!CHECK(mrc_passages_load(ctx, &p, file_new("p.json", "[]"), NULL) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) return;
    odd.passages = p;
    odd.analyzer = MRC_ANALYZER_WHITESPACE;
    REFUSED(mrc_index_new(ctx, "x", &odd));         // nothing to index
    mrc_passages_free(p);
}

static void test_examples(void) {
    mrc_answer good = { "b", 1, 2 }, bad = { "c", 1, 2 }, behind = { "b", 1, 9 };
    mrc_answer none = { "", 0, 1 }, before = { "b", 1, -1 }, ill = { "\xff", 1, 2 };
    mrc_answer *const answers[] = { &bad, &behind, &none, &before, &ill };
    const mrc_example e = { "1", "t", "a b", "q", 3, 1, &good, 1, 0 };
    mrc_dataset *d;
    REFUSED(mrc_dataset_new(ctx, &d, NULL, 1));
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        mrc_example other = e;
        other.answers = answers[i];
        REFUSED(mrc_dataset_new(ctx, &d, &other, 1));
    }
    for (int i = 0; i < 5; i++) {
        mrc_example other = e;
        if (i == 0) other.context = NULL;
        if (i == 1) other.question = NULL;
        if (i == 2) other.answers = NULL;
        if (i == 3) other.context = "\xff b";
        if (i == 4) other.question = "\xff";
        REFUSED(mrc_dataset_new(ctx, &d, &other, 1));
    }
    if (!CHECK(mrc_dataset_new(ctx, &d, &e, 1) == MRC_OK, "%s", mrc_ctx_message(ctx))) return;
    CHECK(mrc_dataset_size(d) == 1 && !mrc_dataset_at(d, 1), "one");
    mrc_dataset_free(d);
}

// Every type of Arrow column that is read, as the values that were written.
static void test_arrow(void) {
    mrc_dataset *d;
    if (!CHECK(mrc_dataset_load(ctx, &d, "tests/fixtures/types.arrow") == MRC_OK, "%s",
               mrc_ctx_message(ctx))) return;
    CHECK(mrc_dataset_rows(d) == 3, "%zu rows", mrc_dataset_rows(d));
    const mrc_example *e = mrc_dataset_at(d, 1);
    CHECK(e && !strcmp(e->id, "b") && !strcmp(e->question, "q2") && e->n_answers == 1
          && e->answers[0].answer_start == 3 && e->question_type == 2, "the second row");
    mrc_dataset_free(d);
    // 2^39 rows of nothing in 224 bytes: refused, not counted.
    CHECK(mrc_dataset_load(ctx, &d, "tests/fixtures/nulls.arrow") == MRC_ERR_FORMAT && !d
          && strstr(mrc_ctx_message(ctx), "a bad length"), "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
}

int main(void) {
    if (!CHECK(mrc_ctx_new(&ctx, NULL) == MRC_OK, "a context") || !folder_new("readers")) {
        return test_end();
    }
    test_trees();
    test_files();
    test_weights();
    test_pickles();
    test_tokenizer();
    test_models();
    test_saved_models();
    test_checkpoints();
    test_passages();
    test_examples();
    test_arrow();
    mrc_ctx_free(ctx);
    folder_end();
    return test_end();
}
