// What a folder is: a run of train, a checkpoint of it, or what transformers' Trainer left.
#ifndef TOOL_FOLDERS_H
#define TOOL_FOLDERS_H
#include "tool.h"

typedef enum tool_folder {
    FOLDER_OTHER,
    FOLDER_CHECKPOINT,                  // ours: optimizer.safetensors, trainer_state.json with sums
    FOLDER_RUN,                         // train's --output_dir, finished or not
    FOLDER_TRAINER                      // a checkpoint or an output folder of transformers' Trainer
} tool_folder;

static int folder__has(const char *dir, const char *name) {
    char path[TOOL_PATH_BYTES];
    return mrc_path_kind(tool_path(path, dir, name)) == MRC_PATH_FILE;
}

// trainer_state.json, freed by the caller; NULL: there is none that can be read.
TOOL_DEF mrc_json *folder_state(mrc_ctx *ctx, const char *dir) {
    char path[TOOL_PATH_BYTES];
    mrc_json *root = NULL;
    if (!folder__has(dir, "trainer_state.json")) return NULL;
    tool_path(path, dir, "trainer_state.json");
    if (mrc_json_load(ctx, &root, path) == MRC_OK) return root;
    mrc_ctx_clear_error(ctx);
    return NULL;
}

TOOL_DEF tool_folder folder_kind(mrc_ctx *ctx, const char *dir) {
    static const char *const theirs[] = { "optimizer.pt", "scheduler.pt", "training_args.bin",
                                          "rng_state.pth", NULL };
    if (mrc_path_kind(dir) != MRC_PATH_DIR) return FOLDER_OTHER;
    if (folder__has(dir, "optimizer.safetensors")) return FOLDER_CHECKPOINT;
    for (int i = 0; theirs[i]; i++) {
        if (folder__has(dir, theirs[i])) return FOLDER_TRAINER;
    }
    if (!folder__has(dir, "trainer_state.json")) {
        return folder__has(dir, "log.jsonl") && folder__has(dir, "train_args.json") ? FOLDER_RUN
                                                                                  : FOLDER_OTHER;
    }
    mrc_json *state = folder_state(ctx, dir);
    const int run = state && mrc_json_get(state, "mrc_version");
    const int known = state && mrc_json_get(state, "global_step");
    mrc_json_free(state);
    return run ? FOLDER_RUN : known ? FOLDER_TRAINER : FOLDER_CHECKPOINT;
}

// Where a checkpoint of ours is wanted: ends the program when the folder is something else.
TOOL_DEF void folder_want_checkpoint(mrc_ctx *ctx, const char *dir) {
    const tool_folder kind = folder_kind(ctx, dir);
    if (kind == FOLDER_RUN) {
        tool_fail(TOOL_BAD_INPUT, "%s: is the output folder of a run, not a checkpoint (expected "
                  "a folder checkpoint-N in it)", dir);
    }
    if (kind == FOLDER_TRAINER) {
        tool_fail(TOOL_BAD_INPUT, "%s: is a folder of transformers' Trainer, whose optimizer.pt is "
                  "not read here (expected a checkpoint of train; --model_name_or_path %s begins "
                  "with its weights)", dir, dir);
    }
}

// Of a folder of two towers, as train --task biencoder writes it, the one of passages or questions,
// in out (TOOL_PATH_BYTES); 0: it is no such folder.
TOOL_DEF int folder_tower(const char *dir, int question, char *out) {
    if (!dir || folder__has(dir, "config.json") || !folder__has(dir, "ctx_encoder/config.json")
        || !folder__has(dir, "question_encoder/config.json")) return 0;
    tool_path(out, dir, question ? "question_encoder" : "ctx_encoder");
    return 1;
}

#endif
