// RELIABILITY A8: a config.json that does not fit its weights, or is that of no model, is refused
// with one line that names what it says and what would fit.  A9: so is a model with a changed byte.
// tags: threads
#define TEST_LINKED
#include "../support/test.h"
#include <unistd.h>

#define GOLDEN "tests/golden/"

static char dir[128];
static mrc_ctx *ctx;

static char *read_text(const char *path, size_t *bytes) {
    char *text = NULL;
    if (!CHECK(mrc_file_read(ctx, &text, bytes, path) == MRC_OK, "%s", mrc_ctx_message(ctx))) {
        exit(1);
    }
    return text;
}

static void write_text(const char *path, const char *text, size_t bytes) {
    CHECK(mrc_file_write(ctx, path, text, bytes) == MRC_OK, "%s", mrc_ctx_message(ctx));
}

// One member of a golden model's config.json gets another value.
typedef struct pair { const char *model, *key, *value, *words[2]; } pair;
#define R "roberta_bilstm"
#define B "bert_linear"
static const pair pairs[] = {
    { R, "vocab_size", "46", { "word_embeddings.weight", "(found (47, 24), expected (46, 24))" } },
    { R, "vocab_size", "48", { "word_embeddings.weight", "(found (47, 24), expected (48, 24))" } },
    { B, "vocab_size", "600", { "word_embeddings.weight", "(59, 20), expected (600, 20)" } },
    { R, "vocab_size", "0", { "vocab_size", "found 0, expected an integer from 1" } },
    { R, "vocab_size", "-47", { "vocab_size", "found -47, expected" } },
    { R, "vocab_size", "47.5", { "vocab_size", "found 47.5, expected" } },
    { R, "vocab_size", "\"47\"", { "vocab_size", "found \"47\", expected" } },
    { R, "vocab_size", "4294967343", { "vocab_size", "found 4294967343, expected" } },
    { R, "vocab_size", "1e300", { "vocab_size", "expected" } },
    { R, "hidden_size", "48", { "embeddings", "(found (47, 24), expected (47, 48))" } },
    { R, "hidden_size", "22", { "embeddings", "(found (47, 24), expected (47, 22))" } },
    { R, "hidden_size", "25", { "hidden_size 25", "num_attention_heads 2" } },
    { B, "hidden_size", "21", { "hidden_size 21", "num_attention_heads 4" } },
    { R, "hidden_size", "0", { "hidden_size", "found 0, expected" } },
    { R, "hidden_size", "1000000000", { "hidden_size", "found 1000000000, expected" } },
    { R, "num_attention_heads", "5", { "hidden_size 24", "num_attention_heads 5" } },
    { B, "num_attention_heads", "3", { "hidden_size 20", "num_attention_heads 3" } },
    { R, "num_attention_heads", "0", { "num_attention_heads", "found 0, expected" } },
    { R, "num_attention_heads", "-2", { "num_attention_heads", "found -2, expected" } },
    { R, "num_attention_heads", "48", { "hidden_size 24", "num_attention_heads 48" } },
    { R, "num_hidden_layers", "1", { "found transformer.encoder.layer.1.", "expected "
                                     "num_hidden_layers 1" } },
    { B, "num_hidden_layers", "2", { "found bert.encoder.layer.2.", "num_hidden_layers 2" } },
    { R, "num_hidden_layers", "3", { "has no transformer.encoder.layer.2.", "of 3 layers" } },
    { B, "num_hidden_layers", "4", { "has no bert.encoder.layer.3.", "of 4 layers" } },
    { R, "num_hidden_layers", "0", { "num_hidden_layers", "found 0, expected" } },
    { R, "num_hidden_layers", "1000000000", { "num_hidden_layers", "found 1000000000" } },
    { R, "intermediate_size", "35", { "intermediate.dense", "(found (36, 24), expected (35, " } },
    { B, "intermediate_size", "34", { "intermediate.dense", "(found (33, 20), expected (34, " } },
    { R, "intermediate_size", "-1", { "intermediate_size", "found -1, expected" } },
    { R, "max_position_embeddings", "512", { "position_embeddings", "(37, 24), expected (512" } },
    { R, "max_position_embeddings", "36", { "position_embeddings", "(37, 24), expected (36" } },
    { B, "max_position_embeddings", "64", { "position_embeddings", "(31, 20), expected (64" } },
    { R, "max_position_embeddings", "1", { "max_position_embeddings", "found 1, expected" } },
    { R, "type_vocab_size", "2", { "token_type_embeddings", "(found (1, 24), expected (2, 24))" } },
    { B, "type_vocab_size", "1", { "token_type_embeddings", "(found (2, 20), expected (1, 20))" } },
    { R, "type_vocab_size", "0", { "type_vocab_size", "found 0, expected" } },
    { R, "pad_token_id", "47", { "pad_token_id 47", "vocab_size 47" } },
    { R, "pad_token_id", "36", { "max_position_embeddings 37", "pad_token_id 36" } },
    { R, "pad_token_id", "-1", { "pad_token_id", "found -1, expected" } },
    { R, "layer_norm_eps", "-1e-5", { "layer_norm_eps", "found -1.0" } },
    { R, "layer_norm_eps", "0", { "layer_norm_eps", "found 0, expected" } },
    { R, "layer_norm_eps", "NaN", { "config.json:", "unexpected" } },
    { R, "hidden_dropout_prob", "1", { "hidden_dropout_prob", "found 1, expected" } },
    { R, "attention_probs_dropout_prob", "-0.5", { "attention_probs_dropout_prob", "found -0.5" } },
    { R, "initializer_range", "-1", { "initializer_range", "found -1, expected" } },
    { B, "model_type", "\"roberta\"", { "found names that begin bert.", "model_type roberta" } },
    { R, "hidden_act", "\"mish\"", { "hidden_act", "found \"mish\", expected gelu" } },
    { R, "mrc_head", "{\"type\": \"bilstm\", \"num_layers\": 1, \"hidden_size\": 11}",
      { "found lstm.", "expected type bilstm, num_layers 1" } },
    { R, "mrc_head", "{\"type\": \"bilstm\", \"num_layers\": 3, \"hidden_size\": 11}",
      { "no lstm.weight_ih_l2", "num_layers 3" } },
    { R, "mrc_head", "{\"type\": \"bilstm\", \"num_layers\": 2, \"hidden_size\": 12}",
      { "lstm.", "(found (44, 24), expected (48, 24))" } },
    { R, "mrc_head", "{\"type\": \"bilstm\", \"num_layers\": 2}",
      { "lstm.", "(found (44, 24), expected (96, 24))" } },
    { R, "mrc_head", "{\"type\": \"bigru\", \"num_layers\": 2, \"hidden_size\": 11}",
      { "has less of a head", "no gru.weight_ih_l0" } },
    { R, "mrc_head", "{\"type\": \"bilstm\", \"num_layers\": 0}", { "num_layers", "found 0" } },
    { R, "mrc_head", "{\"type\": \"bilstm\", \"dropout\": 1}", { "dropout", "found 1" } },
    { R, "mrc_head", "[]", { "mrc_head", "expected an object" } },
};

// The model's config.json with that member in place of its own, and its weights.
static void make_pair(const pair *p) {
    char path[256], key[64];
    size_t bytes;
    mrc_json *root;
    mrc_text t;
    snprintf(path, sizeof path, GOLDEN "%s/config.json", p->model);
    char *text = read_text(path, &bytes);
    CHECK(mrc_json_parse(ctx, &root, path, text, bytes, 0) == MRC_OK, "%s", path);
    mrc_json_free(root);
    snprintf(key, sizeof key, "\"%s\": ", p->key);
    char *at = strstr(text, key), *end = at ? at + strlen(key) : NULL;
    if (CHECK(at, "%s has no %s", path, p->key)) {
        end += *end == '{' ? strcspn(end, "}") + 1 : strcspn(end, ",\n");
        mrc_text_init(&t, ctx);
        mrc_text_printf(&t, "%.*s%s%s%s", (int)(at - text), text, key, p->value, end);
        snprintf(path, sizeof path, "%s/config.json", dir);
        write_text(path, t.data, t.bytes);
        mrc_text_free(&t);
    }
    mrc_file_free(ctx, text);
    snprintf(path, sizeof path, GOLDEN "%s/model.safetensors", p->model);
    text = read_text(path, &bytes);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    write_text(path, text, bytes);
    mrc_file_free(ctx, text);
}

static void test_pairs(void) {
    const size_t n = sizeof pairs / sizeof *pairs;
    for (size_t i = 0; i < n; i++) {
        const pair *p = &pairs[i];
        mrc_model *m = NULL;
        make_pair(p);
        mrc_status s = mrc_model_load(ctx, &m, &(mrc_model_load_desc){ .path = dir });
        const char *text = mrc_ctx_message(ctx);
        CHECK(s != MRC_OK && s != MRC_ERR_MEM && !m && !strncmp(text, dir, strlen(dir))
              && strstr(text, p->words[0]) && strstr(text, p->words[1]), "%s with %s %s: %s",
              p->model, p->key, p->value, s == MRC_OK ? "is loaded" : text);
        mrc_model_free(m);
        mrc_ctx_clear_error(ctx);
    }
    CHECK(n >= 40, "%zu pairs", n);
    // And what the table changes is loaded when it is changed to what it was.
    make_pair(&(pair){ R, "vocab_size", "47", { "", "" } });
    mrc_model *m = NULL;
    CHECK(mrc_model_load(ctx, &m, &(mrc_model_load_desc){ .path = dir }) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    mrc_model_free(m);
}

// Weights of the other family.
static void test_families(void) {
    static const char *const prefixes[] = { "roberta.", "bert." };
    char path[256], name[128];
    for (int i = 0; i < 2; i++) {
        mrc_model *m = NULL;
        make_pair(&(pair){ i ? R : B, "vocab_size", i ? "47" : "59", { "", "" } });
        snprintf(path, sizeof path, "%s/model.safetensors", dir);
        snprintf(name, sizeof name, "%sembeddings.word_embeddings.weight", prefixes[i]);
        const float one = 1;
        const mrc_st_tensor t = { .name = name, .dtype = "F32", .ndim = 1, .shape = { 1 },
                                  .data = &one };
        CHECK(mrc_safetensors_write(ctx, path, &t, 1, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
        mrc_status s = mrc_model_load(ctx, &m, &(mrc_model_load_desc){ .path = dir });
        CHECK(s == MRC_ERR_FORMAT && strstr(mrc_ctx_message(ctx), "another model"), "%s: %s",
              name, mrc_ctx_message(ctx));
        mrc_model_free(m);
        mrc_ctx_clear_error(ctx);
    }
}

static int same_values(const mrc_params *a, const mrc_params *b) {
    const mrc_tensor *t, *u;
    for (size_t i = 0; (t = mrc_params_at(a, i)) != NULL; i++) {
        u = mrc_params_find(b, t->name);
        if (!u || memcmp(t->data, u->data, t->numel * mrc_dtype_bytes(t->dtype))) return 0;
    }
    return 1;
}

// A9, of a model by itself: a changed byte of model.safetensors is found by who loads it, or has
// changed no weight (it lies in a key of the metadata).  All bytes of the header, some of the data;
// with MRC_FAULTS=full all of them.
static void test_flips(mrc_dtype dtype, size_t threads) {
    const char *mode = getenv("MRC_FAULTS");
    const size_t step = mode && !strcmp(mode, "full") ? 1 : 997;
    mrc_model *m = NULL, *b = NULL;
    mrc_model_load_desc desc = { .path = GOLDEN R, .dtype = dtype, .threads = threads };
    char path[256];
    size_t bytes, refused = 0, harmless = 0;
    CHECK(mrc_model_load(ctx, &m, &desc) == MRC_OK && mrc_model_save(ctx, m, dir, NULL) == MRC_OK,
          "%s", mrc_ctx_message(ctx));
    desc.path = dir;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    char *text = read_text(path, &bytes);
    size_t header = 8 + (size_t)(unsigned char)text[0] + 256 * (size_t)(unsigned char)text[1];
    CHECK(strstr(text + 8, "\"crc32c.qa_head.bias\":\"") != NULL, "no checksums in the header");
    FILE *f = fopen(path, "r+b");
    for (size_t at = 0; f && at < bytes; at += at < header && step > 1 ? 7 : step) {
        const int was = (unsigned char)text[at];
        CHECK(fseek(f, (long)at, SEEK_SET) == 0 && fputc(was ^ 1 << at % 8, f) != EOF
              && fflush(f) == 0, "byte %zu", at);
        mrc_status s = mrc_model_load(ctx, &b, &desc);
        CHECK(s != MRC_OK || (at < header && same_values(m->params, b->params)), "byte %zu of %zu "
              "changed: other weights are loaded", at, bytes);
        refused += s != MRC_OK;
        harmless += s == MRC_OK;
        mrc_model_free(b);
        b = NULL;
        mrc_ctx_clear_error(ctx);
        CHECK(fseek(f, (long)at, SEEK_SET) == 0 && fputc(was, f) != EOF, "byte %zu", at);
    }
    if (f) fclose(f);
    CHECK(refused > 2 * harmless && mrc_model_load(ctx, &b, &desc) == MRC_OK, "%zu refused, %zu "
          "harmless, %s", refused, harmless, mrc_ctx_message(ctx));
    mrc_file_free(ctx, text);
    mrc_model_free(m);
    mrc_model_free(b);
}

int main(void) {
    mrc_backend *be;
    snprintf(dir, sizeof dir, "build/test_mismatch.%ld", (long)getpid());
    if (!CHECK(mrc_backend_naive_new(&be, NULL) == MRC_OK, "backend")
        || !CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context")
        || !CHECK(mrc_dir_new(ctx, dir) == MRC_OK, "%s", mrc_ctx_message(ctx))) return 1;
    test_pairs();
    test_families();
    test_flips(MRC_DTYPE_F32, 1);
    test_flips(MRC_DTYPE_F32, 3);
    test_flips(MRC_DTYPE_F64, 1);
    CHECK(mrc_dir_remove(ctx, dir) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    mrc_backend_free(be);
    return test_end();
}
