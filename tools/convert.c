// convert: a checkpoint however it is stored, PyTorch's too, into safetensors files.
#include "tool.h"

typedef struct convert_flags { const char *from, *output; size_t shard; int f32; } convert_flags;

// A tensor on its way: read whole when its first bytes are asked for.
typedef struct convert_item {
    mrc_safetensors    *st;
    const mrc_st_entry *e;
    char               *data;
    uint64_t            bytes;
    int                 f32;
} convert_item;

static mrc_status convert_fill(mrc_ctx *ctx, void *user, uint64_t offset, void *dst,
                               size_t bytes) {
    convert_item *item = user;
    mrc_status status = MRC_OK;
    (void)ctx;
    if (!item->data) {
        item->data = malloc((size_t)item->bytes);
        if (!item->data) return MRC_ERR_MEM;
        status = item->f32 ? mrc_safetensors_read(item->st, item->e, MRC_DTYPE_F32, item->data)
                           : mrc_safetensors_bytes(item->st, item->e, item->data);
    }
    if (status == MRC_OK) memcpy(dst, item->data + offset, bytes);
    if (status != MRC_OK || offset + bytes == item->bytes) {
        free(item->data);
        item->data = NULL;
    }
    return status;
}

static int convert_is_real(const char *dtype) {
    return !strcmp(dtype, "F64") || !strcmp(dtype, "F16") || !strcmp(dtype, "BF16");
}

// What is written: the names, dtypes and shapes of all tensors.
static size_t convert_list(mrc_safetensors *st, const convert_flags *a, mrc_st_tensor **list,
                           convert_item **items) {
    size_t n = 0;
    while (mrc_safetensors_at(st, n)) n++;
    *list = calloc(n + 1, sizeof **list);
    *items = calloc(n + 1, sizeof **items);
    if (!*list || !*items) tool_fail(TOOL_NO_MEMORY, "%s: no memory for its names", a->from);
    for (size_t i = 0; i < n; i++) {
        const mrc_st_entry *e = mrc_safetensors_at(st, i);
        mrc_st_tensor *t = &(*list)[i];
        convert_item *item = &(*items)[i];
        *item = (convert_item){ .st = st, .e = e, .bytes = e->end - e->begin };
        if (a->f32 && convert_is_real(e->dtype)) {
            item->f32 = 1;
            item->bytes = 4 * e->numel;
        }
        *t = (mrc_st_tensor){ .name = e->name, .dtype = item->f32 ? "F32" : e->dtype,
                              .ndim = e->ndim, .fill = convert_fill, .user = item };
        memcpy(t->shape, e->shape, sizeof t->shape);
    }
    return n;
}

// Where each shard begins: shards[k] .. shards[k + 1] - 1, together at most `most` bytes.
static size_t convert_cut(const convert_item *items, size_t n, uint64_t most, size_t *shards) {
    size_t count = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || (most && (bytes > most || items[i].bytes > most - bytes))) {
            shards[count++] = i;
            bytes = 0;
        }
        bytes += items[i].bytes;
    }
    if (count == 0) shards[count++] = 0;
    shards[count] = n;
    return count;
}

static void convert_index(mrc_ctx *ctx, const convert_flags *a, const convert_item *items,
                          const size_t *shards, size_t count) {
    char path[TOOL_PATH_BYTES], name[64];
    uint64_t total = 0;
    mrc_text t;
    mrc_text_init(&t, ctx);
    for (size_t i = 0; i < shards[count]; i++) total += items[i].bytes;
    mrc_text_printf(&t, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {",
                    (unsigned long long)total);
    for (size_t k = 0; k < count; k++) {
        snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", k + 1, count);
        for (size_t i = shards[k]; i < shards[k + 1]; i++) {
            mrc_text_printf(&t, "%s\n    ", i ? "," : "");
            mrc_text_json_string(&t, items[i].e->name, strlen(items[i].e->name), 0);
            mrc_text_printf(&t, ": \"%s\"", name);
        }
    }
    mrc_text_printf(&t, "\n  }\n}\n");
    if (t.failed) tool_fail(TOOL_NO_MEMORY, "%s: no memory for the index", a->output);
    tool_path(path, a->output, "model.safetensors.index.json");
    tool_check(ctx, mrc_file_write(ctx, path, t.data, t.bytes));
    mrc_text_free(&t);
}

// The files that a model directory has beside its weights.
static void convert_beside(mrc_ctx *ctx, const convert_flags *a) {
    char from[TOOL_PATH_BYTES], to[TOOL_PATH_BYTES], *data;
    size_t bytes;
    const char *name = "config.json";
    for (size_t i = 0; name; name = mrc_tokenizer_file(i++)) {
        tool_path(from, a->from, name);
        tool_path(to, a->output, name);
        if (mrc_file_exists(from) != 1) continue;
        tool_check(ctx, mrc_file_read(ctx, &data, &bytes, from));
        tool_check(ctx, mrc_file_write(ctx, to, data, bytes));
        mrc_file_free(ctx, data);
    }
}

static void convert(mrc_ctx *ctx, const convert_flags *a) {
    char path[TOOL_PATH_BYTES], name[64];
    mrc_safetensors *st;
    mrc_st_tensor *list;
    convert_item *items;
    size_t bytes = strlen(a->output), tail = strlen(".safetensors");
    int file = bytes > tail && strcmp(a->output + bytes - tail, ".safetensors") == 0;
    if (file && a->shard) {
        tool_fail(TOOL_USAGE, "--max_shard_size: shards need a folder (found %s)", a->output);
    }
    tool_check(ctx, mrc_weights_open(ctx, &st, a->from));
    size_t n = convert_list(st, a, &list, &items);
    size_t *shards = calloc(n + 2, sizeof *shards);
    if (!shards) tool_fail(TOOL_NO_MEMORY, "%s: no memory for its names", a->from);
    size_t count = convert_cut(items, n, (uint64_t)a->shard * 1000000u, shards);
    if (!file) tool_check(ctx, mrc_dir_new(ctx, a->output));
    for (size_t k = 0; k < count; k++) {
        snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", k + 1, count);
        if (!file) tool_path(path, a->output, count > 1 ? name : "model.safetensors");
        tool_check(ctx, mrc_safetensors_write(ctx, file ? a->output : path, list + shards[k],
                                              shards[k + 1] - shards[k], NULL));
    }
    if (count > 1) convert_index(ctx, a, items, shards, count);
    if (!file && mrc_file_exists(a->from) == 2) convert_beside(ctx, a);
    tool_print("{\"tensors\": %zu, \"files\": %zu}\n", n, count);
    free(shards);
    free(items);
    free(list);
    mrc_safetensors_close(st);
}

static convert_flags a;

static int run(tool_program *p) {
    (void)p;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    convert(ctx, &a);
    mrc_ctx_free(ctx);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "output", .string = &a.output, .value = "DIR|FILE.safetensors", .required = 1,
      .help = "a model directory, or one file" },
    { .name = "max_shard_size", .size = &a.shard, .unit = "MB", .preset = "0", .min = 0,
      .max = 1e9, .help = "begin another file before this; 0: one file" },
    { .name = "float32", .flag = &a.f32, .help = "write F16, BF16 and F64 as F32" },
    { .name = "SOURCE", .string = &a.from, .positional = 1, .required = 1,
      .help = "a model directory, a safetensors or PyTorch file, or an index of shards" },
    { 0 }
};

static tool_program program = {
    .name = "convert", .group = "files", .run = run,
    .usage = "SOURCE --output DIR|FILE.safetensors [flags]", .flags = flags,
    .purpose = "Writes a checkpoint, PyTorch's or safetensors, whole or in shards, as "
               "safetensors. PyTorch's pickles are read and never run.",
    .examples = { "convert pytorch_model.bin --output model.safetensors",
                  "convert DIR --output OTHER --max_shard_size 2000 --float32" },
};
TOOL_PROGRAM(convert, program)
