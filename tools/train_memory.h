// train's memory: planned, and refused before training where it cannot be had, with advice.
#ifndef TRAIN_MEMORY_H
#define TRAIN_MEMORY_H
#include "train_state.h"

// What the model computes in; its weights are f32 in any case.
// On the cpu backend --bf16 is a matter of its products, and activations are f32.
static mrc_dtype model_dtype(const run *r) {
    if (r->be->math == MRC_MATH_BF16) return MRC_DTYPE_F32;
    return r->a->fp16 ? MRC_DTYPE_F16 : r->a->bf16 ? MRC_DTYPE_BF16 : MRC_DTYPE_F32;
}

// --layerwise_lr_decay and --head_learning_rate.
static void parameter_group(void *user, const mrc_tensor *p, mrc_param_group *g) {
    const run *r = user;
    size_t head = r->model_config.num_hidden_layers + 1;    // before the model is there, too
    g->lr_scale = pow(r->a->layerwise_lr_decay, (double)(head - p->depth));
    if (p->depth == head && r->a->head_learning_rate > 0) {
        g->lr_scale = r->a->head_learning_rate / r->a->learning_rate;
    }
}

static mrc_optimizer_config optimizer_config(run *r) {
    mrc_optimizer_config config = mrc_optimizer_config_default();
    static const mrc_optim variants[] = { MRC_ADAMW_TORCH, MRC_ADAMW_HF, MRC_ADAMP, MRC_SGD,
                                          MRC_ADAMW_TORCH };
    config.variant = variants[r->a->optim];
    config.delta = r->a->adamp_delta;
    config.wd_ratio = r->a->adamp_wd_ratio;
    config.nesterov = r->a->nesterov;
    config.momentum = r->a->momentum;
    config.ema_decay = r->a->ema_decay;
    config.group = parameter_group;
    config.user = r;
    config.beta1 = r->a->adam_beta1;
    config.beta2 = r->a->adam_beta2;
    config.eps = r->a->adam_epsilon;
    config.weight_decay = r->a->weight_decay;
    config.max_grad_norm = r->a->max_grad_norm;
    config.decay_all = r->a->compat == COMPAT_REFERENCE;
    config.sharded = r->a->sharded_optimizer;
    if (r->a->fp16) config.loss_scale = 65536;   // as PyTorch's GradScaler begins
    return config;
}

#define MIB(bytes) (((bytes) + (1 << 20) - 1) >> 20)
enum { WRITING_BYTES = 1 << 20 };       // beside the plan: buffers with which files are written

static mrc_loss loss_of(const run *r) {
    return (mrc_loss){ .kind = (mrc_loss_kind)r->a->loss, .reference = r->a->loss_variant,
                       .gamma = r->a->gamma, .smoothing = r->a->smoothing };
}
static mrc_objective objective_of(const run *r) {
    return (mrc_objective){ .loss = loss_of(r), .rdrop_alpha = r->a->rdrop_alpha,
                            .fgm_epsilon = r->a->fgm_epsilon };
}

// What training takes with another micro-batch size, checkpointing or evaluation batch.
static mrc_train_memory memory_of(run *r, const mrc_model_config *model, size_t micro_batch,
                                  int checkpointing, size_t eval_batch) {
    mrc_optimizer_config optimizer = optimizer_config(r);
    mrc_train_memory memory;
    mrc_train_plan_desc desc = {
        .model = model, .optimizer = &optimizer, .dtype = model_dtype(r),
        .forward = mrc_forward_config_default(), .objective = objective_of(r),
        .freeze_embeddings = r->a->freeze_embeddings,
        .freeze_layers = r->a->freeze_layers, .features = &r->train,
        .batching = (mrc_batching)r->a->batching, .micro_batch = micro_batch,
        .accumulation = r->a->train_batch_size / micro_batch * r->micro_batches,
        .eval = r->validation_set ? &r->validation : NULL, .eval_batch_size = eval_batch,
        .eval_dropout = r->a->compat == COMPAT_REFERENCE };
    desc.forward.dropout = 1;
    desc.forward.gradient_checkpointing = checkpointing;
    tool_check(r->ctx, mrc_train_plan(r->ctx, &desc, &memory));
    return memory;
}

static int can_have(run *r, size_t bytes) {
    void *probe = r->be->alloc(r->be, bytes);
    if (probe) r->be->free(r->be, probe);
    return probe != NULL;
}

// The most that can be had, up to `wanted`, to the MiB.
static size_t memory_to_be_had(run *r, size_t wanted) {
    size_t had;
    if (tool_backend_reserve(r->be, wanted, &had)) return had;
    size_t limit = tool_memory_limit(""), used = tool_peak_bytes();
    size_t room = limit > used ? limit - used : 0, low = 0, high = wanted < room ? wanted : room;
    if (can_have(r, high)) return high;
    while (high - low > 1 << 20) {
        size_t middle = low + (high - low) / 2;
        if (can_have(r, middle)) low = middle;
        else high = middle;
    }
    return low;
}

// What would fit, of the same optimizer steps: checkpointing, smaller micro-batches, then both.
static void advise(run *r, const mrc_model_config *model, size_t limit, char *out, size_t n) {
    size_t batch = r->a->train_batch_size, total = 0;
    for (int stage = 0; stage < 3; stage++) {
        int checkpointing = stage == 1 ? r->a->gradient_checkpointing : 1;
        for (size_t micro = batch; micro >= (stage == 0 ? batch : 1); micro--) {
            if (batch % micro) continue;
            size_t eval = r->a->eval_batch_size < micro ? r->a->eval_batch_size : micro;
            total = memory_of(r, model, micro, checkpointing, eval).total;
            if (total > limit) continue;
            snprintf(out, n, "%s--per_device_train_batch_size %zu --gradient_accumulation_steps "
                     "%zu --per_device_eval_batch_size %zu needs %zu MiB",
                     checkpointing ? "--gradient_checkpointing " : "", micro,
                     batch / micro * r->a->accumulation, eval, MIB(total));
            return;
        }
    }
    snprintf(out, n, "one window at a time with --gradient_checkpointing needs %zu MiB",
             MIB(total));
}

static void plan_memory(run *r, const mrc_model_config *model) {
    const train_args *a = r->a;
    mrc_train_memory m = memory_of(r, model, a->train_batch_size, a->gradient_checkpointing,
                                   a->eval_batch_size);
    tool_note("memory: %zu MiB for parameters, %zu gradients, %zu optimizer, %zu one step "
              "(training %zu: at most %zu windows, %zu rows; evaluation %zu): %zu in all, beside "
              "%zu MiB of program and data", MIB(m.parameters), MIB(m.gradients), MIB(m.optimizer),
              MIB(m.step), MIB(m.step_train), m.sequences, m.rows, MIB(m.step_eval), MIB(m.total),
              MIB(tool_peak_bytes()));
    size_t had = memory_to_be_had(r, m.total + WRITING_BYTES);
    had = had > WRITING_BYTES ? had - WRITING_BYTES : 0;    // a step that fits must be saved, too
    if (had < m.total) {
        char advice[320];
        advise(r, model, had, advice, sizeof advice);
        tool_fail(TOOL_NO_MEMORY, "memory: training does not fit (found %zu MiB, expected at least "
                  "%zu): %s", had >> 20, MIB(m.total), advice);
    }
    tool_check(r->ctx, mrc_ctx_reserve(r->ctx, m.step));
    r->step_bytes = m.step;
}

#endif
