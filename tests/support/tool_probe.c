// A program with one flag of each kind, which prints what it understood: tests/cli/test_tools.sh
// runs it to test tools/tool.h alone.
#include "../../tools/tool.h"

typedef struct probe {
    const char *file, *more, *text, *resume;
    int64_t     integer;
    size_t      size;
    double      real, part, save;
    tool_list   names;
    int         flag, choice, status;
} probe;

static void probe_parse(probe *a, int argc, char **argv) {
    tool_flag flags[] = {
        { .name = "text", .string = &a->text, .value = "WORD", .help = "any text" },
        { .name = "max_seq_length", .size = &a->size, .preset = "384", .min = 3, .max = 65536,
          .unit = "tokens", .help = "longest window" },
        { .name = "max_steps", .integer = &a->integer, .preset = "-1", .min = -1, .max = 1e18,
          .unit = "steps", .help = "where to stop", .alias = "steps|n_steps" },
        { .name = "learning_rate", .real = &a->real, .preset = "5e-5", .min = 0, .max = 1,
          .help = "peak rate" },
        { .name = "dropout", .real = &a->part, .preset = "0.1", .min = 0, .max = 1,
          .above_min = 1, .below_max = 1, .help = "probability of zeroing" },
        { .name = "do_eval", .flag = &a->flag, .help = "measure too" },
        { .name = "head", .choice = &a->choice, .choices = "linear|bilstm", .preset = "bilstm",
          .help = "what stands on the encoder" },
        { .name = "resume_from_checkpoint", .string = &a->resume, .value = "DIR", .bare = "",
          .help = "go on where a run stopped", .otherwise = "a new run" },
        { .name = "names", .list = &a->names, .value = "NAME", .help = "several" },
        { .name = "save_steps", .real = &a->save, .is_ratio = 1, .max = 1e12, .preset = "500",
          .unit = "steps", .help = "how often" },
        { .name = "status", .choice = &a->status, .help = "end as if the library had failed",
          .choices = "ok|arg|shape|mem|format|unsupported|io|numeric|interrupted" },
        { .name = "FILE", .string = &a->file, .positional = 1, .required = 1, .help = "a file" },
        { .name = "MORE", .string = &a->more, .positional = 1, .help = "one more" },
        { 0 }
    };
    static const tool_foreign foreign[] = {
        { "lr", "write --learning_rate", TOOL_REFUSED }, { 0 }
    };
    tool_program program = {
        .name = "probe", .purpose = "Prints what it understood.", .usage = "[flags] FILE [MORE]",
        .examples = { "probe --head linear file", "probe --do_eval file" }, .flags = flags,
        .foreign = foreign
    };
    tool_start(&program, argc, argv);
    if (tool_given(&program, "head")) tool_print("head was given\n");
    if (tool_given(&program, "names")) tool_print("names %s\n", tool_list_join(&a->names));
    if (tool_given(&program, "save_steps")) tool_print("save %.17g\n", a->save);
}

int main(int argc, char **argv) {
    probe a = { 0 };
    probe_parse(&a, argc, argv);
    tool_print("%s %s %s %s %lld %zu %.17g %.17g %d %d %lld %zu\n", a.file,
               a.more ? a.more : "-", a.text ? a.text : "-", a.resume ? a.resume : "-",
               (long long)a.integer, a.size, a.real, a.part, a.flag, a.choice,
               (long long)tool_common.seed, tool_common.threads);
    if (strcmp(a.file, "wait") == 0) {              // for a signal, then for a second one
        tool_catch_signals();
        tool_print("ready\n");
        tool_flush();
        while (!tool_signal) nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        tool_note("caught %d", (int)tool_signal);
        if (a.more) nanosleep(&(struct timespec){ .tv_sec = 20 }, NULL);
        return TOOL_INTERRUPTED;
    }
    if (strcmp(a.file, "memory") == 0) tool_print("limit %zu\n", tool_memory_limit(a.more));
    if (strcmp(a.file, "bar") == 0) {
        tool_bar bar;
        tool_bar_seconds = a.more ? 0.1 : 60;
        tool_bar_begin(&bar, "train", 40, 10);
        for (size_t i = 10; i < 40; i++) {
            nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
            tool_bar_update(&bar, i + 1, "loss=0.5");
        }
        tool_bar_end(&bar, "loss=0.5");
    }
    if (strcmp(a.file, "context") == 0) {
        mrc_ctx *ctx = tool_ctx_new(NULL, 0);
        tool_check(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F32, 0, NULL, 0) ? MRC_OK
                                                                       : mrc_ctx_status(ctx));
    }
    tool_check(NULL, (mrc_status)a.status);
    return tool_finish();
}
