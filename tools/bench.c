// bench: one table of ratios, ours against a peer, each measured in one run.
//
// Both sides of a row are processes that this starts: ours is this program again (--worker), the
// peer a script or OpenBLAS in another worker.  Each makes its model or matrices and then waits to
// be told "go", so the two take turns on a machine that is otherwise theirs: what slows one slows
// the other, memory is counted apart, and thread counts are each process's own.
//
//     to a side:    go SECONDS          repeat the work for at least so long, at least once
//     from it:      MEAN_SECONDS CHECK CPU_SECONDS      of one repetition; CHECK counts what was
//                   made, 0: nothing; CPU_SECONDS are of all its threads
#include "process.h"
#include "peaks.h"

enum { MAX_REPEATS = 100 };

static struct bench_args {
    const char *output_dir, *python, *script, *korquad_file, *tokenizer, *mrc_dir;
    const char *minilm, *squad_dir, *squad_script;
    tool_list   names;
    size_t      repeats;
    int         quick, isa;             // isa: an mrc_isa, as --isa counts them
} args;

//==============================================================================
// Workers: our side of a row
//==============================================================================
static char **worker_words;             // key=value .., ended by NULL

static const char *option(const char *key, const char *otherwise) {
    size_t n = strlen(key);
    for (char **w = worker_words; *w; w++) {
        if (strncmp(*w, key, n) == 0 && (*w)[n] == '=') return *w + n + 1;
    }
    return otherwise;
}
static size_t number(const char *key) {
    const char *text = option(key, "0");
    return (size_t)strtoull(text, NULL, 10);
}

// Processor seconds of all threads of this process.
static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Says that the work can begin, then does it as often as told.
static int serve(const char *name, size_t (*work)(void *), void *state) {
    char line[256];
    tool_print("ready %s\n", name);
    tool_flush();
    while (fgets(line, sizeof line, stdin)) {
        size_t n = 0, check = 0;
        if (strncmp(line, "peak", 4) == 0) {
            tool_print("%zu 0 0\n", tool_peak_bytes());
        } else {
            double least = strtod(line + 2, NULL), begun = tool_seconds(), passed;
            const double before = cpu_seconds();
            do {
                check = work(state);
                n++;
                passed = tool_seconds() - begun;
            } while (passed < least);
            tool_print("%.9f %zu %.9f\n", passed / (double)n, check,
                       (cpu_seconds() - before) / (double)n);
        }
        tool_flush();
    }
    return tool_finish();
}

static mrc_backend *worker_backend(void) {
    mrc_backend_desc desc = { .threads = number("threads"), .isa = (mrc_isa)number("isa") };
    mrc_backend *be;
    if (strcmp(option("precision", "fp32"), "fp32") != 0) desc.math = MRC_MATH_BF16;
    tool_common.threads = desc.threads;
    tool_common.backend = strcmp(option("backend", "cpu"), "openblas") == 0
                        ? TOOL_BACKEND_OPENBLAS : TOOL_BACKEND_CPU;
    tool_common_flags[0].given = 1;             // --threads, for who asks whether it was
    if (tool_common.backend == TOOL_BACKEND_OPENBLAS || desc.isa == MRC_ISA_AUTO) {
        return tool_backend_new_with(desc.math);
    }
    mrc_status s = mrc_backend_cpu_new(&be, &desc);
    if (s != MRC_OK) tool_fail(tool_exit_code(s), "--isa: this machine has none of the kind");
    return be;
}

// ---- gemm: the three products of a linear layer's step, of one or of all in an encoder layer ----

typedef struct gemm_work { mrc_backend *be; size_t n, hidden, ffn; float *x, *w, *y; int which; }
    gemm_work;

static void gemm_linear(const gemm_work *g, size_t in, size_t out) {
    const mrc_in x = { MRC_DTYPE_F32, in, g->x }, w = { MRC_DTYPE_F32, in, g->w };
    const mrc_in y = { MRC_DTYPE_F32, out, g->y };
    const mrc_gemm_args products[] = {
        { .m = g->n, .n = out, .k = in, .b_transposed = 1, .a = x, .b = w,
          .c = { MRC_DTYPE_F32, out, g->y, 0 } },                       // y = x W^T
        { .m = g->n, .n = in, .k = out, .a = y, .b = w,
          .c = { MRC_DTYPE_F32, in, g->x, 0 } },                        // dx = dy W
        { .m = out, .n = in, .k = g->n, .a_transposed = 1, .a = y, .b = x,
          .c = { MRC_DTYPE_F32, in, g->w, 0 } },                        // dW = dy^T x
    };
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        mrc_status s = g->be->kernels[MRC_DTYPE_F32].gemm(g->be, &products[i]);
        if (s != MRC_OK) tool_fail(tool_exit_code(s), "gemm: %s", mrc_status_string(s));
    }
}

static size_t gemm_repeat(void *state) {
    gemm_work *g = state;
    size_t widest = g->hidden > g->ffn ? g->hidden : g->ffn;
    // The products feed each other and would grow: begin from the same small numbers.
    for (size_t i = 0; i < g->n * widest; i += 16) g->x[i] = g->y[i] = 1e-3f;
    for (size_t i = 0; i < g->hidden * widest; i += 16) g->w[i] = 1e-3f;
    for (int k = 0; k < 4 && (g->which == 'a' || g->which == 'l'); k++) {
        gemm_linear(g, g->hidden, g->hidden);
        if (g->which == 'a') break;
    }
    if (g->which == 'u' || g->which == 'l') gemm_linear(g, g->hidden, g->ffn);
    if (g->which == 'd' || g->which == 'l') gemm_linear(g, g->ffn, g->hidden);
    return 0;
}

// A peer at its best on the instructions that our side takes, whatever the environment says of it:
// some versions of OpenBLAS do not know younger processors and take AVX2 there.  It reads this when
// it is loaded, and names its core in peer_version.
static void like_ours(void) {
    mrc_backend *be;
    mrc_backend_desc desc = { .threads = 1, .isa = (mrc_isa)number("isa") };
    unsetenv("OPENBLAS_L2_SIZE");
    unsetenv("OPENBLAS_CORETYPE");
    if (mrc_backend_cpu_new(&be, &desc) != MRC_OK) return;
    if (strcmp(be->isa, "avx512") == 0) setenv("OPENBLAS_CORETYPE", "SkylakeX", 1);
    else if (desc.isa == MRC_ISA_AVX2) setenv("OPENBLAS_CORETYPE", "Haswell", 1);
    else if (desc.isa == MRC_ISA_BASELINE) setenv("OPENBLAS_CORETYPE", "Nehalem", 1);
    mrc_backend_free(be);
}

static int work_gemm(void) {
    char name[256];
    int openblas = strcmp(option("backend", "cpu"), "openblas") == 0;
    if (openblas) like_ours();
    gemm_work g = { .be = worker_backend(), .n = number("tokens"), .hidden = number("hidden"),
                    .ffn = number("ffn"), .which = *option("which", "l") };
    size_t widest = g.hidden > g.ffn ? g.hidden : g.ffn;
    g.x = tool_allocate(g.n * widest, sizeof(float));
    g.y = tool_allocate(g.n * widest, sizeof(float));
    g.w = tool_allocate(g.hidden * widest, sizeof(float));
#ifdef MRC_OPENBLAS
    if (openblas) {
        snprintf(name, sizeof name, "%s", mrc_openblas_version());
        return serve(name, gemm_repeat, &g);
    }
#endif
    snprintf(name, sizeof name, "mrc %s", g.be->isa);
    return serve(name, gemm_repeat, &g);
}

// ---- linear: one product of a layer, as prediction has it (packed weights) or as training ----

typedef struct linear_work {
    mrc_backend *be;
    size_t       n, in, out;
    float       *x, *w, *y, *bias;
    void        *packed;
    mrc_dtype    dtype;                 // of packed
} linear_work;

static mrc_dtype worker_dtype(void) {
    const char *precision = option("precision", "fp32");
    return strcmp(precision, "int8") == 0 ? MRC_DTYPE_I8
         : strcmp(precision, "bf16") == 0 ? MRC_DTYPE_BF16 : MRC_DTYPE_F32;
}

static size_t packed_repeat(void *state) {
    const linear_work *l = state;
    const mrc_linear_fwd_args args_of = {
        .n = l->n, .in = l->in, .out = l->out, .x = { MRC_DTYPE_F32, l->in, l->x },
        .weight = { l->dtype, 0, l->packed }, .bias = { MRC_DTYPE_F32, 0, l->bias },
        .y = { MRC_DTYPE_F32, l->out, l->y, 0 } };
    mrc_status s = l->be->kernels[MRC_DTYPE_F32].linear_fwd(l->be, &args_of);
    if (s != MRC_OK) tool_fail(tool_exit_code(s), "linear: %s", mrc_status_string(s));
    return 0;
}
static size_t products_repeat(void *state) {
    const linear_work *l = state;
    const gemm_work g = { .be = l->be, .n = l->n, .x = l->x, .w = l->w, .y = l->y };
    gemm_linear(&g, l->in, l->out);
    return 0;
}

static int work_linear(void) {
    linear_work l = { .be = worker_backend(), .n = number("tokens"), .in = number("in"),
                      .out = number("out"), .dtype = worker_dtype() };
    l.x = tool_allocate(l.n * l.in, sizeof(float));
    l.y = tool_allocate(l.n * l.out, sizeof(float));
    l.w = tool_allocate(l.in * l.out, sizeof(float));
    l.bias = tool_allocate(l.out, sizeof(float));
    if (strcmp(option("products", "packed"), "packed") != 0) {
        return serve("mrc", products_repeat, &l);       // of zeros: they stay small
    }
    for (size_t i = 0; i < l.n * l.in; i++) l.x[i] = (float)(i * 7 % 1024) * 1e-3f - 0.5f;
    for (size_t i = 0; i < l.in * l.out; i++) l.w[i] = (float)(i * 11 % 1024) * 1e-4f - 0.05f;
    size_t bytes = l.be->prepack_bytes(l.be, l.dtype, l.out, l.in);
    l.packed = l.be->alloc(l.be, bytes);
    if (!bytes || !l.packed) tool_fail(TOOL_NO_MEMORY, "linear: its weights cannot be packed");
    l.be->prepack(l.be, l.packed, l.dtype, l.out, l.in, l.w);
    return serve("mrc", packed_repeat, &l);
}

// ---- train, forward: a reader with random weights on random full sequences ----

typedef struct model_work {
    mrc_backend   *be;
    mrc_ctx       *ctx;
    mrc_model     *model;
    mrc_optimizer *optimizer;
    mrc_dataset   *data;
    mrc_features   features;
    mrc_batch_plan plan;
    const mrc_feature **list;
    size_t         n, step;
} model_work;

// A family of encoders with the sizes of the rest; DeBERTa as its third version.
static mrc_model_config worker_family(const char *word) {
    mrc_model_config c = mrc_model_config_default();
    for (int k = 0; k < MRC_MODEL_TYPE_COUNT; k++) {
        if (strcmp(word, mrc_model_type_name((mrc_model_type)k))) continue;
        c = mrc_model_config_family((mrc_model_type)k);
        if (k == MRC_MODEL_DEBERTA_V2) {
            c.relative_attention = c.share_att_key = c.norm_rel_ebd = 1;
            c.pos_att_type = MRC_C2P | MRC_P2C;
            c.position_buckets = 256;
            c.position_biased_input = 0;
        }
        c.pad_token_id = k == MRC_MODEL_MODERNBERT ? 0 : c.pad_token_id;
        return c;
    }
    tool_fail(TOOL_USAGE, "bench: no such family (found %s)", word);
    return c;
}

static mrc_model_config worker_config(void) {
    mrc_model_config c = worker_family(option("family", "roberta"));
    c.num_hidden_layers = number("layers");
    c.hidden_size = number("hidden");
    c.num_attention_heads = number("heads");
    c.intermediate_size = number("ffn");
    c.vocab_size = number("vocab");
    c.max_position_embeddings = number("seq") + 2;
    // Buckets must leave distances to share them: 256 from 384 tokens on, as DeBERTa v3 has it.
    if (c.position_buckets > number("seq") * 2 / 3) c.position_buckets = number("seq") / 2;
    if (c.model_type == MRC_MODEL_ROBERTA) {
        c.type_vocab_size = 1;
        c.layer_norm_eps = 1e-5;
    }
    if (number("rnn")) {
        c.head = MRC_HEAD_BILSTM;
        c.num_head_layers = number("rnn");
        c.head_hidden_size = c.hidden_size;
        c.head_dropout = 0.2;
    }
    return c;
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void random_features(model_work *w) {
    size_t seq = number("seq"), vocab = number("vocab");
    uint32_t random = 1;
    w->n = number("batch");
    w->list = tool_allocate(w->n, sizeof *w->list);
    for (size_t i = 0; i < w->n; i++) {
        mrc_feature *f = tool_allocate(1, sizeof *f);
        f->example_index = (int32_t)i;
        f->length = f->real_len = f->loss_end = (int32_t)seq;
        f->input_ids = tool_allocate(seq, sizeof *f->input_ids);
        f->token_type_ids = tool_allocate(seq, sizeof *f->token_type_ids);
        f->offset_mapping = tool_allocate(seq, sizeof *f->offset_mapping);
        for (size_t t = 0; t < seq; t++) {
            f->input_ids[t] = 5 + (int32_t)(next_random(&random) % (vocab - 5));
        }
        f->start_position = (int32_t)(next_random(&random) % seq);
        f->end_position = (int32_t)(next_random(&random) % seq);
        w->list[i] = f;
    }
}

// The model as predict has it: saved, and loaded for forward passes only.
static void packed_model(model_work *w) {
    const mrc_model_load_desc desc = { .path = option("to", ""), .for_prediction = 1,
                                       .threads = number("threads"), .dtype = worker_dtype() };
    tool_check(w->ctx, mrc_model_save(w->ctx, w->model, desc.path, NULL));
    mrc_model_free(w->model);
    tool_check(w->ctx, mrc_model_load(w->ctx, &w->model, &desc));
    tool_check(w->ctx, mrc_dir_remove(w->ctx, desc.path));
}

static void worker_model(model_work *w, int training) {
    mrc_model_config config = worker_config();
    mrc_optimizer_config o = mrc_optimizer_config_default();
    o.weight_decay = 0;
    o.max_grad_norm = 0;
    w->be = worker_backend();
    w->ctx = tool_ctx_new(w->be, 0);
    tool_check(w->ctx, mrc_model_new(w->ctx, &w->model, &config, MRC_DTYPE_F32, 1));
    if (!training) {
        packed_model(w);
        return;
    }
    tool_check(w->ctx, mrc_optimizer_new(w->ctx, &w->optimizer, w->model->params, &o));
}

static void train_step(model_work *w, const mrc_feature *const *list, size_t n) {
    mrc_step_result result;
    mrc_step_desc desc = { .features = list, .n = n, .micro_batch = n, .lr = 2e-5,
                           .random = { 1, (uint32_t)w->step++, 0 },
                           .forward = mrc_forward_config_default() };
    desc.forward.dropout = 1;
    desc.forward.gradient_checkpointing = number("checkpointing") != 0;
    tool_check(w->ctx, mrc_train_step(w->ctx, w->model, w->optimizer, &desc, &result));
}

static size_t train_repeat(void *state) {
    model_work *w = state;
    train_step(w, w->list, w->n);
    return w->n * (size_t)w->list[0]->length;
}

static size_t forward_repeat(void *state) {
    model_work *w = state;
    mrc_batch batch;
    mrc_forward_config config = mrc_forward_config_default();
    mrc_no_grad(w->ctx, 1);
    tool_check(w->ctx, mrc_model_batch(w->ctx, w->model, &batch, w->list, w->n, 0));
    mrc_tensor *y = mrc_model_forward(w->ctx, w->model, &batch, &config);
    if (!y) tool_check(w->ctx, mrc_ctx_status(w->ctx));
    size_t numel = y->numel;
    float *logits = tool_allocate(numel, sizeof *logits);
    tool_check(w->ctx, mrc_tensor_download(w->ctx, y, logits));
    free(logits);
    mrc_ctx_reset(w->ctx);
    return numel;
}

static int work_train(void) {
    model_work w = { 0 };
    worker_model(&w, 1);
    random_features(&w);
    return serve("mrc", train_repeat, &w);
}
static int work_forward(void) {
    model_work w = { 0 };
    worker_model(&w, 0);
    random_features(&w);
    return serve("mrc", forward_repeat, &w);
}

// ---- epoch: training steps on batches of real questions ----

static size_t epoch_repeat(void *state) {
    model_work *w = state;
    size_t b = w->step % w->plan.n_batches, n = w->plan.begin[b + 1] - w->plan.begin[b];
    for (size_t i = 0; i < n; i++) {
        w->list[i] = &w->features.list[w->plan.feature[w->plan.begin[b] + i]];
    }
    train_step(w, w->list, n);
    return 0;
}

static int work_epoch(void) {
    model_work w = { 0 };
    mrc_tokenizer *tok;
    mrc_features_config config = mrc_features_config_default();
    worker_model(&w, 1);
    config.max_seq_length = number("seq");
    config.doc_stride = config.max_seq_length / 4;
    config.pad_to_max_length = number("pad") != 0;
    tool_check(w.ctx, mrc_tokenizer_load(w.ctx, &tok, option("tokenizer", "data")));
    tool_check(w.ctx, mrc_dataset_load(w.ctx, &w.data, option("text", "")));
    tool_check(w.ctx, mrc_features_new(w.ctx, &w.features, w.data, tok, &config));
    tool_check(w.ctx, mrc_batch_plan_new(w.ctx, &w.plan, &w.features, MRC_BATCHING_RANDOM,
                                         number("batch"), 1, 0));
    w.list = tool_allocate(number("batch"), sizeof *w.list);
    return serve(config.pad_to_max_length ? "mrc padded" : "mrc", epoch_repeat, &w);
}

// ---- tokenize: ids and offsets of each line ----

typedef struct text_work {
    mrc_ctx             *ctx;           // of this thread
    const mrc_tokenizer *tok;
    const char          *text, *end;
    size_t               tokens;
    pthread_t            thread;
} text_work;

static void *tokenize_lines(void *state) {
    text_work *w = state;
    w->tokens = 0;
    for (const char *line = w->text, *end; line < w->end; line = end + 1) {
        mrc_encodings e;
        end = memchr(line, '\n', (size_t)(w->end - line));
        tool_check(w->ctx, mrc_tokenizer_encode(w->ctx, w->tok, &e, line, (size_t)(end - line),
                                                NULL, 0, NULL));
        w->tokens += e.list[0].n;
        mrc_encodings_free(&e);
    }
    return NULL;
}

// Each thread has a run of lines; the list ends with a work without a context.
static size_t tokenize_repeat(void *state) {
    text_work *w = state;
    size_t tokens = 0, n = 0;
    while (w[n].ctx) n++;
    for (size_t i = 1; i < n; i++) {
        if (pthread_create(&w[i].thread, NULL, tokenize_lines, &w[i]) != 0) {
            tool_fail(TOOL_NO_MEMORY, "tokenize: no thread to be had");
        }
    }
    tokenize_lines(w);
    for (size_t i = 0; i < n; i++) {
        if (i) pthread_join(w[i].thread, NULL);
        tokens += w[i].tokens;
    }
    return tokens;
}

static int work_tokenize(void) {
    size_t n = number("threads") ? number("threads") : 1, bytes;
    text_work *w = tool_allocate(n + 1, sizeof *w);
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    mrc_tokenizer *tok;
    char *text;
    tool_check(ctx, mrc_tokenizer_load(ctx, &tok, option("tokenizer", "data")));
    tool_check(ctx, mrc_file_read(ctx, &text, &bytes, option("text", "")));
    const char *begin = text;
    for (size_t i = 0; i < n; i++) {
        const char *end = text + bytes * (i + 1) / n;
        while (end < text + bytes && end[-1] != '\n') end++;
        w[i] = (text_work){ .ctx = i ? tool_ctx_new(NULL, 0) : ctx, .tok = tok, .text = begin,
                            .end = end };
        begin = end;
    }
    return serve("mrc", tokenize_repeat, w);
}

// Contexts of a data set, each once, a line each: what both tokenizers are given.
static int work_text(void) {
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    mrc_dataset *d;
    mrc_text out;
    mrc_text_init(&out, ctx);
    tool_check(ctx, mrc_dataset_load_questions(ctx, &d, option("from", "")));
    for (size_t i = 0; i < mrc_dataset_size(d); i++) {
        const mrc_example *x = mrc_dataset_at(d, i), *before = i ? mrc_dataset_at(d, i - 1) : NULL;
        if (before && strcmp(before->context, x->context) == 0) continue;
        size_t begin = out.bytes;
        mrc_text_add(&out, x->context, x->context_bytes);
        for (size_t k = begin; k < out.bytes; k++) {
            if (out.data[k] == '\n' || out.data[k] == '\r') out.data[k] = ' ';
        }
        mrc_text_add(&out, "\n", 1);
    }
    tool_check(ctx, out.failed ? MRC_ERR_MEM : MRC_OK);
    tool_check(ctx, mrc_file_write(ctx, option("to", ""), out.data, out.bytes));
    return tool_finish();
}

// ---- search: an index of passages built, and the best 20 passages of questions looked up ----

enum { SEARCH_TOP = 20, SEARCH_TIMES = 40 };        // all questions so often in one call
typedef struct search_work {
    mrc_ctx      *ctx;
    mrc_passages *passages, *questions;
    mrc_searcher *searcher;
    mrc_query    *queries;
    size_t        n, *n_hits;
    mrc_hit      *hits;
} search_work;

static size_t build_repeat(void *state) {
    search_work *w = state;
    mrc_index_desc desc = { .passages = w->passages, .threads = number("threads") };
    mrc_index *ix;
    tool_check(w->ctx, mrc_index_new(w->ctx, option("dir", ""), &desc));
    tool_check(w->ctx, mrc_index_open(w->ctx, &ix, option("dir", "")));
    size_t terms = mrc_index_terms(ix);
    mrc_index_close(ix);
    return terms;
}

// The best scores, added up.
static size_t search_repeat(void *state) {
    search_work *w = state;
    double sum = 0;
    tool_check(w->ctx, mrc_search(w->searcher, w->queries, w->n, SEARCH_TOP, w->hits, w->n_hits));
    for (size_t i = 0; i < w->n; i++) sum += w->n_hits[i] ? w->hits[i * SEARCH_TOP].score : 0;
    return (size_t)(sum + 0.5);
}

static int work_search(void) {
    search_work w = { .ctx = tool_ctx_new(NULL, 0) };
    mrc_search_config config = mrc_search_config_default(MRC_BM25_LUCENE);
    mrc_index *ix;
    tool_check(w.ctx, mrc_passages_load(w.ctx, &w.passages, option("passages", ""), NULL));
    if (number("build")) return serve("mrc", build_repeat, &w);
    build_repeat(&w);
    config.threads = number("threads");
    tool_check(w.ctx, mrc_index_open(w.ctx, &ix, option("dir", "")));
    tool_check(w.ctx, mrc_searcher_new(w.ctx, &w.searcher, ix, &config));
    tool_check(w.ctx, mrc_passages_load(w.ctx, &w.questions, option("queries", ""), "question"));
    size_t n = mrc_passages_size(w.questions);
    w.n = n * SEARCH_TIMES;
    w.queries = tool_allocate(w.n, sizeof *w.queries);
    w.n_hits = tool_allocate(w.n, sizeof *w.n_hits);
    w.hits = tool_allocate(w.n * SEARCH_TOP, sizeof *w.hits);
    for (size_t i = 0; i < w.n; i++) {
        const mrc_passage *q = mrc_passages_at(w.questions, i % n);
        w.queries[i] = (mrc_query){ q->text, q->text_bytes };
    }
    return serve("mrc", search_repeat, &w);
}

// The distinct passages of up to two files, as both sides read them.
static int work_passages(void) {
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    mrc_text out;
    mrc_text_init(&out, ctx);
    for (int i = 0; i < 3; i++) {
        static const char *const keys[] = { "from", "and", "to" };
        const char *path = option(keys[i], "");
        mrc_passages *p;
        if (!*path) continue;
        tool_check(ctx, mrc_passages_load(ctx, &p, path, NULL));
        if (i == 2) out.bytes = 0;
        if (i == 2) mrc_passages_unique(p);
        for (size_t k = 0; k < mrc_passages_size(p); k++) {
            const mrc_passage *x = mrc_passages_at(p, k);
            mrc_text_printf(&out, "{\"id\": %zu, \"text\": ", k);
            mrc_text_json_string(&out, x->text, x->text_bytes, 0);
            mrc_text_add(&out, "}\n", 2);
        }
        mrc_passages_free(p);
        tool_check(ctx, out.failed ? MRC_ERR_MEM : MRC_OK);
        if (i) tool_check(ctx, mrc_file_write(ctx, option("to", ""), out.data, out.bytes));
    }
    return tool_finish();
}

// ---- reader: one question after the other, each on its own ----

typedef struct reader_work {
    mrc_ctx     *ctx;
    mrc_reader  *reader;
    mrc_dataset *set;
    size_t       next;
    mrc_example  question;
} reader_work;

static size_t reader_repeat(void *state) {
    reader_work *w = state;
    mrc_reply reply;
    tool_check(w->ctx, mrc_reader_answer(w->reader, mrc_dataset_at(w->set, w->next++
                                         % mrc_dataset_size(w->set)), 1, &reply));
    return 1;
}

// A question of ten full stops and a passage of so many that both make `tokens` tokens.
static void question_of(mrc_example *x, size_t tokens) {
    char *text = tool_allocate(tokens + 1, 1);
    memset(text, '.', tokens);
    *x = (mrc_example){ .id = "0", .question = text, .question_bytes = 10, .context = text + 10,
                        .context_bytes = tokens > 13 ? tokens - 13 : 1 };
    text[10 + x->context_bytes] = '\0';
}

static size_t question_repeat(void *state) {
    reader_work *w = state;
    mrc_reply reply;
    tool_check(w->ctx, mrc_reader_answer(w->reader, &w->question, 1, &reply));
    if (reply.n_windows != 1 || reply.windows[0].feature->length != (int32_t)number("seq")) {
        tool_fail(TOOL_BAD_INPUT, "reader: %zu windows of %d tokens (expected 1 of %zu)",
                  reply.n_windows, (int)reply.windows[0].feature->length, number("seq"));
    }
    return 2 * number("seq");
}

static int work_reader(void) {
    reader_work w = { .ctx = tool_ctx_new(worker_backend(), 0) };
    mrc_features_config features = mrc_features_config_default();
    features.max_seq_length = number("seq");
    features.doc_stride = number("seq") / 3;
    mrc_reader_desc desc = { .features = &features, .dtype = worker_dtype() };
    tool_check(w.ctx, mrc_reader_new(w.ctx, &w.reader, option("model", ""), &desc));
    if (!*option("text", "")) {
        question_of(&w.question, number("seq"));
        return serve("mrc", question_repeat, &w);
    }
    tool_check(w.ctx, mrc_dataset_load_questions(w.ctx, &w.set, option("text", "")));
    return serve("mrc", reader_repeat, &w);
}

// A model directory with random weights, for programs that load one.
static int work_model(void) {
    mrc_model *m;
    mrc_ctx *ctx = tool_ctx_new(worker_backend(), 0);
    mrc_model_config config = worker_config();
    mrc_tokenizer *tok;
    tool_check(ctx, mrc_tokenizer_load(ctx, &tok, option("tokenizer", "data")));
    config.pad_token_id = mrc_tokenizer_special(tok).pad;
    tool_check(ctx, mrc_model_new(ctx, &m, &config, MRC_DTYPE_F32, 1));
    tool_check(ctx, mrc_model_save(ctx, m, option("to", ""), option("tokenizer", "data")));
    return tool_finish();
}

static int run_worker(const char *kind, char **options) {
    static const struct { const char *kind; int (*run)(void); } kinds[] = {
        { "gemm", work_gemm }, { "train", work_train }, { "forward", work_forward },
        { "epoch", work_epoch }, { "tokenize", work_tokenize }, { "text", work_text },
        { "model", work_model }, { "search", work_search }, { "passages", work_passages },
        { "reader", work_reader }, { "linear", work_linear } };
    worker_words = options;
    tool_name = "bench --worker";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].kind, kind) == 0) return kinds[i].run();
    }
    tool_fail(TOOL_USAGE, "no such kind (found %s, expected gemm, train, forward, ..)", kind);
}

//==============================================================================
// Sides: processes that wait for "go"
//==============================================================================
static words ours(const char *kind) {
    words w = words_of_program("bench");
    words_add(&w, "--worker");
    words_add(&w, "%s", kind);
    return w;
}
static words theirs(const char *kind) {
    words w = { .n = 0 };
    words_add(&w, "%s", args.python);
    words_add(&w, "%s", args.script);
    words_add(&w, "%s", kind);
    return w;
}

typedef struct side {
    pid_t pid;
    FILE *to, *from;
    int   missing;                  // the peer is not installed
    double cpu;                     // processor seconds of a repetition, as it was last asked
    char  version[256];             // or how to install it
} side;

static void side_start(side *s, words *w) {
    int in[2], out[2];
    if (pipe(in) != 0 || pipe(out) != 0) tool_fail(TOOL_IO, "pipe: %s", strerror(errno));
    fcntl(in[1], F_SETFD, FD_CLOEXEC);
    fcntl(out[0], F_SETFD, FD_CLOEXEC);
    char log[TOOL_PATH_BYTES];
    tool_path(log, args.output_dir, "bench.log");
    int err = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);   // models talk
    fcntl(in[0], F_SETFD, FD_CLOEXEC);
    fcntl(out[1], F_SETFD, FD_CLOEXEC);
    s->pid = process_start(w, &(process_desc){ .in = in[0], .out = out[1], .err = err });
    if (err >= 0) close(err);
    close(in[0]);
    close(out[1]);
    s->to = fdopen(in[1], "w");
    s->from = fdopen(out[0], "r");
    if (!s->to || !s->from) tool_fail(TOOL_NO_MEMORY, "fdopen: %s", strerror(errno));
}

// Its exit code, or -1.
static int side_end(side *s) {
    char line[256];
    if (!s->pid) return -1;
    fclose(s->to);
    while (fgets(line, sizeof line, s->from)) continue;
    fclose(s->from);
    int code = process_end(s->pid);
    s->pid = 0;
    return code < 128 ? code : -1;
}

// Starts a side and waits until it is ready; what is not there is said to be missing.
static void side_new(side *s, words *w) {
    char line[256] = "";
    memset(s, 0, sizeof *s);
    side_start(s, w);
    int any = fgets(line, sizeof line, s->from) != NULL;
    line[strcspn(line, "\n")] = '\0';
    if (any && strncmp(line, "ready ", 6) == 0) {
        snprintf(s->version, sizeof s->version, "%.200s", line + 6);
        return;
    }
    int code = side_end(s);
    s->missing = 1;
    if (any && strncmp(line, "missing ", 8) == 0) {
        snprintf(s->version, sizeof s->version, "%.200s", line + 8);
    } else if (code == 127) {
        snprintf(s->version, sizeof s->version, "install Python 3, or name it in PYTHON");
    } else {
        snprintf(s->version, sizeof s->version, "%.180s ended with exit code %d: see bench.log",
                 w->text[2], code);
    }
}

static double side_ask(side *s, const char *what, double seconds, size_t *check) {
    char line[256];
    double value;
    fprintf(s->to, "%s %.3f\n", what, seconds);
    fflush(s->to);
    if (!fgets(line, sizeof line, s->from)
        || sscanf(line, "%lf %zu %lf", &value, check, &s->cpu) != 3) {
        tool_fail(TOOL_BAD_INPUT, "%s: has ended in the middle (exit code %d, see bench.log)",
                  s->version, side_end(s));
    }
    return value;
}

// Threads of the side that has just worked may still spin; OpenBLAS's do so for 26 ms at 2.6 GHz.
static void settle(void) {
    nanosleep(&(struct timespec){ .tv_nsec = args.quick ? 1000000 : 80000000 }, NULL);
}

//==============================================================================
// Rows
//==============================================================================
typedef struct measured {
    double ours[MAX_REPEATS], peer[MAX_REPEATS];    // seconds, turn by turn
    double our_cpu[MAX_REPEATS], peer_cpu[MAX_REPEATS];     // of all threads
    size_t n;
    double our_peak, peer_peak;                     // bytes
    int    missing;
    char   version[256];
} measured;

static struct table {
    mrc_text tsv;
    size_t   rows, compared, missing, below;
    double   begun;
    char     peaks[64], processor[256];
} table;

static int wanted(const char *name) {
    if (!args.names.n) return 1;
    for (size_t i = 0; i < args.names.n; i++) {
        if (strncmp(name, args.names.item[i], strlen(args.names.item[i])) == 0) return 1;
    }
    return 0;
}

// Whether a row that begins so can be wanted.
static int wanted_any(const char *prefix) {
    if (!args.names.n) return 1;
    for (size_t i = 0; i < args.names.n; i++) {
        const char *given = args.names.item[i];
        size_t n = strlen(given) < strlen(prefix) ? strlen(given) : strlen(prefix);
        if (strncmp(prefix, given, n) == 0) return 1;
    }
    return 0;
}

// Both sides once to warm up, then in turns.  least: seconds a side works for each turn.
static measured compare(const char *name, words *our_words, words *peer_words, double least) {
    measured m = { .n = args.repeats };
    side us, peer;
    size_t check[2] = { 0, 0 };
    tool_note("%s", name);
    side_new(&us, our_words);
    if (us.missing) tool_fail(TOOL_BAD_INPUT, "%s: our side: %s", name, us.version);
    side_new(&peer, peer_words);
    m.missing = peer.missing;
    memcpy(m.version, peer.version, sizeof m.version);
    if (args.quick) least = 0;
    side_ask(&us, "go", 0, &check[0]);
    if (!peer.missing) side_ask(&peer, "go", 0, &check[1]);
    if (check[0] && check[1] && check[0] != check[1]) {
        tool_note("%s: the sides do not do the same (found %zu here, %zu there)", name, check[0],
                  check[1]);
    }
    for (size_t i = 0; i < m.n; i++) {
        settle();
        m.ours[i] = side_ask(&us, "go", least, &check[0]);
        m.our_cpu[i] = us.cpu;
        if (peer.missing) continue;
        settle();
        m.peer[i] = side_ask(&peer, "go", least, &check[1]);
        m.peer_cpu[i] = peer.cpu;
    }
    m.our_peak = side_ask(&us, "peak", 0, &check[0]);
    if (!peer.missing) m.peer_peak = side_ask(&peer, "peak", 0, &check[1]);
    side_end(&us);
    side_end(&peer);
    return m;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(const double *x, size_t n) {
    double sorted[MAX_REPEATS];
    memcpy(sorted, x, n * sizeof *x);
    qsort(sorted, n, sizeof *sorted, by_size);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static void add_field(const char *fmt, double x) {
    char text[64];
    snprintf(text, sizeof text, fmt, x);
    mrc_text_printf(&table.tsv, "%s\t", x > 0 ? text : "-");
}

// One line of the table.  Figures are work / seconds, or with work 0 the seconds themselves; the
// ratio is how many times faster, or smaller, ours is.  bar: what the ratio should reach; 0: none.
static void add_row(const char *name, const char *unit, const measured *m, double work,
                    double bar) {
    double ratio[MAX_REPEATS], us = median(m->ours, m->n), peer = median(m->peer, m->n);
    char verdict[64] = "";
    size_t begin = table.tsv.bytes;
    for (size_t i = 0; i < m->n; i++) ratio[i] = m->missing ? 0 : m->peer[i] / m->ours[i];
    qsort(ratio, m->n, sizeof *ratio, by_size);
    double middle = median(ratio, m->n);
    mrc_text_printf(&table.tsv, "%s\t", name);
    add_field("%.4g", work > 0 ? work / us : us);
    add_field("%.4g", m->missing ? 0 : work > 0 ? work / peer : peer);
    mrc_text_printf(&table.tsv, "%s\t", m->missing ? "-" : m->version);
    add_field("%.3f", middle);
    add_field("%.3f", ratio[0]);
    add_field("%.3f", ratio[m->n - 1]);
    mrc_text_printf(&table.tsv, "%s\t", unit);
    add_field("%.4g", median(m->our_cpu, m->n));
    add_field("%.4g", m->missing ? 0 : median(m->peer_cpu, m->n));
    mrc_text_printf(&table.tsv, "%s\t%s\n", table.peaks, table.processor);
    tool_check_text(&table.tsv);
    table.rows++;
    table.compared += !m->missing;
    table.missing += m->missing != 0;
    if (!m->missing && bar > 0 && !args.quick) {
        int below = !(middle >= bar);           // no number is below
        table.below += below != 0;
        snprintf(verdict, sizeof verdict, "  %s %.2f", below ? "BELOW" : "reaches", bar);
    }
    tool_print("%.*s%s\n", (int)(table.tsv.bytes - begin - 1), table.tsv.data + begin, verdict);
    tool_flush();
    if (m->missing) tool_note("%s: no peer: %s", name, m->version);
}

// A figure of each side that was measured once, smaller is better.
static void add_single(const char *name, const char *unit, const measured *m, double us,
                       double peer, double bar) {
    measured one = { .ours = { us }, .peer = { peer }, .n = 1, .missing = m->missing };
    memcpy(one.version, m->version, sizeof one.version);
    if (wanted(name)) add_row(name, unit, &one, 0, bar);
}

// ---- models: what the rows are about; --quick makes them small ----

typedef struct shape { const char *name; size_t layers, hidden, heads, ffn, vocab; } shape;
static const shape shapes[] = { { "base", 12, 768, 12, 3072, 32000 },
                                { "large", 24, 1024, 16, 4096, 32000 } };
static shape shape_of(int large) {
    shape s = shapes[large];
    if (!args.quick) return s;
    return (shape){ s.name, 2, 32, 2, 64, 4096 };
}

static void add_shape(words *w, const shape *s, size_t rnn, size_t batch, size_t seq) {
    words_add(w, "layers=%zu", s->layers);
    words_add(w, "hidden=%zu", s->hidden);
    words_add(w, "heads=%zu", s->heads);
    words_add(w, "ffn=%zu", s->ffn);
    words_add(w, "vocab=%zu", s->vocab);
    words_add(w, "rnn=%zu", rnn);
    words_add(w, "batch=%zu", batch);
    words_add(w, "seq=%zu", seq);
    words_add(w, "threads=%zu", tool_common.threads);
    words_add(w, "isa=%d", args.isa);
}

// ---- gemm ----

static void add_gemm(words *w, const shape *s, size_t tokens, const char *which, size_t threads) {
    words_add(w, "hidden=%zu", s->hidden);
    words_add(w, "ffn=%zu", s->ffn);
    words_add(w, "tokens=%zu", tokens);
    words_add(w, "which=%s", which);
    words_add(w, "threads=%zu", threads);
    words_add(w, "isa=%d", args.isa);
}

static words gemm_words(const shape *s, size_t tokens, const char *which, size_t threads,
                        const char *backend) {
    words w = ours("gemm");
    add_gemm(&w, s, tokens, which, threads);
    words_add(&w, "backend=%s", backend);
    return w;
}

// Operations of the three products.
static double gemm_operations(const shape *s, size_t tokens, const char *which) {
    return 6.0 * (double)tokens * (double)s->hidden * (double)(*which == 'a' ? s->hidden : s->ffn);
}

// Against torch.mm, which is MKL's product in f32 and oneDNN's in bf16 (there of matrices that are
// bf16 already; ours are f32 and narrowed on the way).
static void gemm_torch_row(const char *prefix, const char *precision, int large, size_t tokens,
                           const char *which, size_t threads, double bar) {
    char name[64];
    shape s = shape_of(large);
    words peer = theirs("gemm");
    snprintf(name, sizeof name, "%s_%s_%zu_%s_t%zu", prefix, s.name, tokens, which, threads);
    if (!wanted(name)) return;
    if (args.quick) tokens = 40;
    words us = gemm_words(&s, tokens, which, threads, "cpu");
    add_gemm(&peer, &s, tokens, which, threads);
    words_add(&us, "precision=%s", precision);
    words_add(&peer, "precision=%s", precision);
    measured m = compare(name, &us, &peer, 0.3);
    add_row(name, "GFLOP/s", &m, gemm_operations(&s, tokens, which) * 1e-9, bar);
}

static void gemm_row(int large, size_t tokens, const char *which, size_t threads) {
    char name[64];
    shape s = shape_of(large);
    snprintf(name, sizeof name, "gemm_%s_%zu_%s_t%zu", s.name, tokens, which, threads);
    if (!wanted(name)) return;
    if (args.quick) tokens = 40;
    words us = gemm_words(&s, tokens, which, threads, "cpu");
    words peer = gemm_words(&s, tokens, which, threads, "openblas");
    double flops = gemm_operations(&s, tokens, which);
#ifdef MRC_OPENBLAS
    measured m = compare(name, &us, &peer, 0.3);
#else
    words none = ours("none");
    (void)peer;
    measured m = compare(name, &us, &none, 0.3);
    snprintf(m.version, sizeof m.version, "install OpenBLAS (Debian: apt-get install "
             "libopenblas-dev) and run ./build.sh again");
#endif
    add_row(name, "GFLOP/s", &m, flops * 1e-9, 0.95);
}

static void gemm_rows(void) {
    static const char *const which[] = { "attn", "up", "down" };
    static const size_t tokens[] = { 1024, 5120 };
    for (int large = 0; large < 2; large++) {
        for (size_t t = 0; t < 2; t++) {
            for (size_t i = 0; i < 3; i++) {
                for (size_t threads = 1; threads <= 2; threads++) {
                    gemm_row(large, tokens[t], which[i], threads);
                    gemm_torch_row("torch_gemm", "fp32", large, tokens[t], which[i], threads,
                                   0.97);
                    gemm_torch_row("torch_bf16_gemm", "bf16", large, tokens[t], which[i],
                                   threads, 0);
                }
            }
        }
    }
}

// ---- the machine's limit as the peer ----

enum { PEAK_F32, PEAK_BF16, PEAK_INT8 };

// G operations a second of our side, and of its threads where all stays in registers, in turns.
static void limit_row(const char *name, words *us, size_t threads, int kind, double operations,
                      double least, double bar) {
    peak_loop loops[3];
    measured m = { .n = args.repeats };
    words none = ours("none");
    if (!wanted(name)) return;
    peak_loops(loops);
    m = compare(name, us, &none, least);
    m.missing = !loops[kind].run;
    snprintf(m.version, sizeof m.version, m.missing ? "this processor has no such instruction"
                                                    : "limit of the machine");
    for (size_t i = 0; i < m.n && !m.missing; i++) {
        m.peer[i] = operations / peak_rate(&loops[kind], threads, args.quick ? 1000 : 4000000);
    }
    add_row(name, "Gop/s", &m, operations, bar);
}

// Products of one layer's maps: packed weights in three precisions, and the three of a training
// step with operands rounded to bf16.
static void limit_linear_rows(void) {
    static const struct { const char *name, *precision, *products; int peak; double bar; } kinds[]
        = { { "f32", "fp32", "packed", PEAK_F32, 0 }, { "bf16", "bf16", "packed", PEAK_BF16, 0.88 },
            { "int8", "int8", "packed", PEAK_INT8, 0.82 },
            { "train_bf16", "bf16", "step", PEAK_BF16, 0.88 } };
    static const size_t tokens[] = { 384, 1024, 3072 };
    for (size_t k = 0; k < 4 * 2 * 3 * 3 * 2; k++) {
        char name[64];
        const size_t threads = 1 + k % 2, which = k / 2 % 3, rows = tokens[k / 6 % 3];
        const int large = k / 18 % 2 != 0;
        const shape s = shape_of(large);
        const size_t in = which == 2 ? s.ffn : s.hidden, out = which == 1 ? s.ffn : s.hidden;
        static const char *const words_of[] = { "attn", "up", "down" };
        words us = ours("linear");
        const size_t kind = k / 36, n = args.quick ? 40 : rows;
        snprintf(name, sizeof name, "limit_%s_%s_%zu_%s_t%zu", kinds[kind].name, s.name, rows,
                 words_of[which], threads);
        words_add(&us, "precision=%s", kinds[kind].precision);
        words_add(&us, "products=%s", kinds[kind].products);
        words_add(&us, "tokens=%zu", n);
        words_add(&us, "in=%zu", in);
        words_add(&us, "out=%zu", out);
        words_add(&us, "threads=%zu", threads);
        words_add(&us, "isa=%d", args.isa);
        double operations = (kind == 3 ? 6e-9 : 2e-9) * (double)n * (double)in * (double)out;
        limit_row(name, &us, threads, kinds[kind].peak, operations, 0.2, kinds[kind].bar);
    }
}

// G operations of a whole step's matrix products: forward 2, backward 4 for each weight and token,
// and the same of attention's scores and their products.
static double step_operations(const shape *s, size_t batch, size_t seq, double *products) {
    double weights = (double)s->hidden * (4.0 * (double)s->hidden + 2.0 * (double)s->ffn);
    double attention = 12.0 * (double)batch * (double)seq * (double)seq * (double)s->hidden;
    *products = 6e-9 * weights * (double)(batch * seq);
    return (double)s->layers * (*products + 1e-9 * attention);
}

static void limit_step_row(const char *name, const char *precision, int kind, double bar) {
    shape s = shape_of(0);
    size_t seq = args.quick ? 24 : 512;
    double products;
    words us = ours("train");
    add_shape(&us, &s, 0, 2, seq);
    words_add(&us, "precision=%s", precision);
    limit_row(name, &us, tool_common.threads, kind, step_operations(&s, 2, seq, &products), 0,
              bar);
}

// ---- whole steps ----

static void train_row(const char *name, const char *precision, int large, size_t rnn, size_t batch,
                      double bar) {
    char memory[64], checkpointed[64];
    shape s = shape_of(large);
    size_t seq = args.quick ? 24 : 512;
    words us = ours("train"), peer = theirs("train");
    words_add(&us, "precision=%s", precision);
    words_add(&peer, "precision=%s", precision);
    snprintf(memory, sizeof memory, "memory_%s", name + strlen("train_"));
    snprintf(checkpointed, sizeof checkpointed, "memory_checkpointed_%s", name + strlen("train_"));
    if (!wanted(name) && !wanted(memory) && !wanted(checkpointed)) return;
    add_shape(&us, &s, rnn, batch, seq);
    add_shape(&peer, &s, rnn, batch, seq);
    measured m = compare(name, &us, &peer, 0);
    if (wanted(name)) add_row(name, "s/step", &m, 0, bar);
    add_single(memory, "MiB", &m, m.our_peak / 1048576, m.peer_peak / 1048576, 1);
    if (!wanted(checkpointed)) return;
    side less;
    size_t check;
    words_add(&us, "checkpointing=1");
    side_new(&less, &us);
    if (less.missing) tool_fail(TOOL_BAD_INPUT, "%s: our side: %s", checkpointed, less.version);
    for (int i = 0; i < 2; i++) side_ask(&less, "go", 0, &check);
    double peak = side_ask(&less, "peak", 0, &check);
    side_end(&less);
    add_single(checkpointed, "MiB", &m, peak / 1048576, m.peer_peak / 1048576, 2);
}

// NAME_PRECISION_base_BATCHx384 for 1 and 8 sequences; kind: of the peer.
static void forward_row(const char *prefix, const char *kind, const char *precision, size_t batch,
                        double bar) {
    char name[64];
    shape s = shape_of(0);
    size_t seq = args.quick ? 24 : 384;
    words us = ours("forward"), peer = theirs(kind);
    snprintf(name, sizeof name, "%s_base_%zux384", prefix, batch);
    if (!wanted(name)) return;
    words_add(&us, "precision=%s", precision);
    words_add(&us, "to=%s/random_model", args.output_dir);
    words_add(&peer, "precision=%s", precision);
    add_shape(&us, &s, 0, batch, seq);
    add_shape(&peer, &s, 0, batch, seq);
    measured m = compare(name, &us, &peer, 0.3);
    add_row(name, "s", &m, 0, bar);
}

// A family of encoders at the size of a base model, against transformers' class.
static void family_row(const char *family, size_t ffn, double bar) {
    char name[64];
    shape s = shape_of(0);
    size_t seq = args.quick ? 24 : 384;
    words us = ours("forward"), peer = theirs("family");
    snprintf(name, sizeof name, "forward_%s", family);
    if (!wanted(name)) return;
    if (!args.quick) s.ffn = ffn;
    add_shape(&us, &s, 0, 8, seq);
    add_shape(&peer, &s, 0, 8, seq);
    words_add(&us, "to=%s/random_model", args.output_dir);
    words_add(&us, "family=%s", family);
    words_add(&peer, "family=%s", family);
    measured m = compare(name, &us, &peer, 0.3);
    add_row(name, "s", &m, 0, bar);
}

static void family_rows(void) {
    static const char *const families[] = { "bert", "xlm-roberta", "distilbert", "electra",
                                            "albert", "mpnet", "deberta-v2", "modernbert" };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        family_row(families[i], strcmp(families[i], "modernbert") ? 3072 : 1152, 1.5);
    }
}

// A training step in bf16 against our own in f32.
static void self_row(const char *name, double bar) {
    shape s = shape_of(0);
    size_t seq = args.quick ? 24 : 512;
    words us = ours("train"), peer = ours("train");
    if (!wanted(name)) return;
    add_shape(&us, &s, 0, 2, seq);
    add_shape(&peer, &s, 0, 2, seq);
    words_add(&us, "precision=bf16");
    measured m = compare(name, &us, &peer, 0);
    snprintf(m.version, sizeof m.version, "mrc f32");
    add_row(name, "s/step", &m, 0, bar);
}

// FLOP/s of a whole step's matrix products against the bare products of its encoder layers.
static void rate_row(const char *name) {
    shape s = shape_of(0);
    size_t batch = 2, seq = args.quick ? 24 : 512, tokens = batch * seq;
    words us = ours("train");
    words peer = gemm_words(&s, tokens, "layer", tool_common.threads, "cpu");
    if (!wanted(name)) return;
    add_shape(&us, &s, 0, batch, seq);
    measured m = compare(name, &us, &peer, 0);
    double products, step = step_operations(&s, batch, seq, &products);
    for (size_t i = 0; i < m.n; i++) m.peer[i] *= step / products;   // at that rate, the step
    add_row(name, "GFLOP/s", &m, step, 0.8);
}

// ---- real text ----

// The file of questions: KorQuAD where it is, else our own.
static const char *questions(void) {
    if (!args.quick && mrc_path_kind(args.korquad_file) == MRC_PATH_FILE) return args.korquad_file;
    return "data/validation.jsonl";
}

static const char *vocabulary(void) {
    if (!args.quick && mrc_path_kind(args.tokenizer) == MRC_PATH_DIR) return args.tokenizer;
    return "data";
}

// Runs a worker that makes files.
static void make(words *w) {
    side s = { 0 };
    side_start(&s, w);
    if (side_end(&s) != 0) tool_fail(TOOL_BAD_INPUT, "--worker %s: failed, see bench.log",
                                    w->text[2]);
}

static void epoch_row(const char *name) {
    shape s = shape_of(0);
    words w[2];
    if (!wanted(name)) return;
    if (!args.quick && strcmp(questions(), args.korquad_file) != 0) {
        tool_note("%s: no KorQuAD at %s: with our own short passages", name, args.korquad_file);
    }
    for (int pad = 0; pad < 2; pad++) {
        w[pad] = ours("epoch");
        add_shape(&w[pad], &s, 0, 4, args.quick ? 64 : 512);
        words_add(&w[pad], "tokenizer=%s", vocabulary());
        words_add(&w[pad], "text=%s", questions());
        words_add(&w[pad], "pad=%d", pad);
    }
    measured m = compare(name, &w[0], &w[1], 0);
    add_row(name, "s/batch", &m, 0, 1.5);
}

// A folder whose tokenizer is made of files of another one, under the names that it needs.
static void borrow(const char *to, const char *from, const char *const files[][2], size_t n,
                   const char *config) {
    char path[2][TOOL_PATH_BYTES], *data;
    size_t bytes;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    tool_check(ctx, mrc_dir_new(ctx, to));
    for (size_t i = 0; i < n; i++) {
        tool_check(ctx, mrc_file_read(ctx, &data, &bytes, tool_path(path[0], from, files[i][0])));
        tool_check(ctx, mrc_file_write(ctx, tool_path(path[1], to, files[i][1]), data, bytes));
        mrc_file_free(ctx, data);
    }
    tool_check(ctx, mrc_file_write(ctx, tool_path(path[1], to, "tokenizer_config.json"), config,
                                   strlen(config)));
    mrc_ctx_free(ctx);
}

// Both sides turn the contexts of FROM into ids and offsets.  threads above 1: against ourselves
// with one thread, as if that had been so many times as fast.
static void tokenizer_row(const char *name, const char *tokenizer, const char *from,
                          size_t threads) {
    char path[TOOL_PATH_BYTES];
    words text = ours("text"), us = ours("tokenize");
    words peer = threads > 1 ? ours("tokenize") : theirs("tokenize");
    if (!wanted(name)) return;
    tool_path(path, args.output_dir, "bench_text.txt");
    words_add(&text, "from=%s", from);
    words_add(&text, "to=%s", path);
    make(&text);
    words *both[2] = { &us, &peer };
    for (int i = 0; i < 2; i++) {
        words_add(both[i], "tokenizer=%s", tokenizer);
        words_add(both[i], "text=%s", path);
        words_add(both[i], "threads=%zu", i ? 1 : threads);
    }
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    char *data;
    size_t bytes;
    tool_check(ctx, mrc_file_read(ctx, &data, &bytes, path));
    mrc_file_free(ctx, data);
    mrc_ctx_free(ctx);
    measured m = compare(name, &us, &peer, 0.3);
    for (size_t i = 0; threads > 1 && i < m.n; i++) m.peer[i] /= (double)threads;
    if (threads > 1) snprintf(m.version, sizeof m.version, "mrc, one thread times %zu", threads);
    add_row(name, "MB/s", &m, (double)bytes * 1e-6, threads > 1 ? 0.9 : 20);
    unlink(path);
}

// WordPiece and byte-level BPE, Korean and English.  Without the files, those rows are left out.
static void tokenizer_rows(void) {
    static const char *const wordpiece[][2] = { { "bert-base-uncased.vocab.txt", "vocab.txt" } };
    static const char *const bpe[][2] = { { "roberta-base.vocab.json", "vocab.json" },
                                          { "roberta-base.merges.txt", "merges.txt" } };
    char english[TOOL_PATH_BYTES], folder[2][TOOL_PATH_BYTES], probe[TOOL_PATH_BYTES];
    const size_t threads = tool_common.threads;
    if (!wanted_any("tokenizer") && !wanted_any("self_tokenizer")) return;
    tokenizer_row("tokenizer", vocabulary(), questions(), 1);
    if (threads > 1) tokenizer_row("self_tokenizer", vocabulary(), questions(), threads);
    tool_path(english, args.squad_dir, "squad_v1.1_dev_b.json");
    if (args.quick || mrc_path_kind(english) != MRC_PATH_FILE
        || mrc_path_kind(tool_path(probe, args.squad_dir, bpe[0][0])) != MRC_PATH_FILE) {
        if (!args.quick) tool_note("tokenizer_english, tokenizer_bpe: no files in %s",
                                   args.squad_dir);
        return;
    }
    tool_path(folder[0], args.output_dir, "bench_wordpiece");
    tool_path(folder[1], args.output_dir, "bench_bpe");
    borrow(folder[0], args.squad_dir, wordpiece, 1, "{\"do_lower_case\": true}\n");
    borrow(folder[1], args.squad_dir, bpe, 2, "{}\n");
    tokenizer_row("tokenizer_english", folder[0], english, 1);
    tokenizer_row("tokenizer_bpe", folder[1], questions(), 1);
    tokenizer_row("tokenizer_bpe_english", folder[1], english, 1);
    if (threads > 1) tokenizer_row("self_tokenizer_bpe", folder[1], english, threads);
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    for (int i = 0; i < 2; i++) tool_check(ctx, mrc_dir_remove(ctx, folder[i]));
    mrc_ctx_free(ctx);
}

// ---- passages looked up ----

// Our side begins with texts, and its index is on the disk in the end.  The peer's keeps its index
// in memory; it looks up texts (search_text), or what is easier: ids of terms, ready-made.
static void search_row(const char *name, const char *kind, int from_text, double bar) {
    char path[3][TOOL_PATH_BYTES], train[TOOL_PATH_BYTES];
    static const char *const keys[] = { "passages", "queries", "dir" };
    words make_it = ours("passages"), us = ours("search"), peer = theirs(kind);
    if (!wanted(name)) return;
    int real = !args.quick && mrc_path_kind(args.mrc_dir) == MRC_PATH_DIR;
    tool_path(path[0], args.output_dir, "bench_passages.jsonl");
    snprintf(path[1], sizeof path[1], "data/validation.jsonl");
    if (real) tool_path(path[1], args.mrc_dir, "mrc_validation.jsonl");
    tool_path(path[2], args.output_dir, "bench_index");
    if (real) tool_path(train, args.mrc_dir, "mrc_train.jsonl");
    words_add(&make_it, "from=%s", real ? train : "data/train.jsonl");
    words_add(&make_it, "and=%s", path[1]);
    words_add(&make_it, "to=%s", path[0]);
    make(&make_it);
    words *both[2] = { &us, &peer };
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 3; k++) words_add(both[i], "%s=%s", keys[k], path[k]);
        words_add(both[i], "threads=%zu", tool_common.threads);
        words_add(both[i], "build=%d", strcmp(kind, "index") == 0);
        words_add(both[i], "from_text=%d", from_text);
    }
    measured m = compare(name, &us, &peer, 0.3);
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    mrc_passages *questions;
    tool_check(ctx, mrc_passages_load(ctx, &questions, path[1], "question"));
    double n = (double)(mrc_passages_size(questions) * SEARCH_TIMES);
    if (strcmp(kind, "index") == 0) add_row(name, "s", &m, 0, bar);
    else add_row(name, "queries/s", &m, n, bar);
    mrc_passages_free(questions);
    tool_check(ctx, mrc_dir_remove(ctx, path[2]));
    mrc_ctx_free(ctx);
    unlink(path[0]);
}

// ---- a warm reader, a question at a time ----

// A base reader with random weights, saved with that tokenizer; its folder's path into model.
static void model_make(char model[TOOL_PATH_BYTES], const char *tokenizer) {
    const shape s = shape_of(0);
    words make_it = ours("model");
    tool_path(model, args.output_dir, "bench_model");
    add_shape(&make_it, &s, 0, 1, 512);
    words_add(&make_it, "tokenizer=%s", tokenizer);
    words_add(&make_it, "to=%s", model);
    make(&make_it);
}
static void model_remove(const char *model) {
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    tool_check(ctx, mrc_dir_remove(ctx, model));
    mrc_ctx_free(ctx);
}

static void reader_rows(void) {
    char model[TOOL_PATH_BYTES];
    size_t repeats = args.repeats;
    words us = ours("reader"), peer = theirs("reader");
    if (!wanted("reader_p50") && !wanted("reader_p99")) return;
    model_make(model, vocabulary());
    words *both[2] = { &us, &peer };
    for (int i = 0; i < 2; i++) {
        words_add(both[i], "model=%s", model);
        words_add(both[i], "text=%s", questions());
        words_add(both[i], "seq=384");
        words_add(both[i], "threads=%zu", tool_common.threads);
    }
    if (!args.quick) args.repeats = MAX_REPEATS;            // a question each
    measured m = compare("reader", &us, &peer, 0);
    args.repeats = repeats;
    qsort(m.ours, m.n, sizeof *m.ours, by_size);
    qsort(m.peer, m.n, sizeof *m.peer, by_size);
    add_single("reader_p50", "s", &m, m.ours[m.n / 2], m.peer[m.n / 2], 1);
    add_single("reader_p99", "s", &m, m.ours[m.n * 99 / 100], m.peer[m.n * 99 / 100], 1);
    model_remove(model);
}

// One question of so many tokens to a warm reader, encoded, answered and decoded by ours; of the
// peer the forward pass alone is asked.
static void question_row(const char *model, const char *kind, const char *precision,
                         size_t tokens) {
    char name[2][64];
    shape s = shape_of(0);
    words us = ours("reader"), peer = theirs(kind);
    const char *bits = strcmp(precision, "fp32") == 0 ? "f32" : precision;
    for (int i = 0; i < 2; i++) {
        snprintf(name[i], sizeof name[i], "question_%s_%s_%zu_p%d", bits, kind, tokens,
                 i ? 99 : 50);
    }
    if (!wanted(name[0]) && !wanted(name[1])) return;
    if (args.quick) tokens = 24;
    words_add(&us, "model=%s", model);
    words_add(&us, "precision=%s", precision);
    words_add(&us, "seq=%zu", tokens);
    words_add(&us, "threads=%zu", tool_common.threads);
    words_add(&peer, "precision=%s", precision);
    add_shape(&peer, &s, 0, 1, tokens);
    const size_t repeats = args.repeats;
    if (!args.quick) args.repeats = MAX_REPEATS * 6 / 10;           // a question each
    measured m = compare(name[0], &us, &peer, 0);
    args.repeats = repeats;
    qsort(m.ours, m.n, sizeof *m.ours, by_size);
    qsort(m.peer, m.n, sizeof *m.peer, by_size);
    add_single(name[0], "s", &m, m.ours[m.n / 2], m.peer[m.n / 2], 1);
    add_single(name[1], "s", &m, m.ours[m.n * 99 / 100], m.peer[m.n * 99 / 100], 1);
}

static void question_rows(void) {
    static const char *const peers[][2] = {
        { "onnx", "fp32" }, { "openvino", "fp32" }, { "forward", "fp32" }, { "openvino", "bf16" },
        { "forward", "bf16" }, { "onnx", "int8" }, { "openvino", "int8" },
        { "ctranslate2", "int8" } };
    char model[TOOL_PATH_BYTES];
    if (!wanted_any("question_")) return;
    model_make(model, vocabulary());
    for (size_t i = 0; i < sizeof peers / sizeof *peers; i++) {
        question_row(model, peers[i][0], peers[i][1], 170);
        question_row(model, peers[i][0], peers[i][1], 290);
    }
    model_remove(model);
}

// ---- cold start: a process from its beginning to its first answer ----

static double cold_seconds(words *w) {
    char line[4096];
    side s = { 0 };
    double begun = tool_seconds();
    side_start(&s, w);
    (void)fgets(line, sizeof line, s.from);     // an answer, or the end
    double passed = tool_seconds() - begun;
    if (side_end(&s) != 0) tool_fail(TOOL_BAD_INPUT, "%s: failed, see bench.log", w->text[0]);
    return passed;
}

static void cold_row(const char *name) {
    char model[TOOL_PATH_BYTES];
    words us = words_of_program("predict"), peer = theirs("answer");
    words probe = theirs("transformers");
    side there;
    if (!wanted(name)) return;
    tool_note("%s", name);
    model_make(model, "data");
    words_add(&us, "--model_name_or_path=%s", model);
    words_add(&us, "--test_file=data/question.jsonl");
    words_add(&us, "--output_dir=%s", model);
    words_add(&us, "--threads=%zu", tool_common.threads);
    words_add(&peer, "%s", model);
    words_add(&peer, "data/question.jsonl");
    side_new(&there, &probe);
    measured m = { .n = args.repeats, .missing = there.missing };
    memcpy(m.version, there.version, sizeof m.version);
    side_end(&there);
    for (size_t i = 0; i <= m.n; i++) {         // the first fills the page cache
        size_t at = i ? i - 1 : 0;
        m.ours[at] = cold_seconds(&us);
        if (!m.missing) m.peer[at] = cold_seconds(&peer);
    }
    add_row(name, "s", &m, 0, 10);
    model_remove(model);
}

// ---- the whole real job, on request: fine-tuning a pretrained BERT on SQuAD, then answering ----

// Runs a command; its seconds, and its last line of stdout.
static double job(words *w, char *last, size_t bytes) {
    side s = { 0 };
    double begun = tool_seconds();
    side_start(&s, w);
    *last = '\0';
    while (fgets(last, (int)bytes, s.from)) continue;
    if (side_end(&s) != 0) {
        tool_fail(TOOL_BAD_INPUT, "%s: failed, see bench.log", w->text[0]);
    }
    return tool_seconds() - begun;
}

static double json_figure(const char *text, const char *key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(text, quoted);
    return at ? strtod(at + strlen(quoted), NULL) : 0;
}

// Trains, predicts, scores; seconds of the two and the scores into out.
static void minilm_ours(const char *dir, double out[4]) {
    char last[4096], path[TOOL_PATH_BYTES], *text;
    size_t bytes;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    words t = words_of_program("train"), p = words_of_program("predict");
    words e = words_of_program("evaluate");
    const char *const recipe[] = { "--max_seq_length=384", "--doc_stride=128",
        "--batching=sorted", "--per_device_train_batch_size=16", "--learning_rate=1e-4",
        "--num_train_epochs=2", "--warmup_ratio=0.1", "--save_steps=1000000000",
        "--do_eval=false", "--overwrite_output_dir" };
    words_add(&t, "--model_name_or_path=%s", args.minilm);
    words_add(&t, "--train_file=%s/squad_v1.1_dev_a.json", args.squad_dir);
    words_add(&t, "--output_dir=%s", dir);
    words_add(&t, "--threads=%zu", tool_common.threads);
    for (size_t i = 0; i < sizeof recipe / sizeof *recipe; i++) words_add(&t, "%s", recipe[i]);
    job(&t, last, sizeof last);
    tool_check(ctx, mrc_file_read(ctx, &text, &bytes,
                                  tool_path(path, dir, "train_results.json")));
    out[0] = json_figure(text, "train_runtime");
    mrc_file_free(ctx, text);
    words_add(&p, "--model_name_or_path=%s", dir);
    words_add(&p, "--test_file=%s/squad_v1.1_dev_b.json", args.squad_dir);
    words_add(&p, "--output_dir=%s/answers", dir);
    words_add(&p, "--max_seq_length=384");
    words_add(&p, "--doc_stride=128");
    words_add(&p, "--per_device_eval_batch_size=32");        // as many as the peer takes
    words_add(&p, "--threads=%zu", tool_common.threads);
    out[1] = job(&p, last, sizeof last);
    words_add(&e, "--metric=squad");
    words_add(&e, "%s/squad_v1.1_dev_b.json", args.squad_dir);
    words_add(&e, "%s/answers/predictions.json", dir);
    job(&e, last, sizeof last);
    out[2] = json_figure(last, "exact_match");
    out[3] = json_figure(last, "f1");
    mrc_ctx_free(ctx);
}

static void minilm_rows(void) {
    static const char *const names[] = { "minilm_train", "minilm_predict", "minilm_exact_match",
                                         "minilm_f1" };
    static const char *const keys[] = { "train_seconds", "predict_seconds", "exact_match", "f1" };
    char dir[TOOL_PATH_BYTES], last[4096] = "";
    double figures[4];
    words peer = { .n = 0 }, probe = theirs("transformers");
    side there;
    if (!args.minilm || !wanted("minilm")) return;
    tool_note("minilm: two epochs on each side");
    tool_path(dir, args.output_dir, "bench_minilm");
    minilm_ours(dir, figures);
    side_new(&there, &probe);
    measured m = { .n = 1, .missing = there.missing };
    if (mrc_path_kind(args.squad_script) != MRC_PATH_FILE) m.missing = 1;
    memcpy(m.version, there.version, sizeof m.version);
    side_end(&there);
    words_add(&peer, "%s", args.python);
    words_add(&peer, "%s", args.squad_script);
    words_add(&peer, "%s", args.minilm);
    words_add(&peer, "%s/squad_v1.1_dev_a.json", args.squad_dir);
    words_add(&peer, "%s/squad_v1.1_dev_b.json", args.squad_dir);
    words_add(&peer, "%s/peer", dir);
    words_add(&peer, "--threads=%zu", tool_common.threads);
    if (!m.missing) job(&peer, last, sizeof last);
    for (int i = 0; i < 4; i++) {
        m.ours[0] = i < 2 ? figures[i] : 1 / figures[i];        // scores: larger is better
        m.peer[0] = json_figure(last, keys[i]);
        if (i >= 2 && !m.missing) m.peer[0] = 1 / m.peer[0];
        add_row(names[i], i < 2 ? "s" : "%", &m, i < 2 ? 0 : 1, i < 2 ? 2 : 0.98);
    }
}

//==============================================================================
// main
//==============================================================================
static void all_rows(void) {
    gemm_rows();
    train_row("train_base_linear", "fp32", 0, 0, 2, 1.6);
    train_row("train_base_bilstm", "fp32", 0, 2, 2, 1.8);
    train_row("train_large_bilstm", "fp32", 1, 2, 1, 1.6);
    train_row("train_bf16_base_linear", "bf16", 0, 0, 2, 1.5);
    train_row("train_bf16_base_bilstm", "bf16", 0, 2, 2, 1.5);
    train_row("train_bf16_large_bilstm", "bf16", 1, 2, 1, 1.5);
    self_row("self_bf16_base_linear", 1.6);
    rate_row("rate_base_linear");
    limit_step_row("limit_step_f32", "fp32", PEAK_F32, 0.8);
    limit_step_row("limit_step_bf16", "bf16", PEAK_BF16, 0.72);
    limit_linear_rows();
    for (size_t batch = 1; batch <= 8; batch += 7) {
        forward_row("forward", "forward", "fp32", batch, 1.3);
        forward_row("forward_bf16", "forward", "bf16", batch, 1.3);
        forward_row("onnx", "onnx", "fp32", batch, 1.05);
        forward_row("onnx_int8", "onnx", "int8", batch, 1.4);
        forward_row("openvino", "openvino", "fp32", batch, 1.05);
        forward_row("openvino_bf16", "openvino", "bf16", batch, 1);
        forward_row("openvino_int8", "openvino", "int8", batch, 1);
        forward_row("ctranslate2_int8", "ctranslate2", "int8", batch, 1);
    }
    family_rows();
    epoch_row("epoch_packed");
    tokenizer_rows();
    search_row("search_queries", "search", 0, 2);
    search_row("search_text", "search", 1, 2);
    search_row("search_build", "index", 1, 3);
    reader_rows();
    question_rows();
    cold_row("cold_start");
    minilm_rows();
}

static void finish_table(void) {
    char path[TOOL_PATH_BYTES];
    mrc_text json;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    tool_check(ctx, mrc_file_write(ctx, tool_path(path, args.output_dir, "bench.tsv"),
                                   table.tsv.data, table.tsv.bytes));
    mrc_text_init(&json, ctx);
    mrc_text_add(&json, "{", 1);
    tool_json_integer(&json, "rows", (int64_t)table.rows);
    tool_json_integer(&json, "compared", (int64_t)table.compared);
    tool_json_integer(&json, "without_peer", (int64_t)table.missing);
    tool_json_integer(&json, "below_bar", (int64_t)table.below);
    tool_json_key(&json, "seconds");
    mrc_text_printf(&json, "%.1f}\n", tool_seconds() - table.begun);
    tool_write_text(&json);
    mrc_text_free(&json);
    mrc_text_free(&table.tsv);
    mrc_ctx_free(ctx);
}

// The limits of the threads that rows use: G operations a second in f32, bf16 and int8.
static void measure_peaks(void) {
    peak_loop loops[3];
    double best[3] = { 0 };
    peak_loops(loops);
    peak_processor(table.processor, sizeof table.processor);
    for (int k = 0; k < (args.quick ? 1 : 5); k++) {
        for (int i = 0; i < 3; i++) {
            double rate = peak_rate(&loops[i], tool_common.threads, args.quick ? 1000 : 4000000);
            if (rate > best[i]) best[i] = rate;
        }
    }
    snprintf(table.peaks, sizeof table.peaks, "%.0f/%.0f/%.0f", best[0], best[1], best[2]);
    tool_note("%s, %zu threads: at most %s G operations/s in f32/bf16/int8", table.processor,
              tool_common.threads, table.peaks);
}

static int run(tool_program *p) {
    (void)p;
    if (args.quick) args.repeats = 1;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    tool_check(ctx, mrc_dir_new(ctx, args.output_dir));
    mrc_text_init(&table.tsv, ctx);
    mrc_text_printf(&table.tsv, "row\tours\tpeer\tpeer_version\tratio\tratio_min\tratio_max\t"
                    "unit\tours_cpu\tpeer_cpu\tpeak\tprocessor\n");
    measure_peaks();
    table.begun = tool_seconds();
    char log[TOOL_PATH_BYTES];
    unlink(tool_path(log, args.output_dir, "bench.log"));
    all_rows();
    if (table.rows == 0) tool_fail(TOOL_USAGE, "%s: no such row (see --help)", args.names.item[0]);
    finish_table();
    mrc_ctx_free(ctx);
    return tool_finish();
}

static tool_flag the_flags[] = {
    { .name = "output_dir", .alias = "output", .group = "table",
      .string = &args.output_dir, .value = "DIR", .required = 1,
      .help = "where bench.tsv goes, and what is made on the way" },
    { .name = "python", .string = &args.python, .value = "PROGRAM", .preset = "python3",
      .help = "who runs the peers: PyTorch, ONNX Runtime, OpenVINO, CTranslate2, tokenizers, "
              "transformers, bm25s" },
    { .name = "peer_script", .string = &args.script, .value = "FILE",
      .preset = "tests/peers/bench_torch.py", .help = "what it runs" },
    { .name = "korquad_file", .string = &args.korquad_file, .value = "FILE",
      .preset = "../shared/data/korquad/KorQuAD_v1.0_dev.json",
      .help = "real questions, for the epoch and the tokenizer; without it our own" },
    { .name = "tokenizer_name", .string = &args.tokenizer, .value = "DIR",
      .preset = "../shared/data/klue", .help = "a vocabulary of real size for them, likewise" },
    { .name = "mrc_dir", .string = &args.mrc_dir, .value = "DIR",
      .preset = "../shared/data/mrc",
      .help = "mrc_train.jsonl and mrc_validation.jsonl: the passages and questions of search; "
              "without them our own" },
    { .name = "minilm", .string = &args.minilm, .value = "DIR",
      .otherwise = "those rows are left out",
      .help = "a pretrained BERT: also the rows minilm, two epochs on each side, an hour or so" },
    { .name = "squad_dir", .string = &args.squad_dir, .value = "DIR",
      .preset = "../shared/data/english",
      .help = "where minilm finds squad_v1.1_dev_a.json and _b.json, and tokenizer_english and "
              "tokenizer_bpe their vocabularies" },
    { .name = "squad_script", .string = &args.squad_script, .value = "FILE",
      .preset = "../shared/peers/hf_squad.py", .help = "who trains the peer of minilm" },
    { .name = "repeats", .size = &args.repeats, .preset = "5", .min = 1, .max = MAX_REPEATS,
      .help = "turns of both sides after a warm-up: the ratio is their median" },
    { .name = "isa", .choice = &args.isa, .choices = "auto|baseline|avx2|avx512",
      .preset = "auto", .help = "instructions of our kernels, and of OpenBLAS's; of rows on models "
              "those of ours; not of cold_start and minilm, which are programs" },
    { .name = "quick", .flag = &args.quick,
      .help = "tiny sizes, one turn: whether it works, no figure means anything" },
    { .name = "ROW", .list = &args.names, .positional = 1, .value = "ROW ..", .otherwise = "all",
      .help = "names of rows, or how they begin: gemm, torch_gemm, train_base, train_bf16, memory, "
              "self, rate, limit, forward, onnx, openvino, ctranslate2, epoch, tokenizer, "
              "search, reader, question, cold_start" },
    { 0 }
};

static tool_program program = {
    .name = "bench", .group = "development", .run = run, .flags = the_flags,
    .purpose = "Measures this library against its peers, side by side in one run, and writes "
               "one table of ratios: above 1, ours is that many times faster or smaller.",
    .usage = "--output_dir DIR [flags] [ROW ..]",
    .examples = { "bench --output_dir build",
                  "bench --output_dir build --python venv/bin/python --isa avx2 gemm_base" }
};

// A worker is this program again, told what to measure and on which sizes.
static int start(tool_program *p, int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "--worker") == 0) return run_worker(argv[2], argv + 3);
    return tool__run(p, argc, argv);
}
const tool_entry tool_entry_bench = { &program, start };
