// The memory plan: what mrc_train_plan() says is what steps and evaluations of any composition take
// at most, so that a reserved step arena never grows; large models are planned without memory; and
// a dropped tensor that no backward reads is gone at once, with the same bits.
// tags: threads
#include "../support/backends.h"
#include "../support/model.h"

enum { N_FEATURES = 40, VOCABULARY = 50 };
static int32_t ids[1024], types[1024];

// Features of random lengths, the first of the longest.
static mrc_features features_new(mrc_feature *list, size_t n, int32_t longest) {
    for (int i = 0; i < 1024; i++) ids[i] = 5 + i % (VOCABULARY - 5);
    for (size_t i = 0; i < n; i++) {
        int32_t length = i ? 4 + (int32_t)((test_random() + 1) / 2 * (longest - 4)) : longest;
        list[i] = (mrc_feature){ .example_index = (int32_t)i, .length = length, .real_len = length,
                                 .input_ids = ids, .token_type_ids = types, .loss_end = length,
                                 .start_position = 1, .end_position = 2 };
    }
    return (mrc_features){ .n = n, .list = list };
}

static mrc_model_config config_of(mrc_head_type head, size_t hidden, size_t layers) {
    mrc_model_config c = mrc_model_config_default();
    c.vocab_size = VOCABULARY;
    c.hidden_size = hidden;
    c.num_hidden_layers = layers;
    c.num_attention_heads = 4;
    c.intermediate_size = 3 * hidden;
    c.max_position_embeddings = 130;
    c.type_vocab_size = 1;
    c.head = head;
    c.num_head_layers = 2;
    c.head_hidden_size = hidden / 2 + 8;
    c.head_dropout = 0.2;
    return c;
}

typedef struct setup {
    mrc_train_plan_desc plan;
    mrc_model_config model;
    mrc_optimizer_config optimizer;
    mrc_features train, eval;
    mrc_feature  lists[2][N_FEATURES];
} setup;

static void setup_new(setup *s, mrc_head_type head, mrc_batching batching, int checkpointing) {
    test_rng = 77;
    s->model = config_of(head, 32, 3);
    s->optimizer = mrc_optimizer_config_default();
    s->train = features_new(s->lists[0], N_FEATURES, 70);
    s->eval = features_new(s->lists[1], N_FEATURES / 2, 90);
    s->plan = (mrc_train_plan_desc){
        .model = &s->model, .optimizer = &s->optimizer, .forward = mrc_forward_config_default(),
        .features = &s->train, .batching = batching, .micro_batch = 3, .accumulation = 2,
        .eval = &s->eval, .eval_batch_size = 5 };
    s->plan.forward.dropout = 1;
    s->plan.forward.gradient_checkpointing = checkpointing;
}

//==============================================================================
// The plan against real steps
//==============================================================================
static mrc_status ignore(mrc_ctx *ctx, void *user, const mrc_feature *f, const float *start,
                         const float *end) {
    (void)ctx; (void)user; (void)f; (void)start; (void)end;
    return MRC_OK;
}

// Two epochs as train does them, each with an evaluation.
static void run_epochs(mrc_ctx *ctx, const setup *s, mrc_model *m, mrc_optimizer *o) {
    const mrc_train_plan_desc *p = &s->plan;
    const mrc_feature *batch[N_FEATURES];
    mrc_step_result result;
    uint32_t step = 0;
    for (uint32_t epoch = 0; epoch < 2; epoch++) {
        mrc_batch_plan order = {0};
        CHECK(mrc_batch_plan_new(ctx, &order, &s->train, p->batching,
                                 p->micro_batch * p->accumulation, 3, epoch) == MRC_OK, "order");
        for (size_t b = 0; b < order.n_batches; b++) {
            size_t first = order.begin[b], n = order.begin[b + 1] - first;
            for (size_t i = 0; i < n; i++) batch[i] = &s->train.list[order.feature[first + i]];
            size_t micro = p->batching == MRC_BATCHING_TOKEN_BUDGET
                         ? (n + p->accumulation - 1) / p->accumulation : p->micro_batch;
            mrc_step_desc desc = { .features = batch, .n = n, .micro_batch = micro, .lr = 1e-3,
                                   .random = { 1, step++, 0 }, .forward = p->forward };
            CHECK(mrc_train_step(ctx, m, o, &desc, &result) == MRC_OK, "%s", mrc_ctx_message(ctx));
        }
        mrc_predict_desc predict = { .features = &s->eval, .batch_size = p->eval_batch_size,
                                     .fn = ignore };
        CHECK(mrc_predict(ctx, m, &predict) == MRC_OK, "%s", mrc_ctx_message(ctx));
        mrc_batch_plan_free(&order);
    }
}

static size_t params_bytes(const mrc_params *p) {
    size_t bytes = 0;
    for (size_t i = 0; mrc_params_at(p, i); i++) {
        bytes += (mrc_params_at(p, i)->numel * sizeof(float) + MRC_ALIGNMENT - 1)
               / MRC_ALIGNMENT * MRC_ALIGNMENT;
    }
    return bytes;
}

// Of the gradients that training has: not those of frozen parameters, nor of ones never reached.
static size_t grads_bytes(mrc_ctx *ctx, const mrc_params *p) {
    size_t bytes = 0;
    for (size_t i = 0; mrc_params_at(p, i); i++) {
        const mrc_tensor *t = mrc_params_at(p, i);
        if (!t->requires_grad || !*mrc__grad_slot(ctx, t)) continue;
        bytes += (t->numel * sizeof(float) + MRC_ALIGNMENT - 1) / MRC_ALIGNMENT * MRC_ALIGNMENT;
    }
    return bytes;
}

static void test_real_steps(mrc_backend *be, mrc_head_type head, mrc_batching batching,
                            int checkpointing) {
    static setup s;
    mrc_train_memory plan;
    mrc_ctx *ctx;
    mrc_model *m;
    mrc_optimizer *o;
    setup_new(&s, head, batching, checkpointing);
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    if (!CHECK(mrc_train_plan(ctx, &s.plan, &plan) == MRC_OK, "%s", mrc_ctx_message(ctx))) exit(1);
    CHECK(mrc_ctx_memory(ctx).step_reserved == 0, "planning takes memory");
    CHECK(mrc_ctx_reserve(ctx, plan.step) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_ctx_memory(ctx).step_reserved == plan.step, "reserved something else");
    CHECK(mrc_model_new(ctx, &m, &s.model, MRC_DTYPE_F32, 1) == MRC_OK, "model");
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &s.optimizer) == MRC_OK, "optimizer");
    run_epochs(ctx, &s, m, o);
    mrc_memory real = mrc_ctx_memory(ctx);
    CHECK(real.step_reserved == plan.step && ctx->step.n_chunks == 1, "head %d, batching %d, "
          "checkpointing %d: %zu planned, %zu reserved", head, batching, checkpointing, plan.step,
          real.step_reserved);
    CHECK(real.step_extent <= plan.step && real.step_extent > plan.step * 3 / 5,
          "head %d, batching %d: %zu planned, %zu taken", head, batching, plan.step,
          real.step_extent);
    CHECK(real.grads == plan.gradients, "%zu gradients, %zu planned", real.grads, plan.gradients);
    CHECK(params_bytes(m->params) == plan.parameters, "%zu of parameters, %zu planned",
          params_bytes(m->params), plan.parameters);
    // Several micro-batches: their gradients, one after the other, and the sum.
    const size_t each = grads_bytes(ctx, m->params), sums = s.plan.accumulation > 1 ? 2 : 1;
    CHECK(plan.gradients >= sums * each && plan.gradients < sums * each + 1024,
          "%zu of gradients, each %zu", plan.gradients, each);
    CHECK(plan.optimizer >= 2 * each && plan.optimizer < 2 * each + 1024,
          "%zu of optimizer, each %zu", plan.optimizer, each);
    CHECK(plan.total == plan.parameters + plan.gradients + plan.optimizer + plan.step, "total");
    mrc_ctx_free(ctx);
    mrc_optimizer_free(o);
    mrc_model_free(m);
}

// Where the largest micro-batch is one of the file's own, the plan is exact.
static void test_exact(mrc_backend *be, mrc_head_type head, int checkpointing) {
    static setup s;
    mrc_train_memory plan;
    mrc_ctx *ctx;
    mrc_model *m;
    mrc_optimizer *o;
    setup_new(&s, head, MRC_BATCHING_SEQUENTIAL, checkpointing);
    for (size_t i = 0; i < N_FEATURES; i++) {
        s.train.list[i].length = s.train.list[i].real_len = s.train.list[i].loss_end = 70;
    }
    s.plan.eval = NULL;
    s.eval.n = 1;                       // shorter than a micro-batch
    s.eval.list[0].length = s.eval.list[0].real_len = s.eval.list[0].loss_end = 9;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    CHECK(mrc_train_plan(ctx, &s.plan, &plan) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(plan.rows == 210 && plan.sequences == 3 && plan.max_length == 70, "%zu rows", plan.rows);
    CHECK(mrc_ctx_reserve(ctx, plan.step) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_model_new(ctx, &m, &s.model, MRC_DTYPE_F32, 1) == MRC_OK, "model");
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &s.optimizer) == MRC_OK, "optimizer");
    run_epochs(ctx, &s, m, o);
    CHECK(mrc_ctx_memory(ctx).step_extent == plan.step, "%zu planned, %zu taken", plan.step,
          mrc_ctx_memory(ctx).step_extent);
    mrc_ctx_free(ctx);
    mrc_optimizer_free(o);
    mrc_model_free(m);
}

// Any micro-batch within the bounds takes at most what the plan says: thousands of compositions,
// each planned as a file of its own.
static void test_monotonous(mrc_backend *be) {
    static setup s;
    static mrc_feature part[N_FEATURES];
    size_t above = 0;
    mrc_ctx *ctx;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    for (int form = 0; form < 4; form++) {
        mrc_train_memory whole, one;
        setup_new(&s, form & 1 ? MRC_HEAD_BILSTM : MRC_HEAD_LINEAR, MRC_BATCHING_RANDOM, form >> 1);
        s.plan.eval = NULL;
        CHECK(mrc_train_plan(ctx, &s.plan, &whole) == MRC_OK, "%s", mrc_ctx_message(ctx));
        mrc_features few = { .list = part };
        s.plan.features = &few;
        for (int k = 0; k < 200; k++) {
            few.n = 1 + (size_t)k % 3;
            for (size_t i = 0; i < few.n; i++) {
                part[i] = s.lists[0][(size_t)((test_random() + 1) / 2 * (N_FEATURES - 1))];
            }
            CHECK(mrc_train_plan(ctx, &s.plan, &one) == MRC_OK, "%s", mrc_ctx_message(ctx));
            above += one.step > whole.step;
        }
    }
    CHECK(above == 0, "%zu of 800 micro-batches take more than the plan", above);
    mrc_ctx_free(ctx);
}

// A budget of rows: every micro-batch of every epoch is within the bounds.
static void test_budget_bounds(mrc_ctx *ctx) {
    static setup s;
    for (size_t parts = 1; parts <= 3; parts++) {
        for (size_t size = 1; size <= 4; size++) {
            mrc__bound b;
            size_t rows_most = 0, sequences_most = 0;
            setup_new(&s, MRC_HEAD_LINEAR, MRC_BATCHING_TOKEN_BUDGET, 0);
            CHECK(mrc__bound_of(ctx, &s.train, MRC_BATCHING_TOKEN_BUDGET, size, parts, &b)
                  == MRC_OK, "bound");
            for (uint32_t epoch = 0; epoch < 50; epoch++) {
                mrc_batch_plan order;
                CHECK(mrc_batch_plan_new(ctx, &order, &s.train, MRC_BATCHING_TOKEN_BUDGET,
                                         size * parts, 3, epoch) == MRC_OK, "order");
                for (size_t k = 0; k < order.n_batches; k++) {
                    size_t n = order.begin[k + 1] - order.begin[k], m = (n + parts - 1) / parts;
                    for (size_t first = 0; first < n; first += m) {
                        size_t rows = 0, i = first;
                        for (; i < n && i < first + m; i++) {
                            rows += (size_t)s.train.list[order.feature[order.begin[k] + i]].length;
                        }
                        rows_most = rows > rows_most ? rows : rows_most;
                        sequences_most = m > sequences_most ? m : sequences_most;
                    }
                }
                mrc_batch_plan_free(&order);
            }
            CHECK(rows_most <= b.rows && sequences_most <= b.sequences, "%zu x %zu: %zu rows of "
                  "%zu sequences, bound %zu of %zu", parts, size, rows_most, sequences_most,
                  (size_t)b.rows, b.sequences);
            CHECK(rows_most * 2 > b.rows, "the bound is far off: %zu, %zu", rows_most,
                  (size_t)b.rows);
        }
    }
}

//==============================================================================
// Large models
//==============================================================================
typedef struct counting { size_t live, peak; } counting;
static void *counting_alloc(void *user, size_t bytes) {
    counting *c = user;
    size_t *p = malloc(bytes + 64);
    if (!p) return NULL;
    *p = bytes;
    c->live += bytes;
    if (c->live > c->peak) c->peak = c->live;
    return (char *)p + 64;
}
static void counting_free(void *user, void *ptr) {
    if (!ptr) return;
    size_t *p = (size_t *)(void *)((char *)ptr - 64);
    ((counting *)user)->live -= *p;
    free(p);
}

// roberta-large with two BiLSTM layers of 1024: ten sequences of 512 in 24 GiB.
static void test_large(mrc_backend *be) {
    static mrc_feature list[10];
    const double gib = 1073741824.0;
    counting count = {0};
    mrc_ctx *ctx;
    mrc_train_memory plan[2][2];        // [checkpointing][10 at once]
    mrc_optimizer_config optimizer = mrc_optimizer_config_default();
    mrc_model_config c = config_of(MRC_HEAD_BILSTM, 1024, 24);
    c.vocab_size = 32000;
    c.num_attention_heads = 16;
    c.intermediate_size = 4096;
    c.max_position_embeddings = 514;
    c.head_hidden_size = 1024;
    mrc_features f = features_new(list, 10, 512);
    for (int i = 0; i < 10; i++) list[i].length = list[i].real_len = list[i].loss_end = 512;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .allocator = {
        counting_alloc, counting_free, &count } }) == MRC_OK, "context");
    for (int k = 0; k < 4; k++) {
        size_t micro = k & 1 ? 10 : 1;
        mrc_train_plan_desc desc = { .model = &c, .optimizer = &optimizer, .features = &f,
                                     .forward = mrc_forward_config_default(),
                                     .micro_batch = micro, .accumulation = 10 / micro };
        desc.forward.dropout = 1;
        desc.forward.gradient_checkpointing = k >> 1;
        mrc_train_memory *p = &plan[k >> 1][k & 1];
        CHECK(mrc_train_plan(ctx, &desc, p) == MRC_OK, "%s", mrc_ctx_message(ctx));
        printf("large + BiLSTM, %zu x 512%s: parameters %.2f, gradients %.2f, optimizer %.2f, step "
               "%.2f, total %.2f GiB; %.2f TFLOP\n", micro, k >> 1 ? ", checkpointed" : "",
               (double)p->parameters / gib, (double)p->gradients / gib,
               (double)p->optimizer / gib, (double)p->step / gib, (double)p->total / gib,
               p->flops / 1e12);
    }
    CHECK((double)plan[0][0].total < 24 * gib, "one at a time does not fit");
    CHECK((double)plan[1][1].total < 24 * gib, "ten at once, checkpointed, do not fit");
    CHECK(plan[1][0].step < plan[0][0].step / 2, "checkpointing saves less than half");
    CHECK(count.peak < 1 << 20, "%zu bytes of the host for a plan", count.peak);
    mrc_ctx_free(ctx);
    CHECK(count.live == 0, "%zu bytes not given back", count.live);
}

//==============================================================================
// What a plan and a reservation refuse
//==============================================================================
static void test_refusals(mrc_backend *be) {
    static setup s;
    mrc_train_memory plan;
    mrc_backend *null;
    mrc_ctx *ctx;
    setup_new(&s, MRC_HEAD_LINEAR, MRC_BATCHING_RANDOM, 0);
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    CHECK(mrc_train_plan(ctx, &s.plan, NULL) == MRC_ERR_ARG, "nowhere to put it");
    s.plan.micro_batch = 0;
    CHECK(mrc_train_plan(ctx, &s.plan, &plan) == MRC_ERR_ARG, "micro-batches of nothing");
    mrc_ctx_clear_error(ctx);
    s.plan.micro_batch = 1;
    s.model.num_attention_heads = 5;
    CHECK(mrc_train_plan(ctx, &s.plan, &plan) == MRC_ERR_ARG
          || mrc_ctx_status(ctx) == MRC_ERR_FORMAT, "a wrong model: %s", mrc_ctx_message(ctx));
    CHECK(strstr(mrc_ctx_message(ctx), "plan: ") != NULL, "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    mrc_ctx_free(ctx);
    failing f = { .fail_at = 1 << 20 };
    mrc_backend *poor;
    CHECK(mrc_backend_naive_new(&poor, &(mrc_backend_desc){ .allocator = failing_hooks(&f) })
          == MRC_OK, "naive");
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = poor }) == MRC_OK, "context");
    f.fail_at = f.calls;
    CHECK(mrc_ctx_reserve(ctx, 1 << 22) == MRC_ERR_MEM, "more than there is");
    CHECK(strstr(mrc_ctx_message(ctx), "4194304 bytes") != NULL, "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    const size_t three = 3;
    CHECK(mrc_tensor_new(ctx, MRC_DTYPE_F32, 1, &three, 0) != NULL, "as good as new");
    CHECK(mrc_ctx_reserve(ctx, 1 << 21) == MRC_ERR_ARG, "in the middle of a step");
    mrc_ctx_reset(ctx);
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_ctx_reserve(ctx, 1 << 21) == MRC_OK && mrc_ctx_memory(ctx).step_reserved == 1 << 21,
          "a larger one");
    CHECK(mrc_ctx_reserve(ctx, 1 << 20) == MRC_OK && mrc_ctx_memory(ctx).step_reserved == 1 << 21,
          "there already");
    mrc_ctx_free(ctx);
    mrc_backend_free(poor);
    CHECK(f.live == 0, "%ld allocations are not given back", f.live);
    CHECK(mrc_backend_null_new(&null, NULL, NULL) == MRC_ERR_ARG && !null, "like nothing");
    CHECK(mrc_ctx_new(&ctx, NULL) == MRC_OK, "context");
    CHECK(mrc_ctx_reserve(ctx, 64) == MRC_ERR_ARG, "no backend");
    mrc_ctx_free(ctx);
}

// Every allocation that a plan makes may fail, and nothing is kept.
static void test_failing(mrc_backend *be) {
    static setup s;
    long calls = 1;
    size_t wrong = 0;
    setup_new(&s, MRC_HEAD_BILSTM, MRC_BATCHING_TOKEN_BUDGET, 1);
    for (long at = 0; at < calls; at += at < 200 ? 1 : 37) {
        failing f = { .fail_at = -1 };
        mrc_train_memory plan;
        mrc_ctx *ctx;
        mrc_ctx_desc desc = { .backend = be, .allocator = failing_hooks(&f) };
        CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK, "context");
        if (at == 0) CHECK(mrc_train_plan(ctx, &s.plan, &plan) == MRC_OK, "plan");
        if (at == 0) calls = f.calls;
        f.fail_at = f.calls + at;
        wrong += mrc_train_plan(ctx, &s.plan, &plan) != MRC_ERR_MEM;
        wrong += mrc_ctx_status(ctx) != MRC_ERR_MEM;
        mrc_ctx_free(ctx);
        wrong += f.live != 0;
    }
    CHECK(wrong == 0, "%zu of %ld failing allocations are not MRC_ERR_MEM", wrong, calls);
}

//==============================================================================
// Dropping
//==============================================================================
// An input of add_norm is read by no backward: it goes when it is dropped; the bits stay.
static void test_drop_unread(mrc_backend *be) {
    enum { H = 16, NUMBERS = H * H };
    static double gradient[2][NUMBERS];
    size_t live[2];
    for (int drop = 0; drop < 2; drop++) {
        static const int32_t lengths[2] = { 5, 4 }, index[2] = { 0, 1 };
        const size_t rows[2] = { 9, H }, square[2] = { H, H }, h = H;
        double values[NUMBERS];
        mrc_ctx *ctx;
        mrc_batch batch;
        mrc_tensor *t[5];
        CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
        CHECK(test_batch(ctx, &batch, 2, lengths, index) == MRC_OK, "batch");
        test_rng = 5;
        for (int i = 0; i < NUMBERS; i++) values[i] = test_random();
        for (int k = 0; k < 5; k++) {
            t[k] = test_tensor(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F32, k < 2 ? 2 : 1,
                                                   k == 0 ? rows : k == 1 ? square : &h, 1),
                               values);
        }
        mrc_tensor *o = mrc_linear(ctx, t[0], t[1], t[2], MRC_ACT_NONE);
        mrc_tensor *y = mrc_add_norm(ctx, o, t[0], t[3], t[4], 1e-5, 0.1, 7, &batch);
        if (drop) mrc_drop(ctx, o);
        CHECK((o->data == NULL) == drop, "drop %d", drop);
        mrc_tensor *z = mrc_linear(ctx, y, t[1], t[2], MRC_ACT_NONE);
        mrc_drop(ctx, y);
        CHECK(y->data != NULL, "linear's backward reads its input");
        live[drop] = mrc_ctx_memory(ctx).step_live;
        CHECK(mrc_backward(ctx, z, t[0]) == MRC_OK, "%s", mrc_ctx_message(ctx));
        test_read(be, MRC_DTYPE_F32, mrc_grad(ctx, t[1]), NUMBERS, gradient[drop]);
        CHECK(!drop || test_gelu(ctx, o) == NULL, "an op reads what is gone");
        mrc_ctx_free(ctx);
    }
    CHECK(!memcmp(gradient[0], gradient[1], sizeof gradient[0]), "other bits on %s", be->name);
    CHECK(live[1] + 9 * H * sizeof(float) == live[0], "%zu and %zu bytes", live[0], live[1]);
}

int main(void) {
    mrc_backend *cpu = NULL, *naive = NULL;
    CHECK(mrc_backend_cpu_new(&cpu, &(mrc_backend_desc){ .threads = 2 }) == MRC_OK, "cpu");
    CHECK(mrc_backend_naive_new(&naive, NULL) == MRC_OK, "naive");
    mrc_ctx *text;
    CHECK(mrc_ctx_new(&text, NULL) == MRC_OK, "context");
    for (int form = 0; form < 4; form++) {
        mrc_head_type head = form & 1 ? MRC_HEAD_BILSTM : MRC_HEAD_LINEAR;
        for (int kind = MRC_BATCHING_RANDOM; kind <= MRC_BATCHING_TOKEN_BUDGET; kind++) {
            test_real_steps(cpu, head, (mrc_batching)kind, form >> 1);
        }
        test_exact(cpu, head, form >> 1);
    }
    test_monotonous(cpu);
    test_budget_bounds(text);
    test_large(cpu);
    test_refusals(cpu);
    test_failing(cpu);
    test_drop_unread(naive);
    test_drop_unread(cpu);
    mrc_ctx_free(text);
    mrc_backend_free(cpu);
    mrc_backend_free(naive);
    return test_end();
}
