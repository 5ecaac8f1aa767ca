// What the programs that read passages share: their flags, and opening what passages come from.
//
// The macros are rows of a table of flags; `a` is a struct whose members have the flags' names.
#ifndef READER_H
#define READER_H
#include "tool.h"

// How a model's windows are cut, and how many of them are read together.
#define READER_WINDOW_FLAGS(a)                                                                     \
    { .name = "max_seq_length", .group = "windows", .size = &(a).max_seq_length, .min = 8,         \
      .max = 65536, .unit = "tokens", .otherwise = TOOL_READER_LENGTH_HELP,                        \
      .help = "of a window, question and special tokens included" },                               \
    { .name = "doc_stride", .size = &(a).doc_stride, .max = 65536, .unit = "tokens",               \
      .otherwise = TOOL_READER_STRIDE_HELP, .help = "overlap of two windows" },                    \
    { .name = "per_device_eval_batch_size", .size = &(a).batch_size, .preset = "8", .min = 1,      \
      .max = 65536, .help = "longest windows in memory at a time, or as many rows of others" }

// What is an answer.
#define READER_ANSWER_FLAGS(a)                                                                     \
    { .name = "max_answer_length", .group = "answers", .size = &(a).max_answer_length,             \
      .preset = "30", .min = 1, .max = 65536, .unit = "tokens", .help = "of an answer" },          \
    { .name = "version_2_with_negative", .flag = &(a).version_2_with_negative,                     \
      .help = "a passage may have no answer: \"\" is one" },                                       \
    { .name = "null_score_diff_threshold", .real = &(a).null_score_diff_threshold, .preset = "0",  \
      .help = "a passage has none when that scores more than this above its best span; evaluate "  \
              "finds the best threshold" },                                                        \
    { .name = "temperature", .real = &(a).temperature, .preset = "1", .min = 0, .max = 1000,       \
      .above_min = 1, .help = "scores are divided by it before they become probabilities; "        \
                              "evaluate finds the best one" }

// BM25's variants, as mrc_bm25 counts them.
#define READER_METHODS                                                                             \
    "okapi|l|l_rank_bm25|plus|lucene|robertson|atire|bm25s_l|bm25s_plus|elasticsearch"
#define READER_METHOD_HELP                                                                         \
    "how passages are scored: okapi, l and plus are rank_bm25's (l_rank_bm25 with its release's "  \
    "extra factor), lucene to bm25s_plus bm25s's, elasticsearch Lucene's own"

// Passages that are looked up.
#define READER_INDEX_FLAGS(a, most)                                                                \
    { .name = "index", .group = "passages", .string = &(a).index, .value = "DIR",                  \
      .help = "where to look passages up: what index wrote; with --engine the alias" },            \
    { .name = "top_k", .size = &(a).top_k, .preset = "10", .min = 1, .max = (most),                \
      .help = "passages of the index that are read for a question" },                              \
    { .name = "method", .choice = &(a).method, .preset = "lucene", .choices = READER_METHODS,      \
      .help = READER_METHOD_HELP },                                                                \
    { .name = "retrieval_weight", .real = &(a).retrieval_weight, .preset = "0.5", .min = 0,        \
      .max = 1, .help = "of the passage's score; the span's has the rest" }

#endif
