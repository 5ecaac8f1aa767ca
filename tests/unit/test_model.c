// Goldens of PyTorch and transformers (tests/golden/README.md): logits, loss, every gradient, ten
// optimizer steps, clipping; the model directory both ways and what is wrong with one.
// tags: threads cuda arm64
#include "../support/golden.h"
#include <unistd.h>

static mrc_tensor *golden_loss(mrc_ctx *ctx, mrc_model *m, golden *g, mrc_batch *batch,
                               mrc_tensor **logits, int recompute, size_t first, size_t n) {
    mrc_forward_config forward = mrc_forward_config_default();
    const size_t counted[2] = { g->b, g->b };
    forward.gradient_checkpointing = recompute;
    forward.dropout = 1;                        // all probabilities are 0
    CHECK(mrc_model_batch(ctx, m, batch, g->list + first, n, first) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    *logits = mrc_model_forward(ctx, m, batch, &forward);
    return mrc_cross_entropy(ctx, *logits, batch->targets, mrc__denominators(ctx, m, counted, 1),
                             batch);
}

static void test_logits(mrc_ctx *ctx, mrc_backend *be, golden *g, const mrc_tensor *logits) {
    double *want[2] = { golden_read(ctx, g, "start_logits", MRC_DTYPE_F64, NULL),
                        golden_read(ctx, g, "end_logits", MRC_DTYPE_F64, NULL) };
    if (!CHECK(logits, "%s: %s", g->path, mrc_ctx_message(ctx))) exit(1);
    double *got = tensor_read(be, logits, logits->data), worst = 0;
    for (size_t r = 0; r < g->n; r++) {
        for (int c = 0; c < 2; c++) {
            double d = fabs(got[2 * r + (size_t)c] - want[c][r]);
            if (!(d <= worst)) worst = d;
        }
    }
    CHECK(worst <= 1e-5, "%s on %s %s: logits off by %g", g->path, be->name, be->isa, worst);
    free(got), free(want[0]), free(want[1]);
}

static void test_gradients(mrc_ctx *ctx, mrc_backend *be, mrc_model *m, golden *g,
                           const char *how) {
    for (size_t i = 0; mrc_params_at(m->params, i); i++) {
        const mrc_tensor *t = mrc_params_at(m->params, i);
        char name[300];
        snprintf(name, sizeof name, "grad.%s", t->name);
        if (strstr(t->name, "pooler")) {
            CHECK(!mrc_grad(ctx, t), "%s has a gradient", t->name);
            continue;
        }
        double *want = golden_read(ctx, g, name, MRC_DTYPE_F64, NULL);
        double *got = tensor_read(be, t, mrc_grad(ctx, t));
        int zero = is_zero(g, t->name);
        double d = difference(got, want, t->numel, !zero);
        CHECK(d <= (zero ? 1e-6 : 1e-5), "%s on %s %s, %s: gradient of %s off by %g", g->path,
              be->name, be->isa, how, t->name, d);
        free(got), free(want);
    }
}

// Padding rows get exactly no gradient.
static void test_padding_rows(mrc_ctx *ctx, mrc_backend *be, mrc_model *m) {
    mrc_tensor *tables[2] = { m->weights->word, m->weights->position };
    for (int k = 0; k < (mrc__families[m->config.model_type].counts_from_pad ? 2 : 1); k++) {
        size_t h = m->config.hidden_size, row = (size_t)m->config.pad_token_id * h;
        double *got = tensor_read(be, tables[k], mrc_grad(ctx, tables[k])), sum = 0;
        for (size_t i = 0; i < h; i++) sum += fabs(got[row + i]);
        CHECK(sum == 0, "row %d of %s has a gradient", (int)m->config.pad_token_id,
              tables[k]->name);
        free(got);
    }
}

static void test_once(mrc_backend *be, mrc_dtype dtype, const char *name, const char *form,
                      int recompute) {
    golden g = {0};
    mrc_batch batch;
    mrc_tensor *logits;
    mrc_ctx *ctx = new_ctx(be);
    golden_open(ctx, &g, name, form);
    mrc_model *m = load(ctx, name, dtype);
    mrc_tensor *loss = golden_loss(ctx, m, &g, &batch, &logits, recompute, 0, g.b);
    test_logits(ctx, be, &g, logits);
    double *positions = golden_read(ctx, &g, "position_ids", MRC_DTYPE_F64, NULL), got = NAN;
    int32_t *made = malloc((g.n + 1) * sizeof *made);
    mrc_tensor_download(ctx, batch.position_ids, made);
    for (size_t i = 0; i < g.n; i++) {
        CHECK(made[i] == (int32_t)positions[i], "%s: position %d at row %zu, %g expected", g.path,
              (int)made[i], i, positions[i]);
    }
    double *want = golden_read(ctx, &g, "loss", MRC_DTYPE_F64, NULL);
    mrc__download_scalar(ctx, loss, &got);
    CHECK(fabs(got - *want) <= 1e-6, "%s on %s: loss %.9g, %.9g expected", g.path, be->name, got,
          *want);
    CHECK(mrc_backward(ctx, loss, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    test_gradients(ctx, be, m, &g, recompute ? "recomputed" : "plain");
    test_padding_rows(ctx, be, m);
    mrc_ctx_reset(ctx);
    mrc_grad_clear(ctx);
    for (size_t i = 0; i < g.b; i++) {                  // micro-batches of one sequence
        loss = golden_loss(ctx, m, &g, &batch, &logits, recompute, i, 1);
        CHECK(mrc_backward(ctx, loss, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
        mrc_ctx_reset(ctx);
    }
    test_gradients(ctx, be, m, &g, "micro-batches");
    free(positions), free(made), free(want);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

static void test_weights(mrc_ctx *ctx, mrc_backend *be, mrc_model *m, golden *g,
                         const char *prefix, double lr) {
    for (size_t i = 0; mrc_params_at(m->params, i); i++) {
        const mrc_tensor *t = mrc_params_at(m->params, i);
        char name[300];
        snprintf(name, sizeof name, "%s.%s", prefix, t->name);
        double *want = golden_read(ctx, g, name, MRC_DTYPE_F64, NULL);
        double *got = tensor_read(be, t, t->data), d = difference(got, want, t->numel, 0);
        CHECK(d <= (is_zero(g, t->name) ? 10 * lr : 1e-5), "%s on %s %s: %s off by %g", g->path,
              be->name, be->isa, name, d);
        free(got), free(want);
    }
}

// Ten steps; lr NULL: 1e-3 each.  norms NULL: not compared.
static void test_steps(mrc_backend *be, const char *name, const char *form,
                       const mrc_optimizer_config *config, const char *prefix,
                       const char *losses_name) {
    golden g = {0};
    mrc_optimizer *o;
    mrc_ctx *ctx = new_ctx(be);
    golden_open(ctx, &g, name, form);
    mrc_model *m = load(ctx, name, MRC_DTYPE_F32);
    double *losses = golden_read(ctx, &g, losses_name, MRC_DTYPE_F64, NULL), *lr = NULL;
    double *norms = NULL, top = 1e-3;
    if (mrc_weights_find(g.st, "lr")) {
        lr = golden_read(ctx, &g, "lr", MRC_DTYPE_F64, NULL);
        norms = golden_read(ctx, &g, "grad_norm", MRC_DTYPE_F64, NULL);
        top = 4e-3;
    }
    if (!CHECK(mrc_optimizer_new(ctx, &o, m->params, config) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) exit(1);
    for (uint32_t step = 0; step < 10; step++) {
        mrc_schedule_config schedule = mrc_schedule_config_default(MRC_SCHEDULE_LINEAR);
        schedule.num_warmup_steps = 3;
        schedule.num_training_steps = 10;
        double rate = top * (lr ? mrc_schedule_factor(&schedule, step) : 1);
        mrc_step_desc desc = { .features = g.list, .n = g.b, .micro_batch = 3, .lr = rate,
                               .random = { .seed = 1, .step = step },
                               .forward = mrc_forward_config_default() };
        mrc_step_result r;
        CHECK(mrc_train_step(ctx, m, o, &desc, &r) == MRC_OK, "%s", mrc_ctx_message(ctx));
        CHECK(!lr || fabs(rate - lr[step]) <= 1e-15, "rate %.17g, not the %.17g expected",
              rate, lr ? lr[step] : 0);
        CHECK(fabs(r.loss - losses[step]) <= 1e-6, "%s on %s: loss %u is %.9g, %.9g expected",
              g.path, be->name, (unsigned)step, r.loss, losses[step]);
        CHECK(!norms || fabs(r.grad_norm - norms[step]) <= 1e-6, "norm %u is %.9g, %.9g expected",
              (unsigned)step, r.grad_norm, norms ? norms[step] : 0);
        CHECK(!r.skipped && r.counted == 2 * g.b, "step %u: %zu counted", (unsigned)step,
              r.counted);
    }
    test_weights(ctx, be, m, &g, prefix, top);
    int64_t applied = 0;
    CHECK(mrc_optimizer_stats(ctx, o, NULL, &applied, NULL) == MRC_OK && applied == 10,
          "%lld steps applied", (long long)applied);
    free(losses), free(lr), free(norms);
    mrc_optimizer_free(o);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

static void test_backend(mrc_backend *be) {
    static const char *const models[] = { "roberta_linear", "roberta_bilstm", "bert_linear",
                                          "bert_bilstm" };
    for (int k = 0; k < 4; k++) {
        for (int padded = 0; padded < 2; padded++) {
            const char *form = padded ? "padded" : "ragged";
            test_once(be, MRC_DTYPE_F32, models[k], form, 0);
            test_once(be, MRC_DTYPE_F32, models[k], form, 1);
            mrc_optimizer_config c = mrc_optimizer_config_default();
            c.eps = 1e-6;
            c.weight_decay = 0.01;
            c.max_grad_norm = 0;
            c.decay_all = 1;
            test_steps(be, models[k], form, &c, "step10", "losses");
            c.variant = MRC_ADAMW_HF;
            test_steps(be, models[k], form, &c, "step10_hf", "losses_hf");
        }
    }
    mrc_optimizer_config c = mrc_optimizer_config_default();
    c.eps = 1e-6;
    c.weight_decay = 0.1;
    c.max_grad_norm = 0.22;
    test_steps(be, "roberta_bilstm", "clip", &c, "step10", "losses");
}

// Saved and loaded again, every weight has the same bits; other keys of config.json are kept.
static void test_directory(mrc_backend *be, const char *dir) {
    static const char *const models[] = { "roberta_linear", "bert_bilstm" };
    for (int k = 0; k < 2; k++) {
        mrc_ctx *ctx = new_ctx(be);
        mrc_model *a = load(ctx, models[k], MRC_DTYPE_F32), *b = NULL;
        CHECK(mrc_model_save(ctx, a, dir, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
        CHECK(mrc_model_load(ctx, &b, &(mrc_model_load_desc){ .path = dir }) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
        CHECK(b && a->config.head == b->config.head
              && a->config.head_hidden_size == b->config.head_hidden_size
              && a->config.layer_norm_eps == b->config.layer_norm_eps, "the config changed");
        for (size_t i = 0; b && mrc_params_at(a->params, i); i++) {
            mrc_tensor *t = mrc_params_at(a->params, i), *u = mrc_params_at(b->params, i);
            CHECK(u && !strcmp(t->name, u->name) && t->numel == u->numel
                  && !memcmp(t->data, u->data, t->numel * sizeof(float)), "%s changed", t->name);
        }
        mrc_ctx_free(ctx);
        mrc_model_free(a);
        mrc_model_free(b);
    }
}

// Weights are read in parts, by several threads: all of them arrive, by any number.
static void test_parts(mrc_backend *be, const char *dir) {
    mrc_model_config c = mrc_model_config_default();
    mrc_ctx *ctx = new_ctx(be);
    mrc_model *a, *b;
    c.vocab_size = 70001, c.hidden_size = 32, c.num_hidden_layers = 1, c.num_attention_heads = 2;
    c.intermediate_size = 32, c.max_position_embeddings = 20;
    CHECK(mrc_model_new(ctx, &a, &c, MRC_DTYPE_F32, 11) == MRC_OK
          && mrc_model_save(ctx, a, dir, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (size_t threads = 0; threads < 4; threads++) {
        mrc_model_load_desc desc = { .path = dir, .threads = threads };
        CHECK(mrc_model_load(ctx, &b, &desc) == MRC_OK, "%s", mrc_ctx_message(ctx));
        for (size_t i = 0; b && mrc_params_at(a->params, i); i++) {
            mrc_tensor *t = mrc_params_at(a->params, i), *u = mrc_params_at(b->params, i);
            CHECK(u && t->numel == u->numel && !memcmp(t->data, u->data, t->numel * sizeof(float)),
                  "%zu threads: %s changed", threads, t->name);
        }
        mrc_model_free(b);
    }
    mrc_ctx_free(ctx);
    mrc_model_free(a);
}

typedef struct notes { int missing, unexpected; char text[4096]; } notes;
static void note(void *user, mrc_load_note kind, const char *name) {
    notes *n = user;
    if (kind == MRC_LOAD_MISSING) n->missing++; else n->unexpected++;
    strncat(n->text, name, sizeof n->text - strlen(n->text) - 2);
    strncat(n->text, " ", sizeof n->text - strlen(n->text) - 1);
}

// In two shards, without a prefix, with gamma and beta for the LayerNorms' weights and biases.
static void test_old_names(mrc_backend *be, const char *dir) {
    char path[1024], names[64][128];
    mrc_text index;
    mrc_ctx *ctx = new_ctx(be);
    mrc_model *a = load(ctx, "roberta_linear", MRC_DTYPE_F32), *b = NULL;
    mrc_st_tensor list[64];
    notes noted = {0};
    size_t n = 0;
    mrc_text_init(&index, ctx);
    mrc_text_printf(&index, "{\"weight_map\": {");
    CHECK(mrc_model_save(ctx, a, dir, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    CHECK(remove(path) == 0, "%s", path);
    for (mrc_tensor *t; n < 64 && (t = mrc_params_at(a->params, n)) != NULL; n++) {
        const char *name = strncmp(t->name, "roberta.", 8) ? t->name : t->name + 8;
        const char *norm = strstr(name, "LayerNorm.");
        snprintf(names[n], sizeof names[n], "%.*s%s", (int)(norm ? norm + 10 - name : 127), name,
                 !norm ? "" : strstr(norm, "weight") ? "gamma" : "beta");
        list[n] = (mrc_st_tensor){ .name = names[n], .dtype = "F32", .ndim = t->ndim,
                                   .data = t->data };
        for (int k = 0; k < t->ndim; k++) list[n].shape[k] = t->shape[k];
        mrc_text_printf(&index, "%s\"%s\": \"%s.safetensors\"", n ? ", " : "", names[n],
                        n < 10 ? "one" : "two");
    }
    mrc_text_printf(&index, "}}");
    CHECK(n > 20 && !mrc_params_at(a->params, n), "%zu weights", n);
    snprintf(path, sizeof path, "%s/one.safetensors", dir);
    CHECK(mrc_safetensors_write(ctx, path, list, 10, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    snprintf(path, sizeof path, "%s/two.safetensors", dir);
    CHECK(mrc_safetensors_write(ctx, path, list + 10, n - 10, NULL) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    CHECK(mrc_file_write(ctx, path, index.data, index.bytes) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    mrc_text_free(&index);
    mrc_model_load_desc desc = { .path = dir, .note = note, .user = &noted };
    CHECK(mrc_model_load(ctx, &b, &desc) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(noted.missing == 0 && noted.unexpected == 0, "%s", noted.text);
    for (size_t i = 0; b && i < n; i++) {
        mrc_tensor *t = mrc_params_at(a->params, i), *u = mrc_params_at(b->params, i);
        CHECK(!memcmp(t->data, u->data, t->numel * sizeof(float)), "%s changed", t->name);
    }
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    remove(path);
    mrc_ctx_free(ctx);
    mrc_model_free(a);
    mrc_model_free(b);
}

// Another head than the directory's: the encoder is kept, the head is new and reported.
static void test_other_head(mrc_backend *be) {
    mrc_ctx *ctx = new_ctx(be);
    mrc_model_config c = mrc_model_config_default();
    mrc_model *a = load(ctx, "roberta_linear", MRC_DTYPE_F32), *b = NULL;
    notes n = {0};
    c.head = MRC_HEAD_BILSTM;
    c.head_hidden_size = 6;
    c.num_head_layers = 2;
    mrc_model_load_desc desc = { .path = GOLDEN "roberta_linear", .config = &c, .seed = 5,
                                 .note = note, .user = &n };
    CHECK(mrc_model_load(ctx, &b, &desc) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(n.missing == 2 + 16 + 2 && n.unexpected == 2, "%d missing, %d unexpected: %s",
          n.missing, n.unexpected, n.text);
    CHECK(strstr(n.text, "transformer.pooler.dense.weight ") && strstr(n.text, "qa_outputs.bias "),
          "%s", n.text);
    const char *inner = "encoder.layer.1.output.dense.weight";
    char from[128], to[128];
    snprintf(from, sizeof from, "roberta.%s", inner);
    snprintf(to, sizeof to, "transformer.%s", inner);
    mrc_tensor *t = mrc_params_find(a->params, from);
    mrc_tensor *u = b ? mrc_params_find(b->params, to) : NULL;
    CHECK(t && u && !memcmp(t->data, u->data, t->numel * sizeof(float)), "%s was not kept", inner);
    mrc_ctx_free(ctx);
    mrc_model_free(a);
    mrc_model_free(b);
}

// Initialisation: a function of seed and name, with the spreads of PyTorch.
static void test_init(mrc_backend *be) {
    mrc_ctx *ctx = new_ctx(be);
    mrc_model_config c = mrc_model_config_default();
    mrc_model *m[3];
    c.vocab_size = 300, c.hidden_size = 48, c.num_hidden_layers = 1, c.num_attention_heads = 4;
    c.intermediate_size = 40, c.max_position_embeddings = 20, c.head = MRC_HEAD_BILSTM;
    c.head_hidden_size = 25;
    for (int k = 0; k < 3; k++) {
        CHECK(mrc_model_new(ctx, &m[k], &c, MRC_DTYPE_F32, k == 2 ? 8 : 7) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
    }
    for (size_t i = 0; mrc_params_at(m[0]->params, i); i++) {
        const mrc_tensor *t = mrc_params_at(m[0]->params, i);
        const float *v = t->data;
        const mrc__init *init = &m[0]->weights->init[i];
        double sum = 0, squares = 0, n = (double)t->numel, max = 0;
        CHECK(!memcmp(v, mrc_params_at(m[1]->params, i)->data, t->numel * sizeof *v),
              "%s: same seed, other weights", t->name);
        for (size_t j = 0; j < t->numel; j++) {
            sum += v[j], squares += (double)v[j] * v[j];
            max = fabs((double)v[j]) > max ? fabs((double)v[j]) : max;
        }
        double spread = sqrt(squares / n);
        if (init->kind == MRC__INIT_ZERO) CHECK(squares == 0, "%s is not 0", t->name);
        if (init->kind == MRC__INIT_ONE) CHECK(sum == n, "%s is not 1", t->name);
        if (init->kind != MRC__INIT_NORMAL && init->kind != MRC__INIT_UNIFORM) continue;
        double expected = init->kind == MRC__INIT_NORMAL ? 0.02 : init->range / sqrt(3.0);
        CHECK(fabs(spread / expected - 1) < 6 / sqrt(n) + 0.06 && max > 0, "%s: spread %g, %g",
              t->name, spread, expected);
        CHECK(init->kind != MRC__INIT_UNIFORM || max <= init->range, "%s: %g", t->name, max);
        CHECK(memcmp(v, mrc_params_at(m[2]->params, i)->data, t->numel * sizeof *v),
              "%s: other seed, same weights", t->name);
    }
    const float *pad = (const float *)m[0]->weights->word->data + 48;
    for (int i = 0; i < 48; i++) CHECK(pad[i] == 0, "the pad's embedding is not 0");
    for (int k = 0; k < 3; k++) mrc_model_free(m[k]);
    mrc_ctx_free(ctx);
}

// An absent key means the default of transformers' class; a config is as deep when it is read as
// when it is written.
static void test_config_defaults(mrc_ctx *ctx, const char *path) {
    static const char *const empty[] = { "roberta", "bert", "distilbert", "electra", "albert",
                                         "mpnet", "deberta-v2", "modernbert", "mobilebert",
                                         "deberta", "splinter" };
    static const double eps[] = { 1e-12, 1e-12, 1e-12, 1e-12, 1e-12, 1e-12, 1e-7, 1e-5, 1e-12,
                                  1e-7, 1e-12 };
    static const size_t types[] = { 2, 2, 0, 2, 2, 0, 0, 0, 2, 0, 2 };
    static const size_t hidden[] = { 768, 768, 768, 256, 4096, 768, 1536, 768, 512, 768,
                                     768 };
    mrc_model_config c;
    char text[512];
    for (size_t i = 0; i < sizeof eps / sizeof *eps; i++) {
        snprintf(text, sizeof text, "{\"model_type\": \"%s\"}", empty[i]);
        CHECK(mrc_file_write(ctx, path, text, strlen(text)) == MRC_OK
              && mrc_model_config_load(ctx, &c, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
        CHECK(c.layer_norm_eps == eps[i] && c.type_vocab_size == types[i]
              && c.hidden_size == hidden[i], "%s: eps %g, %zu types, hidden %zu", empty[i],
              c.layer_norm_eps, c.type_vocab_size, c.hidden_size);
        mrc_ctx_clear_error(ctx);
    }
    for (int depth = 60; depth < 70; depth += 5) {      // 64 levels are taken
        size_t at = (size_t)snprintf(text, sizeof text, "{\"model_type\": \"bert\", \"x\": ");
        for (int k = 0; k < depth; k++) text[at++] = '[';
        for (int k = 0; k < depth; k++) text[at++] = ']';
        text[at++] = '}';
        CHECK(mrc_file_write(ctx, path, text, at) == MRC_OK, "%s", mrc_ctx_message(ctx));
        CHECK((mrc_model_config_load(ctx, &c, path) == MRC_OK) == (depth == 60),
              "a config nested %d deep", depth + 1);
        mrc_ctx_clear_error(ctx);
    }
}

// Each wrong config is refused with a message that holds these words.
static void test_wrong_configs(const char *dir) {
    static const char *const cases[][2] = {
        { "{\"model_type\": \"t5\"}", "t5" },
        { "{\"vocab_size\": 10}", "model_type" },
        { "[]", "no JSON object" },
        { "{\"model_type\": \"bert\", \"vocab_size\": 0}", "found 0" },
        { "{\"model_type\": \"bert\", \"vocab_size\": 1.5}", "found 1.5" },
        { "{\"model_type\": \"bert\", \"vocab_size\": \"ten\"}", "found \"ten\"" },
        { "{\"model_type\": \"bert\", \"vocab_size\": 9, \"vocab_size\": 9}", "appears twice" },
        { "{\"model_type\": \"bert\", \"hidden_size\": 9}", "9 is no multiple of" },
        { "{\"model_type\": \"bert\", \"is_decoder\": true}", "is_decoder is true" },
        { "{\"model_type\": \"bert\", \"is_decoder\": 1}", "is_decoder" },
        { "{\"model_type\": \"bert\", \"hidden_act\": \"mish\"}", "mish" },
        { "{\"model_type\": \"bert\", \"hidden_act\": \"gelu_10\"}", "gelu_10" },
        { "{\"model_type\": \"deberta\", \"talking_head\": true}", "talking_head" },
        { "{\"model_type\": \"splinter\", \"question_token_id\": -1}", "question_token_id" },
        { "{\"model_type\": \"deberta\", \"pos_att_type\": \"c2p|c2p\"}", "each once" },
        { "{\"model_type\": \"deberta\", \"pos_att_type\": [\"none\"]}", "each once" },
        { "{\"model_type\": \"deberta\", \"pos_att_type\": \"p2p\"}", "c2p, p2c or both" },
        { "{\"model_type\": \"bert\", \"vocab_size\": 9, \"hidden_size\": 10, "
          "\"num_hidden_layers\": 1, \"num_attention_heads\": 3, \"intermediate_size\": 4, "
          "\"max_position_embeddings\": 8}", "10 is no multiple of num_attention_heads 3" },
        { "{\"model_type\": \"roberta\", \"vocab_size\": 9, \"hidden_size\": 9, "
          "\"num_hidden_layers\": 1, \"num_attention_heads\": 3, \"intermediate_size\": 4, "
          "\"max_position_embeddings\": 8, \"pad_token_id\": 9}", "pad_token_id 9" },
        { "{\"model_type\": \"roberta\", \"vocab_size\": 99, \"hidden_size\": 9, "
          "\"num_hidden_layers\": 1, \"num_attention_heads\": 3, \"intermediate_size\": 4, "
          "\"max_position_embeddings\": 8, \"pad_token_id\": 9}", "leaves no position" },
        { "{\"model_type\": \"bert\", \"vocab_size\": 9, \"hidden_size\": 9, "
          "\"num_hidden_layers\": 1, \"num_attention_heads\": 3, \"intermediate_size\": 4, "
          "\"max_position_embeddings\": 8, \"hidden_dropout_prob\": 1}", "found 1" },
        { "{\"model_type\": \"bert\", \"vocab_size\": 9, \"hidden_size\": 9, "
          "\"num_hidden_layers\": 1, \"num_attention_heads\": 3, \"intermediate_size\": 4, "
          "\"max_position_embeddings\": 8, \"mrc_head\": {\"type\": \"crf\"}}", "crf" },
        { "{\"model_type\": \"bert\", \"num_hidden_layers\": 1000000000, \"vocab_size\": 9, "
          "\"hidden_size\": 9}", "1000000000" },
    };
    mrc_ctx *ctx = new_ctx(NULL);
    char path[300];
    snprintf(path, sizeof path, "%s/config.json", dir);
    test_config_defaults(ctx, path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mrc_model_config c;
        CHECK(mrc_file_write(ctx, path, cases[i][0], strlen(cases[i][0])) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
        mrc_status s = mrc_model_config_load(ctx, &c, path);
        CHECK(s != MRC_OK && strstr(mrc_ctx_message(ctx), cases[i][1])
              && strstr(mrc_ctx_message(ctx), "config.json"), "%s: %s", cases[i][0],
              mrc_ctx_message(ctx));
        mrc_ctx_clear_error(ctx);
    }
    mrc_ctx_free(ctx);
}

// Weights that do not fit the config: named, with both shapes.
static void test_wrong_weights(mrc_backend *be, const char *dir) {
    mrc_ctx *ctx = new_ctx(be);
    mrc_model *m = load(ctx, "roberta_linear", MRC_DTYPE_F32), *b = NULL;
    mrc_model_load_desc desc = { .path = dir };
    m->config.vocab_size = 60;                          // only config.json says so
    CHECK(mrc_model_save(ctx, m, dir, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_model_load(ctx, &b, &desc) == MRC_ERR_SHAPE && !b
          && strstr(mrc_ctx_message(ctx), "word_embeddings.weight")
          && strstr(mrc_ctx_message(ctx), "(53, 24)") && strstr(mrc_ctx_message(ctx), "(60, 24)"),
          "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    m->config.vocab_size = 53;
    m->config.num_hidden_layers = 3;                    // a layer that the file lacks
    CHECK(mrc_model_save(ctx, m, dir, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_model_load(ctx, &b, &desc) == MRC_ERR_FORMAT && !b
          && strstr(mrc_ctx_message(ctx), "roberta.encoder.layer.2."), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    desc.path = "no/such/directory";
    CHECK(mrc_model_load(ctx, &b, &desc) == MRC_ERR_ARG && !b
          && strstr(mrc_ctx_message(ctx), "no/such/directory"), "%s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

// Weights that are not finite: the step is skipped, nothing is written.
static void test_not_finite(mrc_backend *be) {
    golden g = {0};
    mrc_optimizer *o;
    mrc_ctx *ctx = new_ctx(be);
    mrc_optimizer_config c = mrc_optimizer_config_default();
    golden_open(ctx, &g, "roberta_bilstm", "ragged");
    mrc_model *m = load(ctx, "roberta_bilstm", MRC_DTYPE_F32);
    mrc_tensor *t = m->weights->layers[0].down.bias, *word = m->weights->word;
    const float nan = NAN;
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &c) == MRC_OK, "%s", mrc_ctx_message(ctx));
    memcpy(t->data, &nan, sizeof nan);
    double *before = tensor_read(be, word, word->data);
    mrc_step_desc desc = { .features = g.list, .n = g.b, .lr = 1,
                           .forward = mrc_forward_config_default() };
    mrc_step_result r;
    CHECK(mrc_train_step(ctx, m, o, &desc, &r) == MRC_OK && r.skipped && r.loss != r.loss, "%s",
          mrc_ctx_message(ctx));
    double *after = tensor_read(be, word, word->data);
    CHECK(difference(after, before, word->numel, 0) == 0, "a skipped step changed a weight");
    CHECK(mrc_ctx_memory(ctx).step_live == 0, "a skipped step keeps memory");
    free(before), free(after);
    mrc_optimizer_free(o);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

// The CUDA source on the tests' shim or a GPU: every golden.
static int test_cuda(void) {
#ifdef MRC_TEST_CUDA
    for (int path = 70; path <= 80; path += 10) {
        mrc_backend *be = cuda_new(path, 0);
        if (be) test_backend(be);
        mrc_backend_free(be);
    }
#endif
    return test_end();
}

int main(void) {
    char dir[64];
    mrc_backend *naive, *be;
    if (TEST_ON_CUDA) return test_cuda();
    snprintf(dir, sizeof dir, "build/test_model.%ld", (long)getpid());
    CHECK(mrc_backend_naive_new(&naive, NULL) == MRC_OK, "naive");
    test_backend(naive);
    test_once(naive, MRC_DTYPE_F64, "roberta_bilstm", "padded", 0);
    test_once(naive, MRC_DTYPE_F64, "bert_linear", "ragged", 0);
    for (int k = 0; k < TEST_ISAS; k++) {
        mrc_backend_desc desc = { .isa = test_isas[k].isa, .threads = (size_t)k + 1 };
        if (mrc_backend_cpu_new(&be, &desc) != MRC_OK) {
            test_skip(test_isas[k].name);
            continue;
        }
        test_backend(be);
        mrc_backend_free(be);
    }
    mrc_ctx *ctx = new_ctx(naive);
    CHECK(mrc_dir_new(ctx, dir) == MRC_OK, "%s", mrc_ctx_message(ctx));
    test_directory(naive, dir);
    test_parts(naive, dir);
    test_old_names(naive, dir);
    test_other_head(naive);
    test_init(naive);
    test_wrong_configs(dir);
    test_wrong_weights(naive, dir);
    test_not_finite(naive);
    CHECK(mrc_dir_remove(ctx, dir) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    mrc_backend_free(naive);
    return test_end();
}
