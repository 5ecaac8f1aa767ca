// Every public function, called as no caller should: NULL, zero, one, the largest size, unknown
// enums, NaN, contexts without a backend, tensors of other types and shapes.  The calls stand in
// hostile_calls.inc, which make_hostile.py makes from mrc.h: a function without a row is a failure.
// What must hold: no signal (a child process makes the calls), and a status with a text of its own.
// Formats that say nothing, and more than they say, are what is tried here.
#pragma GCC diagnostic ignored "-Wformat-zero-length"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
#define TEST_LINKED
#include "../support/test.h"
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024";
}

static struct hostile {
    mrc_ctx *ctx, *bare;
    mrc_backend *be;
    mrc_params *params, *other;
    mrc_tensor *t, *v, *one, *scalar, *i32, *f64, *rank4, *targets, *dropped, *step;
    mrc_tensor *eight[8], *nulls[8];
    mrc_batch batch;
    mrc_model *model;
    mrc_optimizer *optimizer;
    mrc_tokenizer *tok;
    mrc_dataset *dataset;
    mrc_features features;
    mrc_passages *passages;
    mrc_index *index;
    mrc_searcher *searcher;
    mrc_vectors vectors;
    mrc_dense *dense;
    mrc_reader *reader;
    mrc_encoder *encoder;
    mrc_optimizer *encoder_optimizer;
    mrc_model *encoder_model;
    mrc_pairs *pairs;
    mrc_pairs_desc pairs_desc;
    mrc_contrastive_desc contrastive;
    mrc_passage texts[2];
    const mrc_passage *text_list[2];
    mrc_json *json;
    mrc_weights *st;
    const mrc_st_entry *entry;
    mrc_file_writer *writer;
    mrc_text room;
    mrc_answer answer;
    mrc_rank_result rank;
    mrc_hit hits[64];
    mrc_hits runs[1];
    const mrc_feature *feature_list[2];
    size_t shape[8], indices[4], folds[64];
    uint32_t passage_ids[4];
    int32_t ids[64];
    float floats[64];
    uint32_t numbers[16];
    double scores[4];
    uint32_t queries[2];
    char folder[64], path[128], text[64], bytes[8192], long_text[6000];
    char encoder_path[128], pairs_path[128];
    void *out[16], *list[16];
} H;

// A fresh struct of zeros, whatever its type.
static void *hostile_zero(void) {
    static uint64_t zeros[8][512];
    static size_t at;
    at = (at + 1) % 8;
    return memset(zeros[at], 0, sizeof zeros[at]);
}
static mrc_dataset *hostile_dataset(void) {
    mrc_dataset *d = NULL;
    const mrc_example e = { .context = "a b", .context_bytes = 3, .question = "q",
                            .question_bytes = 1 };
    return mrc_dataset_new(H.ctx, &d, &e, 1) == MRC_OK ? d : NULL;
}
static mrc_json *hostile_json(void) {
    mrc_json *j = NULL;
    mrc_json_parse(H.ctx, &j, "j", "{}", 2, 0);
    return j;
}
static mrc_file_writer *hostile_writer(void) {
    mrc_file_writer *w = NULL;
    return mrc_file_writer_new(H.ctx, &w, H.path) == MRC_OK ? w : NULL;
}
static mrc_encoder *hostile_encoder(void) {
    mrc_encoder *e = NULL;
    return mrc_encoder_new(H.ctx, &e, H.encoder_path, NULL) == MRC_OK ? e : NULL;
}
static mrc_pairs *hostile_pairs(void) {
    mrc_pairs *p = NULL;
    return mrc_pairs_load(H.ctx, &p, &H.pairs_desc) == MRC_OK ? p : NULL;
}
static mrc_status hostile_fn_mrc_dir_list(mrc_ctx *ctx, void *user, const char *name) {
    (void)ctx;
    (void)user;
    return *name ? MRC_OK : MRC_ERR_ARG;
}
static mrc_tensor *hostile_segment(mrc_ctx *ctx, void *user, mrc_tensor *const *in, size_t n_in) {
    (void)user;
    return n_in ? mrc_activation(ctx, in[0], MRC_ACT_GELU) : NULL;
}

// What a child tells: which call it makes, and what was wrong with it.
static struct report { size_t at, made, wrong; char what[512]; } *report;
__attribute__((format(printf, 1, 2)))
static void wrong(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    if (!report->wrong++) vsnprintf(report->what, sizeof report->what, fmt, ap);
    va_end(ap);
}
// After a call with a good context: the status returned, the context's and a text go together.
static void held(int own, mrc_status s, const char *call) {
    if (own && mrc_ctx_status(H.ctx) != s) {
        wrong("%s: returned %d, the context has %d (%s)", call, (int)s, (int)mrc_ctx_status(H.ctx),
              mrc_ctx_message(H.ctx));
    }
    if (own && s != MRC_OK && !*mrc_ctx_message(H.ctx)) wrong("%s: an error without a text", call);
}
static void sink(const volatile void *value, size_t bytes) {
    (void)value;
    (void)bytes;
}
#define STATUS(own, call) held(own, call, #call)
#define DOES(own, call)   (call)
#define TENSOR(own, call) do { \
        mrc_status none_ = mrc_ctx_status(H.ctx) ? mrc_ctx_status(H.ctx) : MRC_ERR_ARG; \
        if (!(call)) held(own, mrc_ctx_status(H.ctx) ? mrc_ctx_status(H.ctx) : none_, #call); \
    } while (0)
#define VALUE(own, call)  do { \
        __typeof__(call) value_ = (call); \
        sink(&value_, sizeof value_); \
    } while (0)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include "../support/hostile_calls.inc"
#pragma GCC diagnostic pop

#define GOOD(call) CHECK((call) == MRC_OK, "%s: %s", #call, mrc_ctx_message(H.ctx))

static mrc_tensor *param(const char *name, mrc_dtype dtype, int ndim, size_t a, size_t b) {
    const size_t shape[4] = { a, b, 1, 1 };
    mrc_tensor *t = NULL;
    GOOD(mrc_param_new(dtype == MRC_DTYPE_F32 ? H.params : H.other, &t, name, dtype, ndim, shape));
    return t;
}

static void begin_tensors(void) {
    static const int32_t lengths[] = { 0, 2 }, ids[] = { 1, 1 };
    const mrc_batch_desc batch = { .n_sequences = 1, .cu_seqlens = lengths, .input_ids = ids };
    GOOD(mrc_params_new(&H.params, H.be, NULL));
    GOOD(mrc_params_new(&H.other, H.be, NULL));
    H.t = param("t", MRC_DTYPE_F32, 2, 2, 2);
    H.v = param("v", MRC_DTYPE_F32, 1, 2, 1);
    H.one = param("one", MRC_DTYPE_F32, 1, 1, 1);
    H.scalar = param("scalar", MRC_DTYPE_F32, 0, 1, 1);
    H.f64 = param("f64", MRC_DTYPE_F64, 2, 2, 2);
    H.rank4 = param("rank4", MRC_DTYPE_F32, 4, 2, 3);
    for (int i = 0; i < 8; i++) H.eight[i] = i < 4 ? H.t : H.v;
    GOOD(mrc_batch_new(H.ctx, &H.batch, &batch));
    H.i32 = H.batch.input_ids;
    H.targets = H.batch.targets;
    H.dropped = mrc_tensor_new(H.ctx, MRC_DTYPE_F32, 2, H.shape, 0);
    mrc_drop(H.ctx, H.dropped);
    H.step = mrc_tensor_new(H.ctx, MRC_DTYPE_F32, 2, H.shape, 1);
}

static void begin_model(void) {
    mrc_model_config c = mrc_model_config_default();
    c.vocab_size = mrc_tokenizer_size(H.tok);
    c.hidden_size = c.intermediate_size = 4;
    c.num_hidden_layers = c.num_attention_heads = 1;
    c.max_position_embeddings = 34;
    GOOD(mrc_model_new(H.ctx, &H.model, &c, MRC_DTYPE_F32, 1));
    snprintf(H.path, sizeof H.path, "%s/model", H.folder);
    GOOD(mrc_model_save(H.ctx, H.model, H.path, "data"));
    GOOD(mrc_reader_new(H.ctx, &H.reader, H.path, NULL));
    char file[200];
    snprintf(file, sizeof file, "%s/model.safetensors", H.path);
    GOOD(mrc_safetensors_open(H.ctx, &H.st, file));
    H.entry = mrc_weights_at(H.st, 0);
    const mrc_optimizer_config o = mrc_optimizer_config_default();
    GOOD(mrc_optimizer_new(H.ctx, &H.optimizer, H.params, &o));
    const mrc_features_config f = mrc_features_config_default();
    GOOD(mrc_features_new(H.ctx, &H.features, H.dataset, H.tok, &f));
    for (size_t i = 0; i < 2; i++) H.feature_list[i] = H.features.n ? &H.features.list[0] : NULL;
}

static void begin_retrieval(void) {
    const char *corpus = "1\tthe king of a city\n2\tanother city\n";
    snprintf(H.path, sizeof H.path, "%s/corpus.tsv", H.folder);
    GOOD(mrc_file_write(H.ctx, H.path, corpus, strlen(corpus)));
    GOOD(mrc_passages_load(H.ctx, &H.passages, H.path, NULL));
    const mrc_index_desc desc = { .passages = H.passages, .threads = 1 };
    snprintf(H.path, sizeof H.path, "%s/index", H.folder);
    GOOD(mrc_index_new(H.ctx, H.path, &desc));
    GOOD(mrc_index_open(H.ctx, &H.index, H.path));
    mrc_search_config config = mrc_search_config_default((mrc_bm25)0);
    config.threads = 1;
    GOOD(mrc_searcher_new(H.ctx, &H.searcher, H.index, &config));
    H.vectors = (mrc_vectors){ .n = 2, .n_rows = 2, .width = 4, .rows = H.floats };
    const mrc_vectors_desc vectors = { .threads = 1 };
    GOOD(mrc_vectors_index(H.ctx, H.path, &H.vectors, &vectors));
    GOOD(mrc_dense_open(H.ctx, &H.dense, H.path, 0));
}

// A bi-encoder, its optimizer, three questions with their passages.
static void begin_encoder(void) {
    const char *rows = "{\"query\": \"a\", \"positive\": \"p\", \"negative\": \"n\"}\n"
                       "{\"query\": \"b\", \"positive\": \"q\", \"negative\": \"p\"}\n"
                       "{\"query\": \"c\", \"positive\": \"r\", \"negative\": \"p\"}\n";
    mrc_model_config c = mrc_model_config_default();
    c.vocab_size = mrc_tokenizer_size(H.tok);
    c.hidden_size = c.intermediate_size = 4;
    c.num_hidden_layers = c.num_attention_heads = 1;
    c.max_position_embeddings = 34;
    c.head = MRC_HEAD_POOL;
    c.encoder = (mrc_encoder_config){ .poolings = 1u << MRC_POOLING_MEAN, .num_labels = 1,
                                      .classifier_dropout = -1, .query_max_length = 16,
                                      .passage_max_length = 16 };
    GOOD(mrc_model_new(H.ctx, &H.encoder_model, &c, MRC_DTYPE_F32, 1));
    snprintf(H.encoder_path, sizeof H.encoder_path, "%s/encoder", H.folder);
    GOOD(mrc_model_save(H.ctx, H.encoder_model, H.encoder_path, "data"));
    const mrc_encoder_desc desc = { .config = &c, .model = H.encoder_model };
    GOOD(mrc_encoder_new(H.ctx, &H.encoder, H.encoder_path, &desc));
    const mrc_optimizer_config o = mrc_optimizer_config_default();
    GOOD(mrc_optimizer_new(H.ctx, &H.encoder_optimizer, H.encoder_model->params, &o));
    snprintf(H.pairs_path, sizeof H.pairs_path, "%s/pairs.jsonl", H.folder);
    GOOD(mrc_file_write(H.ctx, H.pairs_path, rows, strlen(rows)));
    H.pairs_desc.path = H.pairs_path;
    GOOD(mrc_pairs_load(H.ctx, &H.pairs, &H.pairs_desc));
    for (size_t i = 0; i < 2; i++) {
        H.texts[i] = (mrc_passage){ "1", "", "a b", 3 };
        H.text_list[i] = &H.texts[i];
        H.queries[i] = (uint32_t)i;
    }
    H.contrastive = (mrc_contrastive_desc){
        .pairs = H.pairs, .queries = H.queries, .n = 2, .num_negatives = 1, .lr = 1e-3,
        .random = { 1, 1, 0 }, .forward = mrc_forward_config_default() };
}

static int begin(void) {
    if (mrc_backend_naive_new(&H.be, NULL) != MRC_OK) return 0;
    const mrc_ctx_desc desc = { .backend = H.be };
    if (mrc_ctx_new(&H.ctx, &desc) != MRC_OK || mrc_ctx_new(&H.bare, NULL) != MRC_OK) return 0;
    snprintf(H.folder, sizeof H.folder, "build/test_hostile.XXXXXX");
    if (mrc_dir_new(H.ctx, "build") != MRC_OK || !mkdtemp(H.folder)) return 0;
    snprintf(H.text, sizeof H.text, "%s", "a b c d");
    memset(H.long_text, 'x', sizeof H.long_text - 1);
    for (size_t i = 0; i < 64; i++) H.floats[i] = (float)i + 1;
    H.shape[0] = H.shape[1] = H.shape[2] = H.shape[3] = 2;
    H.answer = (mrc_answer){ "a", 1, 0 };
    H.runs[0] = (mrc_hits){ H.hits, 2 };
    H.hits[1].passage = 1;
    for (size_t i = 0; i < 16; i++) H.list[i] = H.out[i] = NULL;
    mrc_text_init(&H.room, H.ctx);
    H.dataset = hostile_dataset();
    GOOD(mrc_tokenizer_load(H.ctx, &H.tok, "data"));
    GOOD(mrc_json_parse(H.ctx, &H.json, "j", "{\"a\": [1]}", 10, 0));
    begin_tensors();
    begin_model();
    begin_retrieval();
    begin_encoder();
    snprintf(H.path, sizeof H.path, "%s/target", H.folder);
    GOOD(mrc_file_writer_new(H.ctx, &H.writer, H.path));
    return !test_failed;
}

// What stands at H.path before each call.  What an earlier call left there would hide faults of the
// later ones: a model is not saved over a file.
static mrc_path there;
static void set_path(void) {
    mrc_dir_remove(H.ctx, H.path);
    unlink(H.path);
    if (there == MRC_PATH_DIR) mrc_dir_new(H.ctx, H.path);
    if (there == MRC_PATH_FILE) mrc_file_write(H.ctx, H.path, "{}", 2);
    mrc_ctx_clear_error(H.ctx);
}

static void child(const struct hostile_row *row, size_t from) {
    alarm(60);
    for (size_t i = from; i < row->n; i++) {
        report->at = i;
        set_path();
        memset(H.out, 0, sizeof H.out);
        row->call(i);
        report->made++;
    }
    test_leave(0);
}

// All calls of a function; after a crash the next ones are made by another child.
static void call_all(const struct hostile_row *row) {
    size_t crashes = 0;
    report->made = report->wrong = 0;
    for (size_t from = 0; from < row->n && crashes < 20; from = report->at + 1) {
        int status = 0;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) child(row, from);
        if (!CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "%s: no child", row->name)) return;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
        crashes++;
        CHECK(0, "%s, call %zu, %d at the path: %s %d", row->name, report->at, (int)there,
              WIFSIGNALED(status) ? "signal" : "exit code",
              WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    CHECK(!report->wrong, "%zu times: %s", report->wrong, report->what);
    test_passed += (int)report->made;
}

// Each declaration of the public half has a row with its parameters: "MRCDEF type name(..);".
static void test_rows(void) {
    char *text, *end;
    size_t bytes, n = 0;
    if (!GOOD(mrc_file_read(H.ctx, &text, &bytes, "mrc.h"))) return;
    char *at = strstr(text, "#ifndef MRC_H");
    if ((end = strstr(text, "// >>impl.passes   ")) != NULL) *end = 0;
    while (at && (at = strstr(at, "\nMRCDEF ")) != NULL) {
        char declared[1024], name[128];
        size_t length = 0;
        int comment = 0, space = 0;
        for (at += 8; *at && *at != ';'; at++) {        // one line, without comments
            if (at[0] == '/' && at[1] == '/') comment = 1;
            if (*at == '\n') comment = 0;
            if (comment || *at == '\n' || *at == ' ') {
                space = 1;
                continue;
            }
            if (space && length) declared[length++] = ' ';
            space = 0;
            if (length < sizeof declared - 2) declared[length++] = *at;
        }
        declared[length] = 0;
        const char *open = strstr(declared, "mrc_"), *paren = open ? strchr(open, '(') : NULL;
        while (open && open[strspn(open, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '(') {
            open = strstr(open + 1, "mrc_");
        }
        if (!CHECK(paren != NULL, "%s", declared)) continue;
        snprintf(name, sizeof name, "%.*s", (int)(paren - open), open);
        size_t i = 0, rows = sizeof hostile_rows / sizeof *hostile_rows;
        while (i < rows && strcmp(hostile_rows[i].name, name)) i++;
        if (!CHECK(i < rows, "%s has no row: run tests/support/make_hostile.py", name)) continue;
        size_t parameters = strlen(paren + 1) - 1;
        CHECK(strlen(hostile_rows[i].parameters) == parameters
              && !strncmp(hostile_rows[i].parameters, paren + 1, parameters),
              "%s has other parameters than its row: run tests/support/make_hostile.py", name);
        n++;
    }
    CHECK(n > 150, "%zu functions found", n);
    mrc_file_free(H.ctx, text);
}

//==============================================================================
// Objects freed in every order that the API allows, and made again at the same addresses
//==============================================================================
// An allocator that gives back what was freed last, so that new objects lie where old ones were;
// it counts what is live.
enum { REUSE_MAX = 4096 };
static struct reuse { void *block[REUSE_MAX]; size_t bytes[REUSE_MAX], n, live; } reuse;
typedef union reuse_head { size_t bytes; char pad[64]; } reuse_head;
static void *reuse_alloc(void *user, size_t bytes) {
    (void)user;
    for (size_t i = reuse.n; i-- > 0;) {
        if (reuse.bytes[i] < bytes || reuse.bytes[i] > 2 * bytes + 256) continue;
        void *p = reuse.block[i];
        reuse.n--;
        memmove(&reuse.block[i], &reuse.block[i + 1], (reuse.n - i) * sizeof *reuse.block);
        memmove(&reuse.bytes[i], &reuse.bytes[i + 1], (reuse.n - i) * sizeof *reuse.bytes);
        reuse.live++;
        return memset(p, 0xA5, bytes);
    }
    reuse_head *h = malloc(sizeof *h + bytes);
    if (!h) return NULL;
    h->bytes = bytes;
    reuse.live++;
    return memset(h + 1, 0xA5, bytes);
}
static void reuse_free(void *user, void *p) {
    (void)user;
    if (!p) return;
    reuse_head *h = (reuse_head *)p - 1;
    memset(p, 0x5A, h->bytes);          // what reads it afterwards reads nonsense
    reuse.live--;
    if (reuse.n == REUSE_MAX) {
        free(h);
        return;
    }
    reuse.block[reuse.n] = p;
    reuse.bytes[reuse.n++] = h->bytes;
}

enum { O_BACKEND, O_CTX, O_TOKENIZER, O_DATASET, O_FEATURES, O_MODEL, O_OPTIMIZER, O_READER,
       O_INDEX, O_SEARCHER, O_DENSE, O_PASSAGES, O_JSON, O_WEIGHTS, O_ENCODER, O_PAIRS, O_COUNT };
// Who must be freed before whom, as the header says; all else may be freed in any order.
static const uint32_t freed_after[O_COUNT] = {
    [O_BACKEND] = 1u << O_CTX | 1u << O_MODEL,
    [O_CTX] = 1u << O_READER | 1u << O_INDEX | 1u << O_SEARCHER | 1u << O_DENSE | 1u << O_WEIGHTS
            | 1u << O_ENCODER,
    [O_MODEL] = 1u << O_CTX | 1u << O_OPTIMIZER, [O_INDEX] = 1u << O_SEARCHER,
    [O_DATASET] = 1u << O_FEATURES, [O_TOKENIZER] = 1u << O_FEATURES,
};
typedef struct life {
    mrc_backend *be;
    mrc_ctx *ctx;
    mrc_tokenizer *tok;
    mrc_dataset *dataset;
    mrc_features features;
    mrc_model *model;
    mrc_optimizer *optimizer;
    mrc_reader *reader;
    mrc_index *index;
    mrc_searcher *searcher;
    mrc_dense *dense;
    mrc_passages *passages;
    mrc_json *json;
    mrc_weights *st;
    mrc_encoder *encoder;
    mrc_pairs *pairs;
} life;

static int life_begin(life *l) {
    const mrc_example e = { .context = "a b c", .context_bytes = 5, .question = "q",
                            .question_bytes = 1 };
    const mrc_ctx_desc desc = { .backend = l->be, .allocator = { reuse_alloc, reuse_free, NULL } };
    const mrc_features_config f = mrc_features_config_default();
    mrc_search_config search = mrc_search_config_default((mrc_bm25)0);
    char path[200];
    search.threads = 1;
    if (mrc_ctx_new(&l->ctx, &desc) != MRC_OK) return 0;
    snprintf(path, sizeof path, "%s/index", H.folder);
    int ok = mrc_tokenizer_load(l->ctx, &l->tok, "data") == MRC_OK
          && mrc_dataset_new(l->ctx, &l->dataset, &e, 1) == MRC_OK
          && mrc_features_new(l->ctx, &l->features, l->dataset, l->tok, &f) == MRC_OK
          && mrc_index_open(l->ctx, &l->index, path) == MRC_OK
          && mrc_searcher_new(l->ctx, &l->searcher, l->index, &search) == MRC_OK
          && mrc_dense_open(l->ctx, &l->dense, path, 0) == MRC_OK
          && mrc_encoder_new(l->ctx, &l->encoder, H.encoder_path, NULL) == MRC_OK
          && mrc_pairs_load(l->ctx, &l->pairs, &H.pairs_desc) == MRC_OK
          && mrc_json_parse(l->ctx, &l->json, "j", "{\"a\": [1]}", 10, 0) == MRC_OK;
    snprintf(path, sizeof path, "%s/corpus.tsv", H.folder);
    ok = ok && mrc_passages_load(l->ctx, &l->passages, path, NULL) == MRC_OK;
    snprintf(path, sizeof path, "%s/model", H.folder);
    ok = ok && mrc_reader_new(l->ctx, &l->reader, path, NULL) == MRC_OK;
    snprintf(path, sizeof path, "%s/model/model.safetensors", H.folder);
    return ok && mrc_safetensors_open(l->ctx, &l->st, path) == MRC_OK;
}

// A model of `width`, its optimizer, and one step: gradients lie where those of another one were.
static int life_step(life *l, size_t width, uint32_t step) {
    mrc_model_config c = mrc_model_config_default();
    const mrc_optimizer_config o = mrc_optimizer_config_default();
    const mrc_feature *list[1];
    mrc_step_result result;
    c.vocab_size = mrc_tokenizer_size(l->tok);
    c.hidden_size = c.intermediate_size = width;
    c.num_hidden_layers = c.num_attention_heads = 1;
    c.max_position_embeddings = 514;
    if (mrc_model_new(l->ctx, &l->model, &c, MRC_DTYPE_F32, 1) != MRC_OK
        || mrc_optimizer_new(l->ctx, &l->optimizer, l->model->params, &o) != MRC_OK) return 0;
    list[0] = &l->features.list[0];
    const mrc_step_desc desc = { .features = list, .n = 1, .lr = 1e-3,
                                 .random = { .seed = 1, .step = step },
                                 .forward = mrc_forward_config_default() };
    return mrc_train_step(l->ctx, l->model, l->optimizer, &desc, &result) == MRC_OK
        && isfinite(result.loss);
}

static void life_free(life *l, int object) {
    switch (object) {
    case O_BACKEND:   mrc_backend_free(l->be); break;
    case O_CTX:       mrc_ctx_free(l->ctx); break;
    case O_TOKENIZER: mrc_tokenizer_free(l->tok); break;
    case O_DATASET:   mrc_dataset_free(l->dataset); break;
    case O_FEATURES:  mrc_features_free(&l->features); break;
    case O_MODEL:     mrc_model_free(l->model); break;
    case O_OPTIMIZER: mrc_optimizer_free(l->optimizer); break;
    case O_READER:    mrc_reader_free(l->reader); break;
    case O_INDEX:     mrc_index_close(l->index); break;
    case O_SEARCHER:  mrc_searcher_free(l->searcher); break;
    case O_DENSE:     mrc_dense_close(l->dense); break;
    case O_PASSAGES:  mrc_passages_free(l->passages); break;
    case O_JSON:      mrc_json_free(l->json); break;
    case O_WEIGHTS:   mrc_weights_close(l->st); break;
    case O_ENCODER:   mrc_encoder_free(l->encoder); break;
    default:          mrc_pairs_free(l->pairs); break;
    }
}

// One life: everything made, models of three widths after each other in one context, then all freed
// in the order that `seed` draws.  0: well.
static int life_run(uint32_t seed) {
    life l = {0};
    uint32_t gone = 0;
    const size_t live = reuse.live;
    alarm(60);
    if (mrc_backend_naive_new(&l.be, NULL) != MRC_OK || !life_begin(&l)) return 2;
    for (uint32_t k = 0; k < 3; k++) {
        static const size_t widths[] = { 4, 16, 8 };
        mrc_optimizer_free(l.optimizer);
        if (l.model) mrc_grad_forget(l.ctx);
        mrc_model_free(l.model);
        l.model = NULL;
        l.optimizer = NULL;
        if (!life_step(&l, widths[(k + seed) % 3], k)) return 3;
    }
    for (int n = 0; n < O_COUNT; n++) {
        int object;
        do {
            seed = seed * 1664525u + 1013904223u;
            object = (int)(seed >> 8) % O_COUNT;
        } while (gone >> object & 1 || (freed_after[object] & ~gone));
        gone |= 1u << object;
        life_free(&l, object);
    }
    return reuse.live == live ? 0 : 4;
}
static void test_lives(void) {
    for (uint32_t seed = 1; seed <= 24; seed++) {
        int status = 0;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            // Twice: the second life lies where the first one was.
            int code = life_run(seed);
            test_leave(code ? code : life_run(seed + 100));
        }
        if (!CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "no child")) return;
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "order %u: %s %d (3: a step failed, "
              "4: something is left)", seed, WIFEXITED(status) ? "code" : "signal",
              WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    }
}

int main(void) {
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(report != MAP_FAILED && begin(), "what the calls need")) return test_end();
    test_rows();
    test_lives();
    for (there = MRC_PATH_NONE; there <= MRC_PATH_DIR; there++) {
        for (size_t i = 0; i < sizeof hostile_rows / sizeof *hostile_rows; i++) {
            if (there == MRC_PATH_NONE || strstr(hostile_rows[i].parameters, "path")
                                       || strstr(hostile_rows[i].parameters, "dir")) {
                call_all(&hostile_rows[i]);
            }
        }
    }
    mrc_ctx_clear_error(H.ctx);
    CHECK(mrc_dir_remove(H.ctx, H.folder) == MRC_OK, "%s", mrc_ctx_message(H.ctx));
    return test_end();
}
