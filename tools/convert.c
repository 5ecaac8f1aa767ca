// convert: a checkpoint however it is stored, PyTorch's too, into safetensors files.
#include "tool.h"

enum { CONVERT_KEEP, CONVERT_FP32, CONVERT_INT8 };
typedef struct convert_flags {
    const char *from, *output;
    size_t      shard;
    int         f32, dtype;
} convert_flags;

// A tensor on its way: read whole when its first bytes are asked for.
typedef struct convert_item {
    mrc_weights        *st;
    const mrc_st_entry *e;
    char               *data;
    uint64_t            bytes;
    enum { CONVERT_AS_IS, CONVERT_F32, CONVERT_BYTES, CONVERT_SCALES } form;
    char               *scale_name;     // of CONVERT_SCALES
} convert_item;

static int convert_is_real(const char *dtype) {
    return !strcmp(dtype, "F64") || !strcmp(dtype, "F16") || !strcmp(dtype, "BF16");
}

// A linear layer of an encoder layer: a matrix "...layer.N....weight", but for tables and norms.
static int convert_is_layer(const mrc_st_entry *e) {
    const char *layer = strstr(e->name, "layer"), *tail = strrchr(e->name, '.');
    if (e->ndim != 2 || !layer || !tail || strcmp(tail, ".weight")) return 0;
    if (strcmp(e->dtype, "F32") && !convert_is_real(e->dtype)) return 0;
    for (const char *at = layer; (at = strchr(at, '.')) != NULL; at++) {
        if (isdigit((unsigned char)at[1])) return !strstr(layer, "embeddings");
    }
    return 0;
}

// Its rows in bytes, or their scales: the largest of a row is 127.
static mrc_status convert_quantise(mrc_ctx *ctx, convert_item *item) {
    const size_t rows = (size_t)item->e->shape[0], columns = (size_t)item->e->shape[1];
    float *values = tool_allocate(rows * columns, sizeof *values);
    item->data = tool_allocate((size_t)item->bytes, 1);
    mrc_status status = mrc_weights_read(item->st, item->e, MRC_DTYPE_F32, values);
    for (size_t r = 0; status == MRC_OK && r < rows; r++) {
        float most = 0;
        for (size_t k = 0; k < columns; k++) {
            const float v = values[r * columns + k];
            if (!isfinite(v)) tool_fail(TOOL_BAD_INPUT, "%s: row %zu has a value that is not "
                                        "finite", item->e->name, r);
            most = fmaxf(most, fabsf(v));
        }
        const float scale = most > 0 ? most / 127 : 1;
        if (item->form == CONVERT_SCALES) memcpy(item->data + 4 * r, &scale, sizeof scale);
        for (size_t k = 0; item->form == CONVERT_BYTES && k < columns; k++) {
            const float q = rintf(values[r * columns + k] / scale);
            item->data[r * columns + k] = (char)(signed char)fmaxf(-127, fminf(127, q));
        }
    }
    free(values);
    (void)ctx;
    return status;
}

static mrc_status convert_fill(mrc_ctx *ctx, void *user, uint64_t offset, void *dst,
                               size_t bytes) {
    convert_item *item = user;
    mrc_status status = MRC_OK;
    if (!item->data && item->form >= CONVERT_BYTES) status = convert_quantise(ctx, item);
    if (!item->data) {
        item->data = tool_allocate((size_t)item->bytes, 1);
        status = item->form == CONVERT_F32
               ? mrc_weights_read(item->st, item->e, MRC_DTYPE_F32, item->data)
               : mrc_weights_bytes(item->st, item->e, item->data);
    }
    if (status == MRC_OK) memcpy(dst, item->data + offset, bytes);
    if (status != MRC_OK || offset + bytes == item->bytes) {
        free(item->data);
        item->data = NULL;
    }
    return status;
}

// The scales of a layer's matrix, a tensor of its own.
static void convert_scales(const convert_item *of, mrc_st_tensor *t,
                           convert_item *item) {
    const size_t room = strlen(of->e->name) + strlen("_scale") + 1;
    *item = (convert_item){ .st = of->st, .e = of->e, .form = CONVERT_SCALES,
                            .bytes = 4 * of->e->shape[0], .scale_name = tool_allocate(room, 1) };
    snprintf(item->scale_name, room, "%s_scale", of->e->name);
    *t = (mrc_st_tensor){ .name = item->scale_name, .dtype = "F32", .ndim = 2,
                          .shape = { of->e->shape[0], 1 }, .fill = convert_fill, .user = item };
}

// What is written: the names, dtypes and shapes of all tensors.
static size_t convert_list(mrc_weights *st, const convert_flags *a, mrc_st_tensor **list,
                           convert_item **items) {
    size_t n = 0, count = 0;
    while (mrc_weights_at(st, n)) n++;
    *list = tool_allocate(2 * n + 1, sizeof **list);
    *items = tool_allocate(2 * n + 1, sizeof **items);
    for (size_t i = 0; i < n; i++, count++) {
        const mrc_st_entry *e = mrc_weights_at(st, i);
        mrc_st_tensor *t = &(*list)[count];
        convert_item *item = &(*items)[count];
        *item = (convert_item){ .st = st, .e = e, .bytes = e->end - e->begin };
        if (a->dtype == CONVERT_INT8 && !strcmp(e->dtype, "I8")) {
            tool_fail(TOOL_BAD_INPUT, "%s: %s is of bytes already (found I8, expected a real type)",
                      a->from, e->name);
        }
        if (a->dtype == CONVERT_INT8 && convert_is_layer(e)) {
            item->form = CONVERT_BYTES;
            item->bytes = e->numel;
        } else if (a->dtype == CONVERT_FP32 && convert_is_real(e->dtype)) {
            item->form = CONVERT_F32;
            item->bytes = 4 * e->numel;
        }
        *t = (mrc_st_tensor){ .name = e->name, .dtype = item->form == CONVERT_F32 ? "F32"
                              : item->form == CONVERT_BYTES ? "I8" : e->dtype,
                              .ndim = e->ndim, .fill = convert_fill, .user = item };
        memcpy(t->shape, e->shape, sizeof t->shape);
        if (item->form != CONVERT_BYTES) continue;
        count++;
        convert_scales(item, &(*list)[count], &(*items)[count]);
    }
    return count;
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
            const char *it = items[i].scale_name ? items[i].scale_name : items[i].e->name;
            mrc_text_json_string(&t, it, strlen(it), 0);
            mrc_text_printf(&t, ": \"%s\"", name);
        }
    }
    mrc_text_printf(&t, "\n  }\n}\n");
    tool_check_text(&t);
    tool_path(path, a->output, "model.safetensors.index.json");
    tool_check(ctx, mrc_file_write(ctx, path, t.data, t.bytes));
    mrc_text_free(&t);
}

// config.json with a note of what was made bytes, as compressed-tensors has it: transformers and
// vLLM read such a folder.  Linear layers that were left alone are named.
static void convert_config(mrc_ctx *ctx, const convert_flags *a, const mrc_st_tensor *list,
                           size_t n) {
    char path[TOOL_PATH_BYTES], *data;
    size_t bytes, end, left_out = 0;
    mrc_json *root;
    mrc_text t;
    tool_path(path, a->from, "config.json");
    tool_check(ctx, mrc_file_read(ctx, &data, &bytes, path));
    tool_check(ctx, mrc_json_parse(ctx, &root, path, data, bytes, 64));
    if (root->type != MRC_JSON_OBJECT || mrc_json_get(root, "quantization_config")) {
        tool_fail(TOOL_BAD_INPUT, "%s: says quantization_config already, or is no object", path);
    }
    mrc_json_free(root);
    for (end = bytes; end && data[end - 1] != '}'; end--) continue;
    for (end--; end && isspace((unsigned char)data[end - 1]); end--) continue;
    mrc_text_init(&t, ctx);
    mrc_text_add(&t, data, end);
    mrc_text_printf(&t, ",\n  \"quantization_config\": {\"quant_method\": \"compressed-tensors\", "
                    "\"format\": \"int-quantized\", \"quantization_status\": \"compressed\", "
                    "\"kv_cache_scheme\": null, \"ignore\": [");
    for (size_t i = 0; i < n; i++) {
        char name[512];
        const char *tail = strrchr(list[i].name, '.');
        const convert_item *item = list[i].user;
        if (list[i].ndim != 2 || !tail || strcmp(tail, ".weight")) continue;
        if (item->form != CONVERT_AS_IS || strstr(list[i].name, "embeddings.")) continue;
        snprintf(name, sizeof name, "%.*s", (int)(tail - list[i].name), list[i].name);
        mrc_text_printf(&t, "%s", left_out++ ? ", " : "");
        mrc_text_json_string(&t, name, strlen(name), 0);
    }
    mrc_text_printf(&t, "], \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], "
                    "\"weights\": {\"num_bits\": 8, \"type\": \"int\", \"symmetric\": true, "
                    "\"strategy\": \"channel\", \"dynamic\": false}, \"input_activations\": "
                    "{\"num_bits\": 8, \"type\": \"int\", \"symmetric\": true, \"strategy\": "
                    "\"token\", \"dynamic\": true}, \"output_activations\": null}}}\n}\n");
    tool_check_text(&t);
    tool_path(path, a->output, "config.json");
    tool_check(ctx, mrc_file_write(ctx, path, t.data, t.bytes));
    mrc_text_free(&t);
    mrc_file_free(ctx, data);
}

// The files that a model directory has beside its weights.
static void convert_beside(mrc_ctx *ctx, const convert_flags *a) {
    char from[TOOL_PATH_BYTES], to[TOOL_PATH_BYTES], *data;
    size_t bytes;
    const char *name = "config.json";
    for (size_t i = 0; name; name = mrc_tokenizer_file(i++)) {
        tool_path(from, a->from, name);
        tool_path(to, a->output, name);
        if (mrc_path_kind(from) != MRC_PATH_FILE) continue;
        tool_check(ctx, mrc_file_read(ctx, &data, &bytes, from));
        tool_check(ctx, mrc_file_write(ctx, to, data, bytes));
        mrc_file_free(ctx, data);
    }
}

static void convert(mrc_ctx *ctx, const convert_flags *a) {
    char path[TOOL_PATH_BYTES], name[64];
    mrc_weights *st;
    mrc_st_tensor *list;
    convert_item *items;
    size_t bytes = strlen(a->output), tail = strlen(".safetensors");
    int file = bytes > tail && strcmp(a->output + bytes - tail, ".safetensors") == 0;
    if (file && a->shard) {
        tool_fail(TOOL_USAGE, "--max_shard_size: shards need a folder (found %s)", a->output);
    }
    if (a->dtype == CONVERT_INT8 && (file || mrc_path_kind(a->from) != MRC_PATH_DIR)) {
        tool_fail(TOOL_USAGE, "--dtype int8: is noted in config.json (found a file, expected a "
                  "model directory as SOURCE and a folder as --output)");
    }
    tool_try_place(a->output, !file);
    tool_check(ctx, mrc_weights_open(ctx, &st, a->from));
    size_t n = convert_list(st, a, &list, &items);
    size_t *shards = tool_allocate(n + 2, sizeof *shards), layers = 0;
    for (size_t i = 0; i < n; i++) layers += items[i].form == CONVERT_BYTES;
    if (a->dtype == CONVERT_INT8 && !layers) {
        tool_fail(TOOL_BAD_INPUT, "%s: has no linear layers of an encoder (expected matrices "
                  "\"...layer.N....weight\")", a->from);
    }
    size_t count = convert_cut(items, n, (uint64_t)a->shard * 1000000u, shards);
    if (file) tool_make_parent(ctx, a->output);
    else tool_check(ctx, mrc_dir_new(ctx, a->output));
    for (size_t k = 0; k < count; k++) {
        snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", k + 1, count);
        if (!file) tool_path(path, a->output, count > 1 ? name : "model.safetensors");
        tool_check(ctx, mrc_safetensors_write(ctx, file ? a->output : path, list + shards[k],
                                              shards[k + 1] - shards[k], NULL));
    }
    if (count > 1) convert_index(ctx, a, items, shards, count);
    if (!file && mrc_path_kind(a->from) == MRC_PATH_DIR) convert_beside(ctx, a);
    if (a->dtype == CONVERT_INT8) convert_config(ctx, a, list, n);
    tool_print("{\"tensors\": %zu, \"files\": %zu}\n", n, count);
    for (size_t i = 0; i < n; i++) free(items[i].scale_name);
    free(shards);
    free(items);
    free(list);
    mrc_weights_close(st);
}

static convert_flags a;

static int run(tool_program *p) {
    if (a.f32 && tool_given(p, "dtype") && a.dtype != CONVERT_FP32) {
        tool_fail(TOOL_USAGE, "--float32: contradicts --dtype (found both, expected one)");
    }
    if (a.f32) a.dtype = CONVERT_FP32;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    convert(ctx, &a);
    mrc_ctx_free(ctx);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "output", .alias = "output_dir", .group = "output",
      .string = &a.output, .value = "DIR|FILE.safetensors", .required = 1,
      .help = "a model directory, or one file" },
    { .name = "max_shard_size", .size = &a.shard, .unit = "MB", .preset = "0", .min = 0,
      .max = 1e9, .help = "begin another file before this; 0: one file" },
    { .name = "dtype", .choice = &a.dtype, .choices = "keep|fp32|int8", .preset = "keep",
      .help = "fp32: write F16, BF16 and F64 as F32; int8: the encoder's linear layers in bytes "
              "with a scale a row, as compressed-tensors has them (W8A8): a quarter of the size, "
              "read by every program here, by transformers and by vLLM" },
    { .name = "float32", .flag = &a.f32, .help = "the same as --dtype fp32" },
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
