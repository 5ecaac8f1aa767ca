// train's flags: the table, what follows from one for another, and what contradicts.
#ifndef TRAIN_FLAGS_H
#define TRAIN_FLAGS_H
#include "train_foreign.h"

enum { COMPAT_NONE, COMPAT_REFERENCE };
enum { TASK_READER, TASK_BIENCODER, TASK_COLBERT, TASK_CROSS };
enum { LOSS_INFONCE = 3 };              // of --loss: the first of those for retrieval
enum { SPIKE_OFF, SPIKE_WARN, SPIKE_SKIP, SPIKE_ROLLBACK };
enum { STRATEGY_STEPS, STRATEGY_EPOCH, STRATEGY_NO, STRATEGY_BEST };

typedef struct train_args {
    const char *model_name_or_path, *config_name, *tokenizer_name;
    const char *train_file, *validation_file, *output_dir, *resume_from_checkpoint;
    int     head, encoding, batching, optim, schedule, compat, metric, postprocess;
    int     version_2_with_negative;
    double  null_score_diff_threshold;
    size_t  num_rnn_layers, rnn_hidden_size;
    double  rnn_dropout;
    size_t  max_seq_length, doc_stride, n_best_size, max_answer_length;
    size_t  train_batch_size, eval_batch_size, accumulation;
    double  learning_rate, weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
    double  warmup_ratio, num_train_epochs;
    double  warmup_steps, eval_steps, logging_steps, save_steps;    // below 1: parts of all steps
    size_t  save_total_limit;
    int64_t data_seed;                  // -1: --seed
    int     logging_strategy, save_strategy, logging_first_step, load_best_model_at_end;
    int64_t max_steps;
    int     pad_to_max_length, gradient_checkpointing, overwrite_output_dir, do_train, do_eval;
    int     fp16, bf16;
    int     loss, loss_variant, loss_positions, loss_spike, nesterov, greater_is_better;
    double  gamma, smoothing, rdrop_alpha, fgm_epsilon;
    double  momentum, adamp_delta, adamp_wd_ratio, ema_decay, layerwise_lr_decay;
    double  head_learning_rate, lr_num_cycles, lr_power, lr_end;
    int     freeze_embeddings;
    size_t  head_kernel_size, freeze_layers, num_folds, fold, patience;
    const char *metric_for_best_model, *config;
    tool_list   report_to;
    const char *logging_dir, *run_name;
    int     eval_strategy, validation, debug;
    int     ddp_backend;
    double  ddp_timeout;
    int     sharded_optimizer;
    size_t  micro_batches;              // of a step, on all ranks; 0: accumulation times ranks
    size_t  max_train_samples, max_eval_samples;
    // Of --task biencoder, colbert and cross:
    int     task, similarity, query_expansion;
    const char *passages, *qrels, *queries, *negatives, *teacher, *negative_ranks, *pooling;
    const char *teacher_model, *query_model;
    const char *eval_passages, *eval_queries, *eval_qrels, *eval_negatives;
    const char *query_marker, *passage_marker;
    size_t  num_negatives, projection_size, query_max_length, passage_max_length, mini_batch_size;
    double  scale;
} train_args;

static train_args the_args = { .head = -1, .doc_stride = SIZE_MAX, .data_seed = -1 };
#define A the_args
static tool_flag the_flags[] = {
    { .name = "CONFIG", .string = &A.config, .positional = 1, .value = "FILE.yaml|FILE.json",
      .otherwise = "none", .help = "flags by name, in sections or not; those given here win" },
    { .name = "model_name_or_path", .group = "model",
      .string = &A.model_name_or_path, .value = "DIR",
      .help = "the model directory to begin with: config.json, model.safetensors, vocab.txt" },
    { .name = "config_name", .string = &A.config_name, .value = "FILE",
      .help = "instead: a config.json; the weights come from --seed" },
    { .name = "tokenizer_name", .string = &A.tokenizer_name, .value = "DIR",
      .otherwise = "the model directory", .help = "a directory with the vocabulary, or vocab.txt" },
    { .name = "head", .choice = &A.head, .choices = "linear|mlp|bilstm|bigru|conv1d",
      .otherwise = "the model's, else linear",
      .help = "what stands on the encoder: a linear map, with layers before it" },
    { .name = "num_rnn_layers", .size = &A.num_rnn_layers, .preset = "2", .min = 1, .max = 16,
      .help = "of any head but linear" },
    { .name = "rnn_hidden_size", .size = &A.rnn_hidden_size, .min = 1, .max = 65536,
      .otherwise = "the model's hidden_size", .help = "of those layers, each direction" },
    { .name = "rnn_dropout", .real = &A.rnn_dropout, .preset = "0.2", .max = 1, .below_max = 1,
      .help = "between those layers" },
    { .name = "head_kernel_size", .size = &A.head_kernel_size, .preset = "3", .min = 1,
      .max = 1023, .unit = "tokens", .help = "of --head conv1d, an odd number" },
    { .name = "freeze_layers", .size = &A.freeze_layers, .preset = "0", .max = 1000,
      .help = "the embeddings and so many layers are not trained; 0: all are" },
    { .name = "freeze_embeddings", .flag = &A.freeze_embeddings,
      .help = "the embeddings are not trained, with no layer of --freeze_layers either" },
    { .name = "train_file", .group = "data",
      .string = &A.train_file, .value = "FILE", .required = 1,
      .help = "SQuAD, KorQuAD or KLUE JSON, or JSONL" },
    { .name = "validation_file", .string = &A.validation_file, .value = "FILE",
      .help = "the same, to measure on; rows that cannot be used are left out, kept questions "
              "without a feature count as wrong" },
    { .name = "max_train_samples", .size = &A.max_train_samples, .preset = "0", .max = 1e12,
      .unit = "examples", .help = "train on the first of them; 0: all" },
    { .name = "max_eval_samples", .size = &A.max_eval_samples, .preset = "0", .max = 1e12,
      .unit = "examples", .help = "measure on the first of them; 0: all" },
    { .name = "num_folds", .size = &A.num_folds, .preset = "0", .max = 1e9,
      .help = "splits --train_file as scikit-learn's KFold(shuffle=True, random_state=seed) does; "
              "0: does not" },
    { .name = "fold", .size = &A.fold, .preset = "0", .max = 1e9,
      .help = "with --num_folds: the one that is measured on, from 0" },
    { .name = "version_2_with_negative", .flag = &A.version_2_with_negative,
      .help = "a question may have no answer in its passage: \"\" is an answer while measuring" },
    { .name = "encoding", .choice = &A.encoding, .choices = "offsets|sentinel",
      .preset = "offsets", .help = "offsets: windows with a stride; sentinel: the study's, one "
                                   "truncated sequence, dropped where it loses the answer" },
    { .name = "max_seq_length", .alias = "max_length",
      .size = &A.max_seq_length, .min = 8, .max = 65536,
      .unit = "tokens", .otherwise = "512, or what the model allows",
      .help = "of a window, question and special tokens included" },
    { .name = "doc_stride", .size = &A.doc_stride, .max = 65536, .unit = "tokens",
      .otherwise = TOOL_STRIDE_HELP, .help = "overlap of two windows" },
    { .name = "pad_to_max_length", .flag = &A.pad_to_max_length,
      .help = "pad all windows to --max_seq_length; by default nothing is padded" },
    { .name = "compat", .choice = &A.compat, .choices = "none|reference", .preset = "none",
      .help = "reference: do as the study's program did: sentinel encoding, all padded, dropout "
              "on while validating, validation after 101, 201, 301 steps of each epoch, one "
              "parameter group, no clipping" },
    { .name = "validation", .flag = &A.validation,
      .help = "a key of the study's config.yaml that changes nothing, there or here" },
    { .name = "DEBUG", .flag = &A.debug, .help = "the same, as long as it is false" },
    { .name = "batching", .group = "batches",
      .choice = &A.batching,
      .choices = "random|sequential|sorted|token_budget", .preset = "random",
      .help = "which rows go together: shuffled; in file order; of similar length; as many as "
              "have the tokens of --per_device_train_batch_size longest ones" },
    { .name = "per_device_train_batch_size", .alias = "batch_size|train_batch_size",
      .size = &A.train_batch_size, .preset = "8",
      .min = 1, .max = 65536, .help = "windows in memory at a time" },
    { .name = "per_device_eval_batch_size", .alias = "eval_batch_size",
      .size = &A.eval_batch_size, .preset = "8",
      .min = 1, .max = 65536, .help = "the same while measuring" },
    { .name = "gradient_accumulation_steps", .size = &A.accumulation, .preset = "1",
      .min = 1, .max = 65536, .help = "such batches in one optimizer step" },
    { .name = "micro_batches_per_step", .size = &A.micro_batches, .min = 1, .max = 65536,
      .otherwise = "--gradient_accumulation_steps times the number of ranks",
      .help = "the same on all ranks together; it fixes the results, the number of ranks does "
              "not, and need not divide it" },
    { .name = "ddp_backend", .choice = &A.ddp_backend, .choices = "auto|none|mpi|nccl",
      .preset = "auto",
      .help = "how processes train together: auto is none without mpirun or srun; under them nccl "
              "(gradients go from GPU to GPU, a rank on each) where the backend is cuda, else "
              "mpi" },
    { .name = "ddp_timeout", .real = &A.ddp_timeout, .preset = "1800", .max = 1e9,
      .help = "seconds without anything from another rank that end the run; 0: for ever" },
    { .name = "sharded_optimizer", .flag = &A.sharded_optimizer,
      .help = "each rank keeps the optimizer's moments of its share of the weights only: less "
              "memory, the same results to the bit; not with --optim adamp" },
    { .name = "gradient_checkpointing", .flag = &A.gradient_checkpointing,
      .help = "keep one tensor of each layer and compute the rest again: less memory, a third more "
              "time, the same results to the bit; the memory is printed before the first step" },
    { .name = "data_seed", .integer = &A.data_seed, .min = 0, .max = 4294967295.0,
      .otherwise = "--seed", .help = "of the order of the data" },
    { .name = "num_train_epochs", .alias = "epochs",
      .real = &A.num_train_epochs, .preset = "3", .max = 1e6,
      .above_min = 1, .help = "times that the data is seen; may be a fraction" },
    { .name = "max_steps", .integer = &A.max_steps, .preset = "-1", .min = -1, .max = 4e9,
      .unit = "steps", .help = "instead of --num_train_epochs; -1: not used" },
    { .name = "optim", .group = "optimizer",
      .choice = &A.optim, .choices = "adamw_torch|adamw_hf|adamp|sgd|adamw_torch_fused",
      .preset = "adamw_torch", .help = "adamw_torch is PyTorch's, adamw_hf the one that "
      "transformers had; adamw_torch_fused is adamw_torch" },
    { .name = "learning_rate", .real = &A.learning_rate, .preset = "5e-5", .max = 1e6,
      .help = "at its highest" },
    { .name = "lr_scheduler_type", .choice = &A.schedule,
      .choices = "linear|cosine|cosine_with_restarts|polynomial|constant|constant_with_warmup|"
                 "inverse_sqrt", .preset = "linear",
      .help = "linear and cosine fall to 0 at the last step" },
    { .name = "warmup_steps", .real = &A.warmup_steps, .preset = "0", .is_ratio = 1,
      .max = 1e12,
      .unit = "steps", .help = "the learning rate rises from 0" },
    { .name = "warmup_ratio", .real = &A.warmup_ratio, .preset = "0", .max = 1,
      .help = "instead of --warmup_steps: the part of all steps" },
    { .name = "lr_num_cycles", .real = &A.lr_num_cycles, .max = 1e6,
      .otherwise = "0.5 for cosine, 1 with restarts", .help = "of the cosine" },
    { .name = "lr_power", .real = &A.lr_power, .preset = "1", .max = 100,
      .help = "of the polynomial" },
    { .name = "lr_end", .real = &A.lr_end, .preset = "1e-7", .max = 1e6,
      .help = "where the polynomial ends" },
    { .name = "weight_decay", .real = &A.weight_decay, .preset = "0", .max = 1e6,
      .help = "of any optimizer; biases and LayerNorm weights are spared" },
    { .name = "max_grad_norm", .real = &A.max_grad_norm, .preset = "1", .max = 1e9,
      .help = "gradients are scaled down to this norm; 0: no clipping" },
    { .name = "adam_beta1", .real = &A.adam_beta1, .preset = "0.9", .max = 1, .below_max = 1,
      .help = "of AdamW and AdamP" },
    { .name = "adam_beta2", .real = &A.adam_beta2, .preset = "0.999", .max = 1, .below_max = 1,
      .help = "of AdamW" },
    { .name = "adam_epsilon", .real = &A.adam_epsilon, .preset = "1e-8", .max = 1e6,
      .help = "of AdamW" },
    { .name = "adamp_delta", .real = &A.adamp_delta, .preset = "0.1", .max = 1e6,
      .help = "of AdamP: how close to a right angle" },
    { .name = "adamp_wd_ratio", .real = &A.adamp_wd_ratio, .preset = "0.1", .max = 1,
      .help = "of AdamP: weight decay where the step is projected" },
    { .name = "nesterov", .flag = &A.nesterov, .help = "of AdamP" },
    { .name = "momentum", .real = &A.momentum, .preset = "0", .max = 1, .below_max = 1,
      .help = "of SGD" },
    { .name = "ema_decay", .real = &A.ema_decay, .preset = "0", .max = 1, .below_max = 1,
      .help = "an average of the weights is what is measured and kept; 0: the weights are" },
    { .name = "layerwise_lr_decay", .real = &A.layerwise_lr_decay, .preset = "1", .max = 1,
      .above_min = 1, .help = "the learning rate of a layer, as part of the one above" },
    { .name = "head_learning_rate", .real = &A.head_learning_rate, .max = 1e6,
      .otherwise = "--learning_rate", .help = "of the head" },
    { .name = "loss", .group = "loss",
      .choice = &A.loss,
      .choices = "ce|focal|label_smoothing|infonce|symmetric|listwise|bce|margin_mse|kl",
      .preset = "ce", .help = "cross-entropy, or one of its kin; of retrieval the others, infonce "
              "without this flag, of --task cross bce" },
    { .name = "gamma", .real = &A.gamma, .preset = "0.5", .max = 100,
      .help = "of --loss focal; --compat reference: 1" },
    { .name = "smoothing", .real = &A.smoothing, .preset = "0.2", .max = 1, .below_max = 1,
      .help = "of --loss label_smoothing" },
    { .name = "loss_variant", .choice = &A.loss_variant, .choices = "standard|reference",
      .otherwise = "standard; with --compat reference its own",
      .help = "reference: focal takes p for a constant, smoothing gives s to the K - 1 others" },
    { .name = "loss_positions", .choice = &A.loss_positions, .choices = "padded|valid",
      .preset = "padded", .help = "what the softmax runs over: pads too, or real tokens alone" },
    { .name = "rdrop_alpha", .real = &A.rdrop_alpha, .preset = "0", .max = 1e6,
      .help = "R-Drop: weight of the divergence of two passes; 0: one pass" },
    { .name = "fgm_epsilon", .real = &A.fgm_epsilon, .preset = "0", .max = 1e6,
      .help = "FGM: how far an adversary moves the word embeddings; 0: there is none" },
    { .name = "loss_spike", .choice = &A.loss_spike, .choices = "off|warn|skip|rollback",
      .preset = "warn", .help = "what is done about a loss far above the last 128: it is said; the "
              "step is skipped; the newest checkpoint's weights and moments come back too" },
    { .name = "do_eval", .group = "evaluation",
      .flag = &A.do_eval, .preset = "true",
      .help = "measure on --validation_file, if there is one" },
    { .name = "eval_strategy", .alias = "evaluation_strategy", .choice = &A.eval_strategy,
      .choices = "auto|no|steps|epoch", .preset = "auto",
      .help = "when to measure; auto: steps if --eval_steps is given, else epoch" },
    { .name = "eval_steps", .real = &A.eval_steps, .is_ratio = 1, .above_min = 1,
      .max = 1e12, .unit = "steps",
      .otherwise = "each epoch's end; the last step is always measured",
      .help = "between two measurements" },
    { .name = "metric", .choice = &A.metric, .choices = "korquad|squad|squad_v2|klue",
      .preset = "korquad",
      .help = "whose definition of eval/exact_match and eval/f1 (klue: ROUGE-W); squad_v2 without "
              "this flag where --version_2_with_negative is given" },
    { .name = "null_score_diff_threshold", .real = &A.null_score_diff_threshold, .preset = "0",
      .help = "the answer is \"\" when that scores more than this above the best span; "
              "eval/best_f1_thresh is the best one, with --metric squad_v2" },
    { .name = "postprocess", .choice = &A.postprocess, .choices = "squad|pipeline|legacy",
      .preset = "squad", .help = "how answers are decoded while measuring: see predict" },
    { .name = "n_best_size", .size = &A.n_best_size, .preset = "20", .min = 1, .max = 1000,
      .help = "candidates for an answer while measuring" },
    { .name = "max_answer_length", .size = &A.max_answer_length, .preset = "30", .min = 1,
      .max = 65536, .unit = "tokens", .help = "of an answer while measuring" },
    { .name = "metric_for_best_model", .alias = "metric_key",
      .string = &A.metric_for_best_model, .value = "NAME",
      .otherwise = "exact_match; accuracy with --encoding sentinel; ndcg@10 of retrieval",
      .help = "what best/ is best by: loss, start_accuracy, end_accuracy, accuracy, exact_match, "
              "f1; klue: rouge_w; squad_v2: HasAns_f1, NoAns_f1, best_f1 and their exact" },
    { .name = "load_best_model_at_end", .flag = &A.load_best_model_at_end,
      .help = "the final model and eval_results.json are those of best/" },
    { .name = "greater_is_better", .flag = &A.greater_is_better,
      .otherwise = "true, but for loss", .help = "whether more of it is" },
    { .name = "patience", .alias = "early_stopping_patience", .size = &A.patience,
      .preset = "0", .max = 1e9, .unit = "evaluations",
      .help = "ends the run after so many without a better one; 0: never" },
    { .name = "logging_steps", .group = "logs",
      .real = &A.logging_steps, .preset = "500", .is_ratio = 1,
      .max = 1e12,
      .unit = "steps", .help = "between two lines of log.jsonl; 0: none" },
    { .name = "logging_strategy", .choice = &A.logging_strategy, .choices = "steps|epoch|no",
      .preset = "steps",
      .help = "when to write one: by --logging_steps, at each epoch's end, never" },
    { .name = "logging_first_step", .flag = &A.logging_first_step, .help = "and after step 1" },
    { .name = "report_to", .list = &A.report_to, .value = "NAME ..", .preset = "none",
      .help = "log for others too, tensorboard, wandb (an offline run, for `wandb sync`; project "
              "$WANDB_PROJECT or huggingface), both, or all; log.jsonl is there "
              "always" },
    { .name = "logging_dir", .string = &A.logging_dir, .value = "DIR",
      .otherwise = "output_dir/runs/DATE_HOST", .help = "where TensorBoard's event file is begun" },
    { .name = "run_name", .string = &A.run_name, .value = "NAME",
      .otherwise = "--output_dir", .help = "of the run in W&B" },
    { .name = "output_dir", .alias = "output", .group = "checkpoints",
      .string = &A.output_dir, .value = "DIR", .required = 1,
      .help = "for the final model, best/, checkpoints, log.jsonl and results" },
    { .name = "overwrite_output_dir", .flag = &A.overwrite_output_dir,
      .help = "remove what an earlier run left there and begin anew" },
    { .name = "resume_from_checkpoint", .string = &A.resume_from_checkpoint, .value = "DIR",
      .bare = "", .help = "go on from this checkpoint; without DIR from the newest valid one of "
                          "the output directory" },
    { .name = "save_steps", .real = &A.save_steps, .preset = "500", .is_ratio = 1,
      .max = 1e12,
      .unit = "steps", .help = "between two checkpoints; the last step has one; 0: only that" },
    { .name = "save_strategy", .choice = &A.save_strategy, .choices = "steps|epoch|no|best",
      .preset = "steps", .help = "when to save one: by --save_steps, at each epoch's end, only at "
      "the end; best is no, as best/ is there anyway" },
    { .name = "save_total_limit", .size = &A.save_total_limit, .preset = "0", .max = 1e12,
      .help = "checkpoints kept, the newest; 0: all" },
    { .name = "do_train", .flag = &A.do_train, .preset = "true",
      .help = "as in run_qa.py; this program always trains" },
    { .name = "fp16", .group = "machines",
      .flag = &A.fp16,
      .help = "mixed precision: activations and working copies of the weights in 16 bits, the loss "
              "scaled so that small gradients survive; where the backend has it" },
    { .name = "bf16", .flag = &A.bf16,
      .help = "the same in bfloat16, which has the range of float: no scaling; on the cpu backend "
              "what matrix products multiply is rounded to it, and all else is fp32" },
    TOOL_TF32_FLAG,
    { .name = "task", .group = "retrieval", .choice = &A.task,
      .choices = "reader|biencoder|colbert|cross", .preset = "reader",
      .help = "what is trained: a reader of answers; vectors of texts; vectors of tokens; scores "
              "of a question and a passage.  --train_file is then pairs of any kind: SQuAD, DPR, "
              "sentence-transformers, FlagEmbedding, Tevatron, MS MARCO, ColBERT" },
    { .name = "passages", .string = &A.passages, .value = "FILE",
      .help = "what the ids of --qrels, --negatives and of triples name" },
    { .name = "queries", .string = &A.queries, .value = "FILE",
      .help = "the questions that triples name" },
    { .name = "qrels", .string = &A.qrels, .value = "FILE",
      .help = "the right passages of the questions of --train_file" },
    { .name = "negatives", .string = &A.negatives, .value = "RUN",
      .help = "a TREC run: its passages that are not right are negatives" },
    { .name = "negative_ranks", .string = &A.negative_ranks, .value = "FROM-TO",
      .otherwise = "1-50", .help = "of --negatives" },
    { .name = "num_negatives", .size = &A.num_negatives, .preset = "0", .max = 1000,
      .help = "drawn for each question, anew in each epoch" },
    { .name = "teacher", .string = &A.teacher, .value = "RUN",
      .help = "a TREC run with the scores that --loss margin_mse and kl learn from" },
    { .name = "teacher_model", .string = &A.teacher_model, .value = "DIR",
      .help = "instead: a cross-encoder, or any other encoder, that gives those scores in each "
              "step" },
    { .name = "query_model_name_or_path", .string = &A.query_model, .value = "DIR",
      .otherwise = "the same model",
      .help = "biencoder: a second tower, which reads the questions; the result is a folder with "
              "ctx_encoder and question_encoder" },
    { .name = "scale", .real = &A.scale, .max = 1e6, .above_min = 1,
      .otherwise = "20 of cosines, else 1",
      .help = "of similarities, 1 / temperature; --loss margin_mse takes them as they are" },
    { .name = "similarity", .choice = &A.similarity, .choices = "cos|dot",
      .otherwise = "the model's, else cos", .help = "of vectors" },
    { .name = "pooling", .string = &A.pooling, .value = "NAME",
      .otherwise = "the model's, else mean",
      .help = "how rows become one vector, of --task biencoder" },
    { .name = "projection_size", .size = &A.projection_size, .preset = "128", .min = 1,
      .max = 65536, .help = "of the rows of --task colbert; of the vectors where it is given" },
    { .name = "query_max_length", .size = &A.query_max_length, .min = 4, .max = 65536,
      .unit = "tokens", .otherwise = "the model's; 64, colbert 32", .help = "of a question" },
    { .name = "passage_max_length", .size = &A.passage_max_length, .min = 4, .max = 65536,
      .unit = "tokens", .otherwise = "the model's; 256, colbert 220",
      .help = "of a passage, of --task cross of both together" },
    { .name = "query_marker", .string = &A.query_marker, .value = "TOKEN",
      .otherwise = "the model's", .help = "colbert: put in behind the first token; \"\": none" },
    { .name = "passage_marker", .string = &A.passage_marker, .value = "TOKEN",
      .otherwise = "the model's", .help = "the same of passages" },
    { .name = "query_expansion", .flag = &A.query_expansion,
      .help = "colbert: fill questions with [MASK] rows" },
    { .name = "mini_batch_size", .size = &A.mini_batch_size, .preset = "0", .max = 65536,
      .help = "texts in memory at a time; the step stays one batch: gradient caching; 0: all" },
    { .name = "eval_passages", .string = &A.eval_passages, .value = "FILE",
      .help = "all of them are searched while measuring" },
    { .name = "eval_queries", .string = &A.eval_queries, .value = "FILE",
      .help = "the questions of --eval_qrels" },
    { .name = "eval_qrels", .string = &A.eval_qrels, .value = "FILE",
      .help = "instead of --validation_file" },
    { .name = "eval_negatives", .string = &A.eval_negatives, .value = "RUN",
      .help = "cross: the passages that are ordered while measuring, by id of --eval_passages" },
    { 0 }
};
#undef A

//==============================================================================
// What flags mean together
//==============================================================================
// Keys of the study's config.yaml that its program read and never used: a file that has them means
// what it meant there, a command line means what it says.
static void unused_in_study(const tool_program *p, const char *name, int used) {
    if (used && tool_given(p, name) == TOOL_CONFIGURED) {
        tool_note("%s: %s is not used, as in the study (--%s on the command line is)",
                  *p->config, name, name);
    }
}
static void resolve_unused(train_args *a, const tool_program *p) {
    unused_in_study(p, "warmup_steps", a->warmup_steps > 0);
    unused_in_study(p, "weight_decay", a->weight_decay > 0);
    if (tool_given(p, "warmup_steps") == TOOL_CONFIGURED) a->warmup_steps = 0;
    if (tool_given(p, "weight_decay") == TOOL_CONFIGURED) a->weight_decay = 0;
}

// What --compat reference means (PARITY 0), and what contradicts it.
static void resolve_compat(train_args *a, const tool_program *p) {
    if (a->compat != COMPAT_REFERENCE) return;
    if (tool_given(p, "encoding") && a->encoding != MRC_ENCODING_SENTINEL) {
        tool_fail(TOOL_USAGE, "--encoding: --compat reference trains on sentinels (found offsets, "
                  "expected sentinel)");
    }
    if (tool_given(p, "max_grad_norm") && a->max_grad_norm != 0) {
        tool_fail(TOOL_USAGE, "--max_grad_norm: --compat reference does not clip (found %g, "
                  "expected 0)", a->max_grad_norm);
    }
    if (tool_given(p, "pad_to_max_length") && !a->pad_to_max_length) {
        tool_fail(TOOL_USAGE, "--pad_to_max_length: --compat reference pads (found false, "
                  "expected true)");
    }
    a->encoding = MRC_ENCODING_SENTINEL;
    a->pad_to_max_length = 1;
    a->max_grad_norm = 0;
    resolve_unused(a, p);
    if (!tool_given(p, "loss_variant")) a->loss_variant = 1;
    if (!tool_given(p, "gamma")) a->gamma = 1;
}

// What is of no use without another flag, or contradicts it.
static void check_experiment(train_args *a, const tool_program *p) {
    if (a->num_folds && a->validation_file) {
        tool_fail(TOOL_USAGE, "--num_folds: a fold of --train_file is measured on (found "
                  "--validation_file too, expected one of them)");
    }
    if (a->patience && !a->validation_file && !a->num_folds && !a->eval_qrels) {
        tool_fail(TOOL_USAGE, "--patience: nothing is measured (found neither --validation_file "
                  "nor --num_folds, expected one)");
    }
    if (a->fgm_epsilon > 0 && (a->freeze_layers || a->freeze_embeddings)) {
        tool_fail(TOOL_USAGE, "--fgm_epsilon: moves the word embeddings, which %s freezes (found "
                  "both, expected one)", a->freeze_layers ? "--freeze_layers"
                                                          : "--freeze_embeddings");
    }
    static const struct { const char *flag; int loss; } of[] = { { "gamma", 1 },
                                                                  { "smoothing", 2 } };
    for (int i = 0; i < 2; i++) {
        if (tool_given(p, of[i].flag) != TOOL_GIVEN || a->loss == of[i].loss) continue;
        tool_fail(TOOL_USAGE, "--%s: is not of this --loss (found --%s, expected --loss %s with "
                  "it)", of[i].flag, of[i].flag, i ? "label_smoothing" : "focal");
    }
}

// The figures of an evaluation: what they are called in log.jsonl and by --metric_for_best_model,
// whether more is better, and when they are measured.
enum { OF_ALL, OF_OFFSETS, OF_KLUE, OF_HAS, OF_NONE, OF_BEST, OF_RETRIEVAL };
static const struct { const char *name; int greater, of; size_t at; } metrics[] = {
    { "loss", 0, OF_ALL, offsetof(mrc_eval_result, loss) },
    { "start_accuracy", 1, OF_ALL, offsetof(mrc_eval_result, start_accuracy) },
    { "end_accuracy", 1, OF_ALL, offsetof(mrc_eval_result, end_accuracy) },
    { "accuracy", 1, OF_ALL, offsetof(mrc_eval_result, accuracy) },
    { "exact_match", 1, OF_OFFSETS, offsetof(mrc_eval_result, exact_match) },
    { "f1", 1, OF_OFFSETS, offsetof(mrc_eval_result, f1) },
    { "rouge_w", 1, OF_KLUE, offsetof(mrc_eval_result, f1) },
    { "HasAns_exact", 1, OF_HAS, offsetof(mrc_eval_result, answerable.exact) },
    { "HasAns_f1", 1, OF_HAS, offsetof(mrc_eval_result, answerable.f1) },
    { "NoAns_exact", 1, OF_NONE, offsetof(mrc_eval_result, unanswerable.exact) },
    { "NoAns_f1", 1, OF_NONE, offsetof(mrc_eval_result, unanswerable.f1) },
    { "best_exact", 1, OF_BEST, offsetof(mrc_eval_result, best_exact) },
    { "best_exact_thresh", 1, OF_BEST, offsetof(mrc_eval_result, best_exact_threshold) },
    { "best_f1", 1, OF_BEST, offsetof(mrc_eval_result, best_f1) },
    { "best_f1_thresh", 1, OF_BEST, offsetof(mrc_eval_result, best_f1_threshold) },
    { "recall@1", 1, OF_RETRIEVAL, offsetof(mrc_eval_result, recall[0]) },
    { "recall@5", 1, OF_RETRIEVAL, offsetof(mrc_eval_result, recall[1]) },
    { "recall@10", 1, OF_RETRIEVAL, offsetof(mrc_eval_result, recall[2]) },
    { "recall@20", 1, OF_RETRIEVAL, offsetof(mrc_eval_result, recall[3]) },
    { "recall@100", 1, OF_RETRIEVAL, offsetof(mrc_eval_result, recall[4]) },
    { "mrr@10", 1, OF_RETRIEVAL, offsetof(mrc_eval_result, mrr_10) },
    { "ndcg@10", 1, OF_RETRIEVAL, offsetof(mrc_eval_result, ndcg_10) },
    { "map@100", 1, OF_RETRIEVAL, offsetof(mrc_eval_result, map_100) } };
enum { N_METRICS = sizeof metrics / sizeof *metrics };

// Whether this run measures figure i.
static int is_measured(const train_args *a, int i) {
    const int v2 = a->metric == MRC_METRIC_SQUAD_V2;
    if (a->task) return metrics[i].of == OF_RETRIEVAL;
    if (metrics[i].of == OF_ALL) return 1;
    if (a->encoding != MRC_ENCODING_OFFSETS) return 0;
    if (metrics[i].of == OF_KLUE) return a->metric == MRC_METRIC_KLUE;
    if (metrics[i].of == OF_BEST) {
        return v2 && a->version_2_with_negative && a->postprocess != MRC_DECODE_PIPELINE;
    }
    return metrics[i].of == OF_OFFSETS || (v2 && metrics[i].of != OF_RETRIEVAL);
}

static double figure_of(const mrc_eval_result *e, int i) {
    double value;
    memcpy(&value, (const char *)e + metrics[i].at, sizeof value);
    return value;
}

// As Hugging Face takes it: with eval_ or without.  Leaves the bare name.
static void resolve_metric(train_args *a, const tool_program *p) {
    char known[512] = "";
    // As run_qa.py: data with unanswerable questions is measured as SQuAD 2 is.
    if (!tool_given(p, "metric") && a->version_2_with_negative) a->metric = MRC_METRIC_SQUAD_V2;
    if (!a->metric_for_best_model) {
        a->metric_for_best_model = a->task ? "ndcg@10" : a->encoding == MRC_ENCODING_OFFSETS
                                 ? "exact_match" : "accuracy";
    }
    const char *name = a->metric_for_best_model;
    if (!strncmp(name, "eval_", 5) || !strncmp(name, "eval/", 5)) name += 5;
    for (int i = 0; i < N_METRICS; i++) {
        if (!is_measured(a, i)) continue;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", metrics[i].name);
        if (strcmp(name, metrics[i].name)) continue;
        a->metric_for_best_model = metrics[i].name;
        if (!tool_given(p, "greater_is_better")) a->greater_is_better = metrics[i].greater;
        return;
    }
    tool_fail(TOOL_USAGE, "--metric_for_best_model: no such metric is measured (found %s, expected "
              "one of %s)", a->metric_for_best_model, known);
}

// --eval_strategy in terms of --eval_steps, whose 0 is each epoch's end.
static void resolve_strategy(train_args *a, const tool_program *p) {
    enum { AUTO, NO, STEPS, EPOCH };
    const int given = tool_given(p, "eval_steps");
    if (a->debug) {
        tool_fail(TOOL_USAGE, "--DEBUG: is not a run of its own here (found true, expected false "
                  "with --max_train_samples and --max_eval_samples)");
    }
    if (a->eval_strategy == NO) a->do_eval = 0;
    if (a->eval_strategy == EPOCH && given) {
        tool_fail(TOOL_USAGE, "--eval_strategy: contradicts --eval_steps (found epoch, expected "
                  "steps, or no --eval_steps)");
    }
    if (a->eval_strategy == STEPS && !given) a->eval_steps = a->logging_steps;
    if (a->eval_strategy == STEPS && !(a->eval_steps > 0)) {
        tool_fail(TOOL_USAGE, "--eval_strategy: says steps, not how many (found neither "
                  "--eval_steps nor --logging_steps, expected one)");
    }
}

static void check_usage(train_args *a, const tool_program *p) {
    if (!a->model_name_or_path == !a->config_name) {
        tool_fail(TOOL_USAGE, "the model is not given once (found %s, expected "
                  "--model_name_or_path DIR or --config_name FILE --tokenizer_name DIR)",
                  a->config_name ? "--model_name_or_path and --config_name" : "neither");
    }
    if (a->model_name_or_path) tool_want_model(a->model_name_or_path);
    if (a->config_name && !a->tokenizer_name) {
        tool_fail(TOOL_USAGE, "--tokenizer_name is missing (found --config_name alone, expected a "
                  "DIR or vocab.txt with it)");
    }
    if (a->max_steps == 0) {
        tool_fail(TOOL_USAGE, "--max_steps: nothing to train (found 0, expected -1 or above 0)");
    }
    if (!a->do_train) {
        tool_fail(TOOL_USAGE, "--do_train: this program trains (found false, expected true; "
                  "predict and evaluate measure a model)");
    }
    if (a->overwrite_output_dir && a->resume_from_checkpoint) {
        tool_fail(TOOL_USAGE, "--overwrite_output_dir: contradicts --resume_from_checkpoint (found "
                  "both, expected one)");
    }
    if (a->load_best_model_at_end && ((!a->validation_file && !a->num_folds) || !a->do_eval)) {
        tool_fail(TOOL_USAGE, "--load_best_model_at_end: nothing is measured (found neither "
                  "--validation_file nor --num_folds, expected one)");
    }
    if (a->sharded_optimizer && a->optim == 2) {
        tool_fail(TOOL_USAGE, "--sharded_optimizer: adamp looks at whole matrices (found --optim "
                  "adamp, expected adamw_torch, adamw_hf or sgd)");
    }
    if (a->fp16 && a->bf16) {
        tool_fail(TOOL_USAGE, "--bf16: contradicts --fp16 (found both, expected one)");
    }
    resolve_compat(a, p);
    check_experiment(a, p);
    resolve_metric(a, p);
    tool_logs_check(tool_list_join(&a->report_to));
    resolve_strategy(a, p);
    // Under --compat reference losses are reported where the study did: at its validations.
    if (!tool_given(p, "logging_steps") && a->compat) a->logging_steps = 0;
    if (a->logging_strategy == STRATEGY_NO) a->logging_steps = 0;
    if (!a->do_eval) a->validation_file = NULL;
}

#endif
