// A head and a loss of one's own, without a change to mrc.h: what a user's program looks like.
//
// The head scales every hidden value by a learned factor through a bend, y = s x / (1 + |s x|), and
// maps it to the two logits.  The loss asks the right row of a sequence to lead all others by a
// margin: the sum of max(0, 1 + l_i - l_y) over the other rows.  Each is a forward in plain C on a
// host backend and a backward function handed to mrc_custom(); the linear map, the encoder and the
// optimizer are the library's.
//
// usage: custom_head MODEL_DIR    prints the loss of each step, and checks the two gradients
#include "../../mrc.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 80, N_FEATURES = 3, LENGTH = 6 };

static void check(mrc_ctx *ctx, mrc_status s) {
    if (s == MRC_OK) return;
    fprintf(stderr, "custom_head: %s\n", ctx ? mrc_ctx_message(ctx) : mrc_status_string(s));
    exit(1);
}

//------------------------------------------------------------------------------
// The head's bend
//------------------------------------------------------------------------------
// Inputs: x (N, H), scale (H).  The data are on the host: this program made a cpu backend.
static mrc_status bend_backward(mrc_ctx *ctx, void *user, const mrc_custom_call *call) {
    const size_t n = call->in[0]->shape[0], h = call->in[0]->shape[1];
    const double *x = call->in[0]->data, *scale = call->in[1]->data, *dy = call->dy.data;
    mrc_out dx, dscale;
    (void)user;
    mrc_status s = mrc_grad_target(ctx, call->in[0], &dx);
    if (s == MRC_OK) s = mrc_grad_target(ctx, call->in[1], &dscale);
    if (s != MRC_OK) return s;
    double *to_x = dx.data, *to_scale = dscale.data;
    for (size_t j = 0; j < h; j++) {
        double sum = 0;
        for (size_t r = 0; r < n; r++) {
            double z = scale[j] * x[r * h + j], bend = 1 + fabs(z);
            double dz = dy[r * call->dy.ld + j] / (bend * bend);
            sum += dz * x[r * h + j];
            if (to_x) to_x[r * h + j] = (dx.accumulate ? to_x[r * h + j] : 0) + dz * scale[j];
        }
        if (to_scale) to_scale[j] = (dscale.accumulate ? to_scale[j] : 0) + sum;
    }
    return MRC_OK;
}

static mrc_tensor *bend(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *scale) {
    static const mrc_custom_desc desc = { .name = "bend", .backward = bend_backward };
    mrc_tensor *y = x ? mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, x->shape, 0) : NULL;
    if (!y) return NULL;
    const double *from = x->data, *s = scale->data;
    double *to = y->data;
    for (size_t i = 0; i < x->numel; i++) {
        double z = s[i % scale->numel] * from[i];
        to[i] = z / (1 + fabs(z));
    }
    return mrc_custom(ctx, &desc, y, (mrc_tensor *[]){ x, scale }, 2);
}

//------------------------------------------------------------------------------
// The loss
//------------------------------------------------------------------------------
// Input: logits (N, 2) of N_FEATURES sequences of LENGTH rows; user: their targets.
static mrc_status margin_backward(mrc_ctx *ctx, void *user, const mrc_custom_call *call) {
    const mrc_feature *f = user;
    const double *l = call->in[0]->data, *dy = call->dy.data;
    mrc_out target;
    mrc_status s = mrc_grad_target(ctx, call->in[0], &target);
    if (s != MRC_OK || !target.data) return s;
    double *dl = target.data;
    for (size_t i = 0; !target.accumulate && i < call->in[0]->numel; i++) dl[i] = 0;
    for (size_t k = 0; k < 2 * N_FEATURES; k++) {
        const size_t c = k % 2, first = k / 2 * LENGTH;
        const size_t y = first + (size_t)(c ? f[k / 2].end_position : f[k / 2].start_position);
        for (size_t r = first; r < first + LENGTH; r++) {
            if (r == y || !(1 + l[2 * r + c] - l[2 * y + c] > 0)) continue;
            dl[2 * r + c] += *dy;
            dl[2 * y + c] -= *dy;
        }
    }
    return MRC_OK;
}

static mrc_tensor *margin_loss(mrc_ctx *ctx, mrc_tensor *logits, mrc_feature *f) {
    const mrc_custom_desc desc = { .name = "margin", .backward = margin_backward, .user = f };
    mrc_tensor *loss = logits ? mrc_tensor_new(ctx, MRC_DTYPE_F64, 0, NULL, 0) : NULL;
    if (!loss) return NULL;
    const double *l = logits->data;
    double sum = 0;
    for (size_t k = 0; k < 2 * N_FEATURES; k++) {
        const size_t c = k % 2, first = k / 2 * LENGTH;
        const size_t y = first + (size_t)(c ? f[k / 2].end_position : f[k / 2].start_position);
        for (size_t r = first; r < first + LENGTH; r++) {
            if (r != y) sum += fmax(0, 1 + l[2 * r + c] - l[2 * y + c]);
        }
    }
    *(double *)loss->data = sum;
    return mrc_custom(ctx, &desc, loss, &logits, 1);
}

//------------------------------------------------------------------------------
// The reader made of them
//------------------------------------------------------------------------------
typedef struct reader {
    mrc_model  *model;                  // its encoder alone is used
    mrc_params *head;
    mrc_tensor *scale, *weight, *bias;
} reader;

static void new_head(mrc_ctx *ctx, reader *r, mrc_backend *be) {
    const size_t h = r->model->config.hidden_size, two = 2, shape[2] = { 2, h };
    check(ctx, mrc_params_new(&r->head, be, NULL));
    check(ctx, mrc_param_new(r->head, &r->scale, "head.scale", MRC_DTYPE_F64, 1, &h));
    check(ctx, mrc_param_new(r->head, &r->weight, "head.weight", MRC_DTYPE_F64, 2, shape));
    check(ctx, mrc_param_new(r->head, &r->bias, "head.bias", MRC_DTYPE_F64, 1, &two));
    for (size_t i = 0; i < h; i++) ((double *)r->scale->data)[i] = 1;
    for (size_t i = 0; i < 2 * h; i++) ((double *)r->weight->data)[i] = 0.1 * sin((double)i);
    for (size_t i = 0; i < 2; i++) ((double *)r->bias->data)[i] = 0;
}

static mrc_tensor *forward(mrc_ctx *ctx, reader *r, mrc_feature *f, mrc_batch *batch) {
    const mrc_feature *list[N_FEATURES];
    mrc_forward_config config = mrc_forward_config_default();
    for (size_t i = 0; i < N_FEATURES; i++) list[i] = &f[i];
    check(ctx, mrc_model_batch(ctx, r->model, batch, list, N_FEATURES, 0));
    mrc_tensor *x = mrc_model_encode(ctx, r->model, batch, &config);
    mrc_tensor *logits = mrc_linear(ctx, bend(ctx, x, r->scale), r->weight, r->bias, MRC_ACT_NONE);
    return margin_loss(ctx, logits, f);
}

// Of one element of a parameter, against a central difference.
static void check_gradient(mrc_ctx *ctx, reader *r, mrc_feature *f, mrc_tensor *p, size_t i) {
    const double h = 1e-5;
    double *x = (double *)p->data + i, kept = *x, loss[2], found;
    mrc_batch batch;
    check(ctx, mrc_backward(ctx, forward(ctx, r, f, &batch), NULL));
    const double *g = mrc_grad(ctx, p);
    found = g ? g[i] : (double)NAN;
    mrc_ctx_reset(ctx);
    mrc_grad_clear(ctx);
    for (int k = 0; k < 2; k++) {
        *x = kept + (k ? h : -h);
        const mrc_tensor *t = forward(ctx, r, f, &batch);
        loss[k] = t ? *(double *)t->data : (double)NAN;
        mrc_ctx_reset(ctx);
    }
    *x = kept;
    double want = (loss[1] - loss[0]) / (2 * h);
    if (fabs(found - want) <= 1e-5 * (1 + fabs(want))) return;
    fprintf(stderr, "custom_head: gradient of %s: %.9g, differences give %.9g\n", p->name, found,
            want);
    exit(1);
}

int main(int argc, char **argv) {
    int32_t ids[N_FEATURES][LENGTH], types[LENGTH] = { 0 };
    mrc_feature f[N_FEATURES] = { { .length = LENGTH } };
    mrc_backend *be = NULL;
    mrc_ctx *ctx = NULL;
    mrc_optimizer *head, *encoder;
    reader r = { NULL, NULL, NULL, NULL, NULL };
    if (argc != 2) {
        fprintf(stderr, "usage: custom_head MODEL_DIR\n");
        return 2;
    }
    check(NULL, mrc_backend_cpu_new(&be, NULL));
    check(NULL, mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }));
    check(ctx, mrc_model_load(ctx, &r.model, &(mrc_model_load_desc){ .path = argv[1],
                                                                     .dtype = MRC_DTYPE_F64 }));
    new_head(ctx, &r, be);
    for (int i = 0; i < N_FEATURES; i++) {
        for (int k = 0; k < LENGTH; k++) ids[i][k] = 3 + (5 * i + 2 * k) % 19;
        f[i] = (mrc_feature){ .length = LENGTH, .real_len = LENGTH, .input_ids = ids[i],
                              .token_type_ids = types, .loss_end = LENGTH,
                              .start_position = 1 + i, .end_position = 2 + i };
    }
    check_gradient(ctx, &r, f, r.scale, 3);
    check_gradient(ctx, &r, f, r.weight, 5);
    check_gradient(ctx, &r, f, mrc_params_at(r.model->params, 5), 7);   // through the encoder
    mrc_optimizer_config config = mrc_optimizer_config_default();
    check(ctx, mrc_optimizer_new(ctx, &encoder, r.model->params, &config));
    check(ctx, mrc_optimizer_new(ctx, &head, r.head, &config));
    for (int step = 0; step < STEPS; step++) {
        mrc_batch batch;
        mrc_tensor *loss = forward(ctx, &r, f, &batch);
        check(ctx, mrc_backward(ctx, loss, NULL));
        printf("%.6f\n", *(double *)loss->data);
        mrc_ctx_reset(ctx);
        // A step clears all gradients of the context, so head and encoder take turns.
        check(ctx, mrc_optimizer_step(ctx, step % 2 ? encoder : head, 1e-2));
    }
    mrc_ctx_free(ctx);
    mrc_optimizer_free(head);
    mrc_optimizer_free(encoder);
    mrc_params_free(r.head);
    mrc_model_free(r.model);
    mrc_backend_free(be);
    return 0;
}
