// train: teaches a reader from question-answering data; saves, resumes, keeps the best.
//
// A run is a function of its flags, its input files, the backend and the build.  Everything that
// decides the next weights and the next line of log.jsonl is in `run_state`, which each checkpoint
// records, so that a killed run goes on and ends with the bytes of one that was not killed.  The
// order within a step: weights, log line, checkpoint (it records whether an evaluation is to come),
// evaluation with its log line, best/.
//
// The output directory, in the order in which things appear there:
//     log.jsonl               appended to; synced before a checkpoint records its length
//     logs.json, runs/, wandb/    with --report_to: they follow log.jsonl (logs.h)
//     best/                   a model directory, replaced by renaming
//     checkpoint-<step>/      contract E of mrc.h
//     the final model, *_results.json, and last trainer_state.json with "finished": true
#include "train_memory.h"
#include "train_watch.h"
#include "train_ranks.h"
#include "train_retrieval.h"

static run the_run;

//==============================================================================
// Inputs: tokenizer, data, model
//==============================================================================
// Before anything is read: a backend that cannot train in this precision.
static void check_precision(const run *r) {
    const mrc_dtype dtype = model_dtype(r);
    if (r->be->math == MRC_MATH_BF16) {
        tool_note("--bf16: products multiply bfloat16 and add in fp32; activations, weights and "
                  "gradients stay fp32%s", strstr(r->be->isa, "emulated") ? " (this processor has "
                  "no instruction for such products: they take as long as those of fp32)" : "");
    }
    if (r->be->kernels[dtype].linear_bwd) return;
    tool_fail(TOOL_BAD_INPUT, "--%s: the %s backend does not compute in %s (found --%s, expected "
              "no such flag, or --backend naive, which is slow)", r->a->fp16 ? "fp16" : "bf16",
              r->be->name, mrc_dtype_name(dtype), r->a->fp16 ? "fp16" : "bf16");
}

static void load_features(run *r, const mrc_dataset *set, mrc_features *features,
                          const char *path) {
    mrc_features_config config = mrc_features_config_default();
    config.kind = (mrc_encoding_kind)r->a->encoding;
    config.max_seq_length = r->a->max_seq_length;
    config.doc_stride = r->a->doc_stride;
    config.pad_to_max_length = r->a->pad_to_max_length;
    config.with_targets = 1;
    config.loss_valid = r->a->loss_positions;
    tool_check(r->ctx, mrc_features_new(r->ctx, features, set, r->tok, &config));
    if (set != r->validation_set || !r->validation_said) tool_print_rows(path, set, features);
    if (features->n == 0) {
        tool_fail(TOOL_BAD_INPUT, "%s: no row is left (found 0 of %zu kept, expected at least 1)",
                  path, mrc_dataset_rows(set));
    }
}

// The first examples of a set, at most so many; 0: all.  *whole is what they are part of.
static void first_of(run *r, mrc_dataset **set, size_t most, mrc_dataset **whole) {
    const size_t n = *set ? mrc_dataset_size(*set) : 0;
    if (!most || most >= n) return;
    size_t *indices = tool_allocate(most, sizeof *indices);
    for (size_t i = 0; i < most; i++) indices[i] = i;
    *whole = *set;
    tool_check(r->ctx, mrc_dataset_subset(r->ctx, set, *whole, indices, most));
    free(indices);
}

// All questions of the file are answered, as predict and evaluate do: a row that cannot be trained
// on is still a question, without a part in the loss.
static void load_validation(run *r) {
    const char *path = r->a->validation_file;
    mrc_dataset *usable;
    tool_check(r->ctx, mrc_dataset_load(r->ctx, &usable, path));
    const size_t kept = mrc_dataset_size(usable);
    r->validation_set = usable;
    if (r->a->encoding != MRC_ENCODING_OFFSETS || kept == mrc_dataset_rows(usable)) return;
    tool_print_rows(path, usable, &(mrc_features){ .kept = kept });
    mrc_dataset_free(usable);
    tool_check(r->ctx, mrc_dataset_load_questions(r->ctx, &r->validation_set, path));
    r->validation_said = 1;
    tool_note("%s: %zu questions are scored, as evaluate does", path,
              mrc_dataset_size(r->validation_set));
}

static void load_data(run *r) {
    const train_args *a = r->a;
    if (a->num_folds) {
        tool_check(r->ctx, mrc_dataset_load(r->ctx, &r->all_set, a->train_file));
        r->train_set = tool_fold(r->ctx, r->all_set, a->train_file, a->num_folds, a->fold, 0);
        r->validation_set = tool_fold(r->ctx, r->all_set, a->train_file, a->num_folds, a->fold, 1);
    } else {
        tool_check(r->ctx, mrc_dataset_load(r->ctx, &r->train_set, a->train_file));
    }
    first_of(r, &r->train_set, a->max_train_samples, &r->whole_train);
    load_features(r, r->train_set, &r->train, a->train_file);
    if (a->validation_file) load_validation(r);
    first_of(r, &r->validation_set, a->max_eval_samples, &r->whole_validation);
    if (r->validation_set) {
        load_features(r, r->validation_set, &r->validation,
                      a->validation_file ? a->validation_file : a->train_file);
    }
}

// The numbers of the model: its config.json, then the flags that describe the head.
static mrc_model_config model_config(run *r, const tool_program *p, const char *from) {
    mrc_model_config config;
    train_args *a = r->a;
    tool_check(r->ctx, mrc_model_config_load(r->ctx, &config, from));
    // What is not given comes from the folder, but for a head of another kind than its own.
    const int other = a->head >= 0 && config.head != (mrc_head_type)a->head;
    if (a->head >= 0) config.head = (mrc_head_type)a->head;
    if (tool_given(p, "num_rnn_layers") || !config.num_head_layers || other) {
        config.num_head_layers = a->num_rnn_layers;
    }
    if (a->rnn_hidden_size) config.head_hidden_size = a->rnn_hidden_size;
    else if (!config.head_hidden_size || other) config.head_hidden_size = config.hidden_size;
    if (tool_given(p, "rnn_dropout") || other) config.head_dropout = a->rnn_dropout;
    if (config.pad_to_max_length) a->pad_to_max_length = 1;
    if (tool_given(p, "head_kernel_size") || other) {
        config.head_kernel_size = a->head_kernel_size;
    }
    if (config.head == MRC_HEAD_CONV1D && config.head_kernel_size % 2 == 0) {
        tool_fail(TOOL_USAGE, "--head_kernel_size: is not odd (found %zu, expected 1, 3, 5, ..)",
                  config.head_kernel_size);
    }
    if (a->freeze_layers > config.num_hidden_layers) {
        tool_fail(TOOL_USAGE, "--freeze_layers: the model has fewer (found %zu, expected at most "
                  "%zu)", a->freeze_layers, config.num_hidden_layers);
    }
    // Pads reach other rows through the layers of these heads.
    config.pad_to_max_length = a->pad_to_max_length && config.head != MRC_HEAD_LINEAR
                            && config.head != MRC_HEAD_MLP;
    a->head_kernel_size = config.head_kernel_size;
    a->head = (int)config.head;
    a->num_rnn_layers = config.num_head_layers;
    a->rnn_hidden_size = config.head_hidden_size;
    a->rnn_dropout = config.head_dropout;
    return config;
}

static void load_weights(run *r, const mrc_model_config *config) {
    uint64_t seed = (uint64_t)tool_common.seed;
    if (r->a->config_name && !r->checkpoint[0]) {
        tool_check(r->ctx, mrc_model_new(r->ctx, &r->model, config, model_dtype(r), seed));
        return;
    }
    const char *path = r->checkpoint[0] ? r->checkpoint : r->model_dir;
    tool_load_notes notes = { .path = path };
    mrc_model_load_desc desc = { .path = path,
                                 .config = r->checkpoint[0] && !r->a->task ? NULL : config,
                                 .question_path = r->checkpoint[0] ? NULL : r->query_dir,
                                 .dtype = model_dtype(r), .seed = seed, .note = tool_load_note,
                                 .user = &notes, .threads = tool_common.threads };
    tool_check(r->ctx, mrc_model_load(r->ctx, &r->model, &desc));
    tool_load_notes_end(&notes);
}

static void load_model(run *r, const mrc_model_config *config) {
    load_weights(r, config);
    mrc_model_freeze(r->model, r->a->freeze_embeddings, r->a->freeze_layers);
}

static void load_optimizer(run *r) {
    char path[TOOL_PATH_BYTES];
    mrc_optimizer_config config = optimizer_config(r);
    tool_check(r->ctx, mrc_optimizer_new(r->ctx, &r->optimizer, r->model->params, &config));
    if (!r->checkpoint[0]) return;
    tool_path(path, r->checkpoint, "optimizer.safetensors");
    tool_check(r->ctx, mrc_optimizer_load(r->ctx, r->optimizer, path));
}

// All inputs; 0: the run is finished already and there is nothing to do.
static int load_inputs(run *r, const tool_program *p) {
    const char *from = r->model_dir ? r->model_dir : r->a->config_name;
    mrc_model_config config = r->a->task ? retrieval_config(r, p, from) : model_config(r, p, from);
    tool_check(r->ctx, mrc_tokenizer_load(r->ctx, &r->tok, r->tokenizer_dir));
    if (!r->a->task) {
        tool_check_fit(&config, from, r->tok, r->tokenizer_dir, &r->a->max_seq_length,
                       &r->a->doc_stride);
    }
    identify(r);
    int finished = is_writer(r) && is_finished(r);
    ranks_tell(r, &finished, sizeof finished);
    if (finished) return 0;
    if (r->a->task) retrieval_data(r);
    else load_data(r);
    if (is_writer(r)) find_checkpoint(r);
    ranks_tell(r, r->checkpoint, sizeof r->checkpoint);
    if (r->checkpoint[0]) {
        char path[TOOL_PATH_BYTES];
        mrc_json *root;
        tool_path(path, r->checkpoint, "trainer_state.json");
        tool_check(r->ctx, mrc_json_load(r->ctx, &root, path));
        state_read(r, path, root);
        mrc_json_free(root);
        r->saved_step = r->s.step;
    }
    r->model_config = config;
    if (!r->a->task) plan_memory(r, &config);
    load_model(r, &config);
    if (r->a->task) retrieval_encoder(r);
    load_optimizer(r);
    ranks_compare(r);
    return 1;
}

//==============================================================================
// The order of the data
//==============================================================================
static void plan_epoch(run *r, uint32_t epoch) {
    const int64_t seed = r->a->data_seed < 0 ? tool_common.seed : r->a->data_seed;
    mrc_batch_plan_free(&r->plan);
    if (r->a->task) retrieval_plan(r, epoch, (uint64_t)seed);
    else tool_check(r->ctx, mrc_batch_plan_new(r->ctx, &r->plan, &r->train,
                                               (mrc_batching)r->a->batching,
                                               r->a->train_batch_size * r->micro_batches,
                                               (uint64_t)seed, epoch));
    r->epoch = epoch;
    r->at = 0;
}

static size_t epoch_batches(run *r, uint32_t epoch) {
    if (r->fixed_batches) return r->fixed_batches;
    if (r->epoch != epoch || !r->plan.n_batches) plan_epoch(r, epoch);
    return r->plan.n_batches;
}

// A number of steps as a flag has it: below 1 a part of all, rounded up.
static uint64_t steps_of(const run *r, double x) {
    return (uint64_t)(x < 1 ? ceil((double)r->total_steps * x - 1e-9) : x);
}

// How many steps the run has, and where in the data step r->s.step stands.
static void plan_run(run *r) {
    plan_epoch(r, 0);
    if (r->a->batching != MRC_BATCHING_TOKEN_BUDGET && !r->a->task) {
        r->fixed_batches = r->plan.n_batches;
    }
    if (r->a->max_steps > 0) {
        r->total_steps = (uint64_t)r->a->max_steps;
    } else {
        double left = r->a->num_train_epochs;
        for (uint32_t e = 0; left > 0; e++, left -= 1) {
            double part = left < 1 ? left : 1;
            r->total_steps += (uint64_t)ceil(part * (double)epoch_batches(r, e) - 1e-9);
        }
    }
    r->warmup_steps = steps_of(r, r->a->warmup_steps > 0 ? r->a->warmup_steps
                                                         : r->a->warmup_ratio);
    r->eval_steps = steps_of(r, r->a->eval_steps);
    r->logging_steps = steps_of(r, r->a->logging_steps);
    r->save_steps = steps_of(r, r->a->save_steps);
    if (r->s.step > r->total_steps) {
        tool_fail(TOOL_BAD_INPUT, "%s: is past the end of the run (found step %llu, expected at "
                  "most %llu)", r->checkpoint, (unsigned long long)r->s.step,
                  (unsigned long long)r->total_steps);
    }
    uint32_t epoch = 0;
    uint64_t before = 0;
    // A step that ends an epoch stands at the end of that epoch's plan, as without a break.
    while (r->s.step - before > epoch_batches(r, epoch)) before += epoch_batches(r, epoch++);
    plan_epoch(r, epoch);
    r->at = (size_t)(r->s.step - before);
    size_t most = 1;
    for (size_t i = 0; i < r->train.n; i++) most++;
    r->batch = tool_allocate(most, sizeof *r->batch);
}

//==============================================================================
// Evaluation, best/, checkpoints
//==============================================================================
static double best_value(const run *r) {
    int i = 0;
    while (strcmp(r->a->metric_for_best_model, metrics[i].name)) i++;
    return figure_of(&r->s.eval, i);
}

static mrc_status eval_progress(void *user, size_t done, size_t total) {
    tool_bar *bar = user;
    (void)total;
    tool_bar_update(bar, done, NULL);
    return tool_signal ? MRC_ERR_INTERRUPTED : MRC_OK;      // then on all ranks
}

static void save_best(run *r) {
    char best[TOOL_PATH_BYTES], old[TOOL_PATH_BYTES], fresh[TOOL_PATH_BYTES];
    if (!is_writer(r)) return;
    tool_path(best, r->a->output_dir, "best");
    tool_path(old, r->a->output_dir, ".best.old");
    tool_path(fresh, r->a->output_dir, ".best.tmp");
    tool_check(r->ctx, mrc_dir_remove(r->ctx, fresh));
    mrc_status status = mrc_model_save(r->ctx, r->model, fresh, r->tokenizer_dir);
    if (status == MRC_OK) status = mrc_dir_sync(r->ctx, fresh);
    if (status != MRC_OK) mrc_dir_remove(r->ctx, fresh);    // the first error is the one to report
    tool_check(r->ctx, status);
    if (mrc_path_kind(best)) move(best, old);
    move(fresh, best);
    tool_check(r->ctx, mrc_dir_sync(r->ctx, r->a->output_dir));
    tool_check(r->ctx, mrc_dir_remove(r->ctx, old));
}

// What the study's program printed when it validated, steps counted in the epoch; then the rest.
static void say_eval(const run *r) {
    const mrc_eval_result *e = &r->s.eval;
    char train[32] = "-", decoded[64] = "";
    if (r->last_loss != 0) snprintf(train, sizeof train, "%.4f", r->last_loss);
    if (r->a->encoding == MRC_ENCODING_OFFSETS) {
        snprintf(decoded, sizeof decoded, ", exact_match %.2f, f1 %.2f", e->exact_match, e->f1);
    }
    if (r->a->task) {
        tool_note("epoch %lu, step %zu: train loss %s, recall@1 %.4f, recall@10 %.4f, mrr@10 %.4f, "
                  "ndcg@10 %.4f", (unsigned long)r->epoch + 1, r->at, train, e->recall[0],
                  e->recall[2], e->mrr_10, e->ndcg_10);
        return;
    }
    tool_note("epoch %lu, step %zu: train loss %s, eval loss %.4f, start_accuracy %.4f, "
              "end_accuracy %.4f, accuracy %.4f, best_acc %.4f%s", (unsigned long)r->epoch + 1,
              r->at, train, e->loss, e->start_accuracy, e->end_accuracy, e->accuracy, r->best_acc,
              decoded);
}

static void log_eval(run *r) {
    const mrc_eval_result *e = &r->s.eval;
    mrc_text t;
    log_begin(r, &t);
    for (int i = 0; i < N_METRICS; i++) {
        char key[64];
        snprintf(key, sizeof key, "eval/%s", metrics[i].name);
        if (is_measured(r->a, i)) log_number(&t, key, figure_of(e, i));
    }
    if (!r->a->task) tool_json_number(&t, "best_acc", fmax(e->accuracy, r->best_acc));
    mrc_text_add(&t, "}\n", 2);
    log_append(r, &t);
    mrc_text_free(&t);
    say_eval(r);
}

// What is measured, kept as best/ and left as the final model are the averages, if there are any.
static void swap_average(run *r) {
    if (r->a->ema_decay > 0) tool_check(r->ctx, mrc_optimizer_swap(r->ctx, r->optimizer));
}

// As predict decodes with the same flags.
static mrc_decode_config decode_config(const train_args *a) {
    mrc_decode_config config = mrc_decode_config_default();
    config.kind = (mrc_decode_kind)a->postprocess;
    config.n_best_size = a->n_best_size;
    config.max_answer_length = a->max_answer_length;
    config.version_2_with_negative = a->version_2_with_negative;
    config.null_score_diff_threshold = a->null_score_diff_threshold;
    return config;
}

// The model's figures into r->s.eval.  0: a signal came first.
static int measure(run *r) {
    tool_bar bar;
    int offsets = r->a->encoding == MRC_ENCODING_OFFSETS;
    double begun = tool_seconds();
    const mrc_decode_config decode = decode_config(r->a);
    mrc_eval_desc desc = {
        .loss = loss_of(r),
        .predict = { .features = &r->validation, .batch_size = r->a->eval_batch_size,
                     .dropout = r->a->compat == COMPAT_REFERENCE,
                     .random = { (uint64_t)tool_common.seed, (uint32_t)r->s.step, 1 },
                     .progress = eval_progress, .user = &bar },
        .dataset = offsets ? r->validation_set : NULL,
        .metric = (mrc_metric)r->a->metric, .decode = &decode, .tokenizer = r->tok };
    mrc_eval_result result;
    if (r->a->task) {
        result = retrieval_measure(r);
    } else {
        tool_bar_begin(&bar, "eval", r->validation.n, 0);
        mrc_status status = mrc_evaluate(r->ctx, r->model, &desc, &result);
        tool_bar_end(&bar, NULL);
        if (status == MRC_ERR_INTERRUPTED) {
            mrc_ctx_clear_error(r->ctx);        // the checkpoint is still to be written
            return 0;
        }
        tool_check(r->ctx, status);
    }
    r->s.eval = result;
    r->s.has_eval = 1;
    r->s.eval_seconds = tool_seconds() - begun;
    return 1;
}

// 0: a signal came first.
static int evaluate(run *r) {
    swap_average(r);
    if (!measure(r)) {
        swap_average(r);
        return 0;
    }
    r->s.eval_step = r->s.step;
    r->s.evaluate = 0;
    log_eval(r);
    const double metric = best_value(r), best = r->s.best_metric;
    r->s.stale++;
    if (!r->s.has_best || (r->a->greater_is_better ? metric > best : metric < best)) {
        save_best(r);
        r->s.has_best = 1;
        r->s.best_metric = metric;
        r->s.best_step = r->s.step;
        r->s.stale = 0;
    }
    swap_average(r);
    if (r->a->patience && r->s.stale >= r->a->patience) r->s.stopped = 1;
    return 1;
}

static void save_checkpoint(run *r) {
    if (r->saved_step == r->s.step) return;
    ranks_guard(r);
    r->saved_step = r->s.step;
    if (!is_writer(r)) {
        if (!r->a->sharded_optimizer) return;           // else its moments are wanted
        tool_check(r->ctx, mrc_checkpoint_save(r->ctx, r->a->output_dir, r->s.step, r->model,
                                               r->tokenizer_dir, r->optimizer, ""));
        return;
    }
    if (fsync(r->log) != 0) log_fail(r, "synced");
    mrc_text state = state_text(r, 0);
    tool_check(r->ctx, mrc_checkpoint_save(r->ctx, r->a->output_dir, r->s.step, r->model,
                                           r->tokenizer_dir, r->optimizer, state.data));
    mrc_text_free(&state);
    tool_check(r->ctx, mrc_checkpoint_prune(r->ctx, r->a->output_dir, r->a->save_total_limit));
}

_Noreturn static void leave(run *r) {
    if (r->s.step == 0) tool_fail(TOOL_INTERRUPTED, "stopped by a signal before the first step");
    save_checkpoint(r);
    const int writes = is_writer(r);
    ranks_leave(r);                     // once it is saved
    if (!writes) exit(TOOL_INTERRUPTED);
    tool_fail(TOOL_INTERRUPTED, "stopped by a signal after step %llu of %llu: saved %s/checkpoint-"
              "%llu, --resume_from_checkpoint goes on", (unsigned long long)r->s.step,
              (unsigned long long)r->total_steps, r->a->output_dir, (unsigned long long)r->s.step);
}

//==============================================================================
// Training
//==============================================================================
// Whether something that is done every so many steps, or at each epoch's end, is due.
static int is_due(const run *r, int strategy, uint64_t steps) {
    if (strategy == STRATEGY_EPOCH) return r->at == r->plan.n_batches;
    return strategy == STRATEGY_STEPS && steps && r->s.step % steps == 0;
}

static int log_due(const run *r) {
    if (r->a->logging_first_step && r->s.step == 1) return 1;
    // The study printed its losses when it validated.
    if (!r->logging_steps && r->a->compat && r->a->logging_strategy == STRATEGY_STEPS) {
        return r->s.evaluate;
    }
    return is_due(r, r->a->logging_strategy, r->logging_steps);
}

// Whether the step that has just been done is followed by an evaluation.
static int eval_due(const run *r) {
    int last = r->s.step == r->total_steps;
    if (!r->validation_set && !r->eval_pairs) return 0;
    if (r->eval_steps) return last || r->s.step % r->eval_steps == 0;
    // The study: at step != 0 && step % 100 == 0, counted from 0 in each epoch, after the step.
    if (r->a->compat) return (r->at > 1 && (r->at - 1) % 100 == 0) || (last && !r->s.has_eval);
    return last || r->at == r->plan.n_batches;
}

// The learning rate of the step to come.
static double rate_of(const run *r) {
    mrc_schedule_config c = mrc_schedule_config_default((mrc_schedule)r->a->schedule);
    c.num_warmup_steps = r->warmup_steps;
    c.num_training_steps = r->total_steps;
    if (r->a->lr_num_cycles > 0) c.num_cycles = r->a->lr_num_cycles;
    c.power = r->a->lr_power;
    c.lr_end = r->a->lr_end;
    c.lr = r->a->learning_rate;
    return r->a->learning_rate * mrc_schedule_factor(&c, r->s.step);
}

static void log_train(run *r, const mrc_step_result *result) {
    double loss = r->s.window_weight > 0 ? r->s.window_sum / r->s.window_weight : (double)NAN;
    // As Hugging Face logs it: the rate of the step to come.
    double rate = rate_of(r);
    mrc_text t;
    log_begin(r, &t);
    log_number(&t, "train/loss", loss);
    tool_json_number(&t, "train/learning_rate", rate);
    log_number(&t, "train/grad_norm", result->grad_norm);
    if (r->a->fp16) tool_json_number(&t, "train/loss_scale", result->loss_scale);
    mrc_text_add(&t, "}\n", 2);
    log_append(r, &t);
    mrc_text_free(&t);
    r->s.window_sum = r->s.window_weight = 0;
    double done = (double)(r->s.step - r->bar.first), seconds = tool_seconds() - r->begun;
    double speed = seconds > 0 ? done / seconds : 0;
    tool_note("step %llu/%llu: epoch %.2f, loss %.4f, learning_rate %.3g, grad_norm %.3g, %.2f "
              "steps/s, %.0f s left", (unsigned long long)r->s.step,
              (unsigned long long)r->total_steps, epoch_now(r), loss, rate, result->grad_norm,
              speed, speed > 0 ? (double)(r->total_steps - r->s.step) / speed : 0);
}

static mrc_step_result one_step(run *r) {
    if (r->at == r->plan.n_batches) plan_epoch(r, r->epoch + 1);
    size_t first = r->plan.begin[r->at], n = r->plan.begin[r->at + 1] - first;
    for (size_t i = 0; i < n && !r->a->task; i++) {
        r->batch[i] = &r->train.list[r->plan.feature[first + i]];
    }
    // A token budget says nothing about how many sequences there are: it is split evenly.
    size_t micro = r->a->batching == MRC_BATCHING_TOKEN_BUDGET
                 ? (n + r->micro_batches - 1) / r->micro_batches : r->a->train_batch_size;
    mrc_step_desc desc = {
        .features = r->batch, .n = n, .micro_batch = micro,
        .lr = rate_of(r), .objective = objective_of(r),
        .random = { (uint64_t)tool_common.seed, (uint32_t)r->s.step, 0 },
        .forward = mrc_forward_config_default() };
    const double limit = spike_limit(r);
    desc.forward.dropout = 1;
    desc.forward.gradient_checkpointing = r->a->gradient_checkpointing;
    if (r->a->loss_spike >= SPIKE_SKIP) desc.max_loss = limit;
    mrc_step_result result;
    desc.flag = tool_signal != 0;
    if (r->a->task) result = retrieval_step(r, first, n, desc.max_loss, desc.lr);
    else tool_check(r->ctx, mrc_train_step(r->ctx, r->model, r->optimizer, &desc, &result));
    r->stop |= r->a->task ? desc.flag : result.flag;
    if (r->s.step == 0) ranks_guard(r);
    for (size_t i = 0; i < n && !r->a->task; i++) r->s.tokens += (uint64_t)r->batch[i]->length;
    r->s.step++;
    r->at++;
    if (result.skipped) {
        skip_step(r, &result, limit, n);
        return result;
    }
    if (limit > 0 && result.loss > limit) note_spike(r, &result, limit, n);
    remember_loss(r, result.loss);
    // The study weighted its mean by the batches' sizes, Hugging Face does not.
    double weight = r->a->compat ? (double)n : 1;
    r->s.skipped_in_a_row = 0;
    r->s.window_sum += weight * result.loss;
    r->s.window_weight += weight;
    r->s.loss_sum += result.loss;
    return result;
}

// What may follow a step, again after resuming in the middle of it.  The checkpoint comes first: a
// run that is killed while it evaluates repeats the evaluation, not the steps before it.
static void after_step(run *r) {
    if (r->s.step == r->total_steps
        || is_due(r, r->a->save_strategy, r->save_steps)) save_checkpoint(r);
    if (r->s.evaluate && !evaluate(r)) leave(r);
    if (is_writer(r)) tool_logs_flush(&r->logs, train_seconds(r));
    if (is_stopping(r)) leave(r);
    if (r->s.stopped) {
        tool_note("step %llu: eval/%s has not been better for %llu evaluations: stopping",
                  (unsigned long long)r->s.step, r->a->metric_for_best_model,
                  (unsigned long long)r->s.stale);
        save_checkpoint(r);
    }
}

static void train(run *r) {
    r->begun = tool_seconds();
    tool_bar_begin(&r->bar, "train", (size_t)r->total_steps, (size_t)r->s.step);
    if (r->s.evaluate) after_step(r);
    if (is_stopping(r)) leave(r);
    while (r->s.step < r->total_steps && !r->s.stopped) {
        char note[64];
        mrc_step_result result = one_step(r);
        r->s.evaluate = eval_due(r);
        snprintf(note, sizeof note, "loss=%.4g", result.loss);
        tool_bar_update(&r->bar, (size_t)r->s.step, note);
        if (log_due(r)) log_train(r, &result);
        after_step(r);
    }
    tool_bar_end(&r->bar, NULL);
    r->s.seconds += tool_seconds() - r->begun;
}

//==============================================================================
// The end: results and the final model
//==============================================================================
typedef struct result { const char *key; double value; int is_count; } result;

static int by_result_key(const void *a, const void *b) {
    return strcmp(((const result *)a)->key, ((const result *)b)->key);
}

// As Hugging Face's save_metrics: sorted, indented by 4.
static void save_results(run *r, const char *name, result *list, size_t n) {
    char path[TOOL_PATH_BYTES];
    mrc_text t;
    qsort(list, n, sizeof *list, by_result_key);
    mrc_text_init(&t, r->ctx);
    for (size_t i = 0; i < n; i++) {
        mrc_text_printf(&t, "%s\n    \"%s\": ", i ? "," : "{", list[i].key);
        if (list[i].is_count) mrc_text_printf(&t, "%.0f", list[i].value);
        else if (isfinite(list[i].value)) mrc_text_number(&t, list[i].value);
        else mrc_text_add(&t, "null", 4);
    }
    mrc_text_add(&t, "\n}\n", 3);
    tool_check_text(&t);
    tool_check(r->ctx, mrc_file_write(r->ctx, tool_path(path, r->a->output_dir, name), t.data,
                                      t.bytes));
    mrc_text_free(&t);
}

static size_t train_results(const run *r, result *to) {
    double steps = (double)r->s.step, seconds = r->s.seconds > 0 ? r->s.seconds : 1e-9;
    double all = (double)(r->pairs ? mrc_pairs_size(r->pairs) : r->train.n);
    double samples = epoch_now(r) * all;
    result list[] = {
        { "epoch", epoch_now(r), 0 },
        { "total_flos", total_flos(r), 0 },
        { "train_loss", train_loss(r), 0 },
        { "train_runtime", r->s.seconds, 0 },
        { "train_samples", all, 1 },
        { "train_samples_per_second", samples / seconds, 0 },
        { "train_skipped_steps", (double)r->s.skipped, 1 },
        { "train_steps_per_second", steps / seconds, 0 },
        { "world_size", r->comm ? r->comm->n_ranks : 1, 1 } };
    memcpy(to, list, sizeof list);
    return sizeof list / sizeof *list;
}

// The figures' names, in the order of `metrics`.
static const char *const eval_keys[N_METRICS] = {
    "eval_loss", "eval_start_accuracy", "eval_end_accuracy", "eval_accuracy", "eval_exact_match",
    "eval_f1", "eval_rouge_w", "eval_HasAns_exact", "eval_HasAns_f1", "eval_NoAns_exact",
    "eval_NoAns_f1", "eval_best_exact", "eval_best_exact_thresh", "eval_best_f1",
    "eval_best_f1_thresh", "eval_recall@1", "eval_recall@5", "eval_recall@10", "eval_recall@20",
    "eval_recall@100", "eval_mrr@10", "eval_ndcg@10", "eval_map@100" };

static size_t eval_results(const run *r, result *to) {
    const mrc_eval_result *e = &r->s.eval;
    double seconds = r->s.eval_seconds > 0 ? r->s.eval_seconds : 1e-9;
    double all = (double)(r->eval_pairs ? mrc_pairs_size(r->eval_pairs) : r->validation.n);
    double batches = ceil(all / (double)r->a->eval_batch_size);
    result list[] = {
        { "epoch", epoch_now(r), 0 },
        { "eval_runtime", r->s.eval_seconds, 0 },
        { "eval_samples", all, 1 },
        { "eval_samples_per_second", all / seconds, 0 },
        { "eval_steps_per_second", batches / seconds, 0 } };
    size_t n = sizeof list / sizeof *list;
    memcpy(to, list, sizeof list);
    for (int i = 0; i < N_METRICS; i++) {
        if (is_measured(r->a, i)) to[n++] = (result){ eval_keys[i], figure_of(e, i), 0 };
    }
    return n;
}

// The final model: the last weights or their averages; with --load_best_model_at_end those of
// best/, measured once more, as the results are theirs.  On all ranks: a sharded optimizer's
// averages are on all of them, and so is a measure's work.
static void save_final(run *r) {
    const int best = r->a->load_best_model_at_end && r->s.has_best
                  && r->s.best_step != r->s.step;
    char path[TOOL_PATH_BYTES];
    if (best) {
        take_weights(r, tool_path(path, r->a->output_dir, "best"));
        if (!measure(r)) leave(r);
        r->s.eval_step = r->s.best_step;
        tool_note("%s: the final model is that of step %llu", path,
                  (unsigned long long)r->s.best_step);
    } else {
        swap_average(r);
    }
    if (is_writer(r)) {
        tool_check(r->ctx, mrc_model_save(r->ctx, r->model, r->a->output_dir, r->tokenizer_dir));
    }
    if (!best) swap_average(r);
}

static void finish(run *r) {
    result list[64];
    char path[TOOL_PATH_BYTES];
    size_t n = train_results(r, list);
    save_results(r, "train_results.json", list, n);
    if (r->s.has_eval) {
        size_t n_eval = eval_results(r, list);
        save_results(r, "eval_results.json", list, n_eval);
        n = train_results(r, list);
        // Both have "epoch", the first of the unsorted evaluation results.
        result more[32];
        n_eval = eval_results(r, more);
        memcpy(list + n, more + 1, (n_eval - 1) * sizeof *more);
        n += n_eval - 1;
    }
    save_results(r, "all_results.json", list, n);
    r->begun = tool_seconds();          // what follows is no training
    tool_logs_finish(&r->logs, train_seconds(r));
    mrc_text state = state_text(r, 1);
    tool_check(r->ctx, mrc_file_write(r->ctx, tool_path(path, r->a->output_dir,
                                                        "trainer_state.json"), state.data,
                                      state.bytes));
    mrc_text_free(&state);
    tool_check(r->ctx, mrc_dir_sync(r->ctx, r->a->output_dir));
    if (!r->a->task && mrc_ctx_memory(r->ctx).step_reserved > r->step_bytes) {
        tool_note("memory: the plan of %zu bytes for a step was short of %zu", r->step_bytes,
                  mrc_ctx_memory(r->ctx).step_reserved);
    }
    tool_note("%s: finished %llu steps in %.0f s, %zu MiB at most%s", r->a->output_dir,
              (unsigned long long)r->s.step, r->s.seconds, tool_peak_bytes() >> 20,
              r->s.skipped ? ", some of them skipped" : "");
    if (r->s.has_best) {
        tool_note("%s/best: eval/%s %.4f at step %llu", r->a->output_dir,
                  r->a->metric_for_best_model, r->s.best_metric,
                  (unsigned long long)r->s.best_step);
    }
}

static void close_run(run *r) {
    mrc_features_free(&r->train);
    mrc_features_free(&r->validation);
    mrc_dataset_free(r->train_set);
    mrc_dataset_free(r->validation_set);
    mrc_dataset_free(r->whole_train);
    mrc_dataset_free(r->whole_validation);
    mrc_dataset_free(r->all_set);
    mrc_batch_plan_free(&r->plan);
    mrc_pairs_free(r->pairs);
    mrc_pairs_free(r->eval_pairs);
    mrc_encoder_free(r->encoder);
    mrc_encoder_free(r->teacher);
    mrc_tokenizer_free(r->tok);
    mrc_optimizer_free(r->optimizer);
    mrc_ctx_free(r->ctx);
    mrc_model_free(r->model);
    mrc_backend_free(r->be);
    free(r->batch);
    mrc_text_free(&r->identity);
    mrc_text_free(&r->args_text);
    mrc_text_free(&r->history);
    if (r->log >= 0) close(r->log);
    if (r->lock >= 0) close(r->lock);
}

// The directories of the flags; a folder of two towers is both of them.
static void find_models(run *r) {
    const train_args *a = r->a;
    const char *questions = a->query_model ? a->query_model : a->model_name_or_path;
    const int towers = folder_tower(a->model_name_or_path, 0, r->towers[0]);
    if (towers && a->task != TASK_BIENCODER) {
        tool_fail(TOOL_BAD_INPUT, "%s: holds two towers (found --task %s, expected --task "
                  "biencoder, or one of its folders)", a->model_name_or_path,
                  a->task == TASK_READER ? "reader" : a->task == TASK_COLBERT ? "colbert"
                  : "cross");
    }
    r->model_dir = towers ? r->towers[0] : a->model_name_or_path;
    r->query_dir = folder_tower(questions, 1, r->towers[1]) ? r->towers[1] : a->query_model;
    r->tokenizer_dir = a->tokenizer_name ? a->tokenizer_name : r->model_dir;
}

static int run_program(tool_program *program) {
    run *r = &the_run;
    r->a = &the_args;
    r->flags = program->flags;
    r->saved_step = UINT64_MAX;
    retrieval_check(r->a, program);
    check_usage(r->a, program);
    find_models(r);
    tool_catch_signals();
    ranks_begin(r);
    r->be = tool_backend_new_with(r->a->bf16 ? MRC_MATH_BF16 : MRC_MATH_F32);
    check_precision(r);
    ranks_use(r);
    r->ctx = tool_ctx_new(r->be, 0);
    open_output(r);
    if (load_inputs(r, program)) {
        plan_run(r);
        begin_output(r);
        tool_note("%s: %zu %s, %llu steps%s%s", r->a->train_file,
                  r->pairs ? mrc_pairs_size(r->pairs) : r->train.n,
                  r->pairs ? "questions" : "features",
                  (unsigned long long)r->total_steps, r->checkpoint[0] ? ", resumed from " : "",
                  r->checkpoint);
        train(r);
        save_final(r);
        if (is_writer(r)) finish(r);
    }
    ranks_leave(r);
    close_run(r);
    return tool_finish();
}

static tool_program program = {
    .name = "train", .group = "train and compare", .run = run_program,
    .flags = the_flags, .config = &the_args.config, .foreign = train_foreign,
    .purpose = "Trains or fine-tunes a reader: a BERT or RoBERTa model that points at the "
               "answer to a question in a passage; or what finds passages (--task). Measures it on "
               "the way, saves, resumes.",
    .usage = "[CONFIG] --model_name_or_path DIR --train_file FILE --output_dir DIR [flags]",
    .examples = { "train --model_name_or_path klue-roberta-base --train_file train.json "
                  "--validation_file dev.json --output_dir out --learning_rate 3e-5",
                  "train --config_name data/config.json --tokenizer_name data --train_file "
                  "data/train.jsonl --output_dir out --max_steps 100" }
};
TOOL_PROGRAM(train, program)
