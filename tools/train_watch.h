// train's watch over its steps: losses far above those before, steps that are no good, the newest
// checkpoint's weights brought back.
#ifndef TRAIN_WATCH_H
#define TRAIN_WATCH_H
#include "train_state.h"

#define SKIPS_IN_A_ROW 3                // skipped steps before the run gives up
#define RECENT_ENOUGH 32                // losses that are needed before one is a spike

static int by_number(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}
static double median(double *list, size_t n) {
    qsort(list, n, sizeof *list, by_number);
    return (list[(n - 1) / 2] + list[n / 2]) / 2;
}

// The loss above which a step is a spike; 0: there are too few to say.  Losses differ by factors,
// so it is their logarithms that are held against the median: six deviations (estimated by the
// median of the distances from it, which spikes do not move), and a factor of four at least.
static double spike_limit(const run *r) {
    double logs[RECENT_LOSSES], middle;
    size_t n = r->s.n_recent;
    if (n < RECENT_ENOUGH || r->a->loss_spike == SPIKE_OFF) return 0;
    for (size_t i = 0; i < n; i++) logs[i] = log(fmax(r->s.recent[i], 1e-12));
    middle = median(logs, n);
    for (size_t i = 0; i < n; i++) logs[i] = fabs(logs[i] - middle);
    return exp(middle + fmax(log(4), 6 * 1.4826 * median(logs, n)));
}

static void remember_loss(run *r, double loss) {
    run_state *s = &r->s;
    if (s->n_recent == RECENT_LOSSES) {
        memmove(s->recent, s->recent + 1, (RECENT_LOSSES - 1) * sizeof *s->recent);
        s->n_recent--;
    }
    s->recent[s->n_recent++] = loss;
}

// What stood in the batch of a step that was no good, into log.jsonl.
static void log_bad_step(run *r, const mrc_step_result *result, const char *what, size_t n) {
    mrc_text t;
    log_begin(r, &t);
    tool_json_string(&t, "bad/what", what);
    log_number(&t, "bad/loss", result->loss);
    log_number(&t, "bad/grad_norm", result->grad_norm);
    tool_json_key(&t, "bad/batch");
    for (size_t i = 0; i < n; i++) {
        const mrc_example *x = mrc_dataset_at(r->train_set, (size_t)r->batch[i]->example_index);
        mrc_text_add(&t, i ? ", " : "[", i ? 2 : 1);
        mrc_text_json_string(&t, x->id, strlen(x->id), 0);
    }
    mrc_text_add(&t, "]}\n", 3);
    log_append(r, &t);
    mrc_text_free(&t);
}

// --loss_spike warn: the step has been done.
static void note_spike(const run *r, const mrc_step_result *result, double limit, size_t n) {
    char ids[512] = "";
    for (size_t i = 0, at = 0; i < n && at < sizeof ids - 1; i++) {
        const mrc_example *x = mrc_dataset_at(r->train_set, (size_t)r->batch[i]->example_index);
        int k = snprintf(ids + at, sizeof ids - at, "%s%s", i ? ", " : "", x->id);
        at += k > 0 ? (size_t)k : 0;
    }
    tool_note("step %llu: a spike (found loss %g, expected at most %g): the batch was %s",
              (unsigned long long)r->s.step, result->loss, limit, ids);
}

// The model's weights become those of a folder.
static void take_weights(run *r, const char *dir) {
    mrc_weights *st;
    mrc_tensor *t;
    tool_check(r->ctx, mrc_weights_open(r->ctx, &st, dir));
    for (size_t i = 0; (t = mrc_params_at(r->model->params, i)) != NULL; i++) {
        const mrc_st_entry *e = mrc_weights_find(st, t->name);
        if (!e || e->numel != t->numel) {
            tool_fail(TOOL_BAD_INPUT, "%s: has no %s of %zu values", dir, t->name, t->numel);
        }
        void *values = tool_allocate(t->numel, mrc_dtype_bytes(t->dtype));
        tool_check(r->ctx, mrc_weights_read(st, e, t->dtype, values));
        tool_check(r->ctx, mrc_tensor_upload(r->ctx, t, values));
        free(values);
    }
    mrc_weights_close(st);
}

// Weights and moments as the newest checkpoint has them; the run goes on with the next batch.  0:
// there is none.
static int roll_back(run *r) {
    char dir[TOOL_PATH_BYTES], path[TOOL_PATH_BYTES], name[64];
    if (r->saved_step == UINT64_MAX) return 0;
    snprintf(name, sizeof name, "checkpoint-%llu", (unsigned long long)r->saved_step);
    tool_path(dir, r->a->output_dir, name);
    tool_check(r->ctx, mrc_checkpoint_check(r->ctx, dir));
    take_weights(r, dir);
    tool_path(path, dir, "optimizer.safetensors");
    tool_check(r->ctx, mrc_optimizer_load(r->ctx, r->optimizer, path));
    return 1;
}

// A step that changed no weight: its loss or a gradient is not finite, or its loss is a spike.
static void skip_step(run *r, const mrc_step_result *result, double limit, size_t n) {
    const int spike = isfinite(result->loss) && limit > 0 && result->loss > limit;
    char found[128];
    r->s.skipped++;
    log_bad_step(r, result, spike ? "spike" : "not finite", n);
    // A loss scale that is still above its floor is looking for the gradients' range.
    if (!spike && isfinite(result->loss) && result->loss_scale > 1) {
        tool_note("step %llu: gradients overflow: the step is skipped, the loss scale is %g",
                  (unsigned long long)r->s.step, result->loss_scale);
        return;
    }
    if (spike) snprintf(found, sizeof found, "loss %g, expected at most %g", result->loss, limit);
    else snprintf(found, sizeof found, "loss %g, grad_norm %g, expected finite numbers",
                  result->loss, result->grad_norm);
    if (++r->s.skipped_in_a_row == SKIPS_IN_A_ROW) {
        tool_fail(TOOL_NUMERIC, "step %llu: %s %d times in a row (found %s): the batches are in "
                  "%s/log.jsonl", (unsigned long long)r->s.step, spike ? "a spike" : "not finite",
                  SKIPS_IN_A_ROW, found, r->a->output_dir);
    }
    const int back = spike && r->a->loss_spike == SPIKE_ROLLBACK && roll_back(r);
    tool_note("step %llu: %s (found %s): the step is skipped%s", (unsigned long long)r->s.step,
              spike ? "a spike" : "not finite", found,
              back ? ", weights and moments are those of the newest checkpoint" : "");
}

#endif
