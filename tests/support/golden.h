// The fixtures of tests/golden as tests read them: a model directory, a batch, what was computed.
#ifndef GOLDEN_H
#define GOLDEN_H
#include "test.h"

#define GOLDEN "tests/golden/"

// A fixture on the host.
typedef struct golden {
    mrc_weights *st;
    char             path[256];
    size_t           b, n;
    int32_t         *ids, *types, *positions, *cu, *lengths, *start, *end;
    float           *start_logits, *end_logits;
    const char      *zero;          // names of parameters whose exact gradient is 0
    mrc_feature     *features;
    const mrc_feature **list;
} golden;

TEST_HELPER void *golden_read(mrc_ctx *ctx, golden *g, const char *name, mrc_dtype dtype,
                              size_t *n) {
    const mrc_st_entry *e = mrc_weights_find(g->st, name);
    void *data = e ? malloc((size_t)e->numel * 8 + 8) : NULL;
    if (!CHECK(e && mrc_weights_read(g->st, e, dtype, data) == MRC_OK, "%s: %s: %s", g->path,
               name, mrc_ctx_message(ctx))) exit(1);
    if (n) *n = (size_t)e->numel;
    return data;
}

TEST_HELPER void golden_open(mrc_ctx *ctx, golden *g, const char *model, const char *form) {
    snprintf(g->path, sizeof g->path, GOLDEN "%s/golden_%s.safetensors", model, form);
    if (!CHECK(mrc_safetensors_open(ctx, &g->st, g->path) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) exit(1);
    g->ids = golden_read(ctx, g, "input_ids", MRC_DTYPE_I32, &g->n);
    g->types = golden_read(ctx, g, "token_type_ids", MRC_DTYPE_I32, NULL);
    g->positions = golden_read(ctx, g, "position_ids", MRC_DTYPE_I32, NULL);
    g->cu = golden_read(ctx, g, "cu_seqlens", MRC_DTYPE_I32, NULL);
    g->lengths = golden_read(ctx, g, "lengths", MRC_DTYPE_I32, &g->b);
    g->start = golden_read(ctx, g, "start_positions", MRC_DTYPE_I32, NULL);
    g->end = golden_read(ctx, g, "end_positions", MRC_DTYPE_I32, NULL);
    g->zero = mrc_weights_meta(g->st, "zero_gradient");
    g->features = calloc(g->b, sizeof *g->features);
    g->list = calloc(g->b, sizeof *g->list);
    for (size_t i = 0; i < g->b; i++) {
        int32_t length = g->cu[i + 1] - g->cu[i];
        g->features[i] = (mrc_feature){ .example_index = (int32_t)i, .length = length,
            .real_len = g->lengths[i], .input_ids = g->ids + g->cu[i],
            .token_type_ids = g->types + g->cu[i], .loss_end = length,
            .start_position = g->start[i], .end_position = g->end[i] };
        g->list[i] = &g->features[i];
    }
}

TEST_HELPER void golden_close(golden *g) {
    free(g->ids), free(g->types), free(g->positions), free(g->cu), free(g->lengths);
    free(g->start), free(g->end), free(g->features), free(g->list);
    mrc_weights_close(g->st);
}

// Whether name stands in the comma list.
TEST_HELPER int is_zero(const golden *g, const char *name) {
    size_t n = strlen(name);
    for (const char *p = g->zero; p && (p = strstr(p, name)) != NULL; p += n) {
        if ((p == g->zero || p[-1] == ',') && (p[n] == ',' || p[n] == 0)) return 1;
    }
    return 0;
}

// t's numbers, or those at a gradient's address, as doubles.
TEST_HELPER double *tensor_read(mrc_backend *be, const mrc_tensor *t, const void *data) {
    double *out = malloc((t->numel + 1) * sizeof *out);
    test_read(be, t->dtype, data, t->numel, out);
    return out;
}

// The largest difference, of the largest |want| when relative; a NaN is infinity.
TEST_HELPER double difference(const double *got, const double *want, size_t n, int relative) {
    double scale = 0, worst = 0;
    for (size_t i = 0; i < n; i++) scale = fabs(want[i]) > scale ? fabs(want[i]) : scale;
    for (size_t i = 0; i < n; i++) {
        double d = fabs(got[i] - want[i]);
        if (!(d <= worst)) worst = d;
        if (!(d < HUGE_VAL)) return HUGE_VAL;
    }
    return relative && scale > 0 ? worst / scale : worst;
}

TEST_HELPER mrc_model *load(mrc_ctx *ctx, const char *model, mrc_dtype dtype) {
    char path[256];
    mrc_model *m = NULL;
    snprintf(path, sizeof path, GOLDEN "%s", model);
    if (!CHECK(mrc_model_load(ctx, &m, &(mrc_model_load_desc){ .path = path, .dtype = dtype })
               == MRC_OK, "%s", mrc_ctx_message(ctx))) exit(1);
    return m;
}

#endif
