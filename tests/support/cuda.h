// What the CUDA source's tests share: orders of blocks and threads, and training steps from the
// state that another backend has.
#ifndef TEST_CUDA_H
#define TEST_CUDA_H
#include "backends.h"
#include "model.h"

// What is run: leaves numbers in out and returns how many.
typedef size_t (*ordered_run)(const void *what, double *out);

// Runs it in each order that MRC_SHIM_SCHED knows, the last one like the first; a GPU has its own.
// first, again: room for the numbers.
TEST_HELPER void same_in_orders(const char *name, ordered_run run, const void *what, int orders,
                                double *first, double *again) {
    static const char *const order[] = { "fwd", "rev", "rand:1", "rand:2", "rand:3" };
    for (int k = 0; k <= orders; k++) {
        setenv("MRC_SHIM_SCHED", order[k % orders], 1);
        const size_t n = run(what, k ? again : first);
        CHECK(k == 0 || !memcmp(first, again, n * sizeof *first), "%s: order %s, run %d has other "
              "bits", name, order[k % orders], k);
    }
    unsetenv("MRC_SHIM_SCHED");
}

//==============================================================================
// Training
//==============================================================================
typedef struct trained { mrc_backend *be; mrc_ctx *ctx; mrc_model *m; mrc_optimizer *o; } trained;

TEST_HELPER void trained_new(trained *t, mrc_backend *be, const mrc_model_config *config,
                             const mrc_optimizer_config *optimizer, mrc_dtype dtype) {
    t->be = be;
    t->ctx = new_ctx(be);
    CHECK(mrc_model_new(t->ctx, &t->m, config, dtype, 1) == MRC_OK
          && mrc_optimizer_new(t->ctx, &t->o, t->m->params, optimizer) == MRC_OK, "%s",
          mrc_ctx_message(t->ctx));
}
TEST_HELPER void trained_free(trained *t) {
    mrc_ctx_free(t->ctx);
    mrc_optimizer_free(t->o);
    mrc_model_free(t->m);
}

// Every tensor of one list from a host backend to another one.
TEST_HELPER void copy_list(mrc_backend *be, const mrc_params *from, const mrc_params *to) {
    for (size_t i = 0; from && mrc_params_at(from, i); i++) {
        const mrc_tensor *a = mrc_params_at(from, i), *b = mrc_params_at(to, i);
        CHECK(be->upload(be, b->data, a->data, a->numel * mrc_dtype_bytes(a->dtype)) == MRC_OK,
              "upload");
    }
}
TEST_HELPER void copy_state(const trained *from, const trained *to) {
    copy_list(to->be, from->m->params, to->m->params);
    copy_list(to->be, from->o->exp_avg, to->o->exp_avg);
    copy_list(to->be, from->o->exp_avg_sq, to->o->exp_avg_sq);
    copy_list(to->be, from->o->scalars, to->o->scalars);
}

// Biases whose exact gradient is 0, as a softmax does not change when all its logits move: Adam
// makes steps of either sign of what rounding leaves.
TEST_HELPER int has_no_gradient(const char *name) {
    return strstr(name, "key.bias") || strstr(name, "qa_head.bias");
}

// The largest difference of two lists, relative to 1 and the largest element.
TEST_HELPER double list_error(const trained *a, const trained *b, double rate,
                              const char **where) {
    double worst = 0;
    for (size_t i = 0; mrc_params_at(a->m->params, i); i++) {
        const mrc_tensor *x = mrc_params_at(a->m->params, i), *y = mrc_params_at(b->m->params, i);
        double *u = malloc(x->numel * sizeof *u), *v = malloc(x->numel * sizeof *v);
        test_read(a->be, MRC_DTYPE_F32, x->data, x->numel, u);
        test_read(b->be, MRC_DTYPE_F32, y->data, y->numel, v);
        double e = test_error(u, v, x->numel);
        if (has_no_gradient(x->name) && e <= 10 * rate) e = 0;
        if (!(e <= worst)) {
            worst = e;
            *where = x->name;
        }
        free(u), free(v);
    }
    return worst;
}

// b takes over a's state, both make the step, and must be at the same place within 1e-5.
TEST_HELPER void step_from_same(const trained *a, const trained *b, const mrc_step_desc *desc,
                                const char *label) {
    const char *where = "";
    mrc_step_result r[2] = {0};
    copy_state(a, b);
    CHECK(mrc_train_step(a->ctx, a->m, a->o, desc, &r[0]) == MRC_OK, "%s", mrc_ctx_message(a->ctx));
    CHECK(mrc_train_step(b->ctx, b->m, b->o, desc, &r[1]) == MRC_OK, "%s", mrc_ctx_message(b->ctx));
    CHECK(fabs(r[0].loss - r[1].loss) <= 1e-5 * r[0].loss, "%s: loss %.9g, on %s %.9g", label,
          r[1].loss, a->be->name, r[0].loss);
    CHECK(fabs(r[0].grad_norm - r[1].grad_norm) <= 1e-5 * r[0].grad_norm, "%s: norm %.9g, on %s "
          "%.9g", label, r[1].grad_norm, a->be->name, r[0].grad_norm);
    const double e = list_error(a, b, desc->lr, &where);
    CHECK(e <= 1e-5, "%s: %s off by %g", label, where, e);
}

#endif
