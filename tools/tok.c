// tok: tokens, ids and offsets of the texts on standard input, one a line.
#include "tool.h"

typedef struct tok_flags {
    const char *tokenizer_name;
    int         jsonl, truncation, no_special_tokens, word_ids;
    size_t      max_length, stride;
} tok_flags;

// Ends the program with the context's error, which is about this line of standard input.
_Noreturn static void tok_fail(const mrc_ctx *ctx, mrc_status status, size_t line) {
    const char *text = mrc_ctx_message(ctx);
    // A line is a JSON text of its own: its messages begin "stdin:1:".
    if (strncmp(text, "stdin:1:", 8) == 0) {
        tool_fail(tool_exit_code(status), "stdin:%zu:%s", line, text + 8);
    }
    tool_fail(tool_exit_code(status), "stdin:%zu: %s", line, text);
}

// One more line without its end, or 0 at the end of input.
static int tok_line(char **line, size_t *capacity, size_t *bytes, size_t number) {
    errno = 0;
    ssize_t n = getline(line, capacity, stdin);
    if (n < 0) {
        if (errno == ENOMEM) tool_fail(TOOL_NO_MEMORY, "stdin:%zu: no memory for the line", number);
        if (ferror(stdin)) {
            tool_fail(TOOL_IO, "stdin:%zu: cannot be read: %s", number, strerror(errno));
        }
        return 0;
    }
    *bytes = (size_t)n;
    if (*bytes && (*line)[*bytes - 1] == '\n') --*bytes;
    (*line)[*bytes] = 0;
    return 1;
}

static void tok_add_ints(mrc_text *t, const char *key, const int32_t *values, size_t n) {
    tool_json_key(t, key);
    for (size_t i = 0; i < n; i++) mrc_text_printf(t, i ? ",%d" : "[%d", (int)values[i]);
    mrc_text_add(t, n ? "]" : "[]", n ? 1 : 2);
}

// Numbers of which -1 is null.
static void tok_add_ids(mrc_text *t, const char *key, const int32_t *values, size_t n) {
    tool_json_key(t, key);
    mrc_text_add(t, "[", 1);
    for (size_t i = 0; i < n; i++) {
        if (i) mrc_text_add(t, ",", 1);
        if (values[i] < 0) mrc_text_add(t, "null", 4);
        else mrc_text_printf(t, "%d", (int)values[i]);
    }
    mrc_text_add(t, "]", 1);
}

static void tok_add_json(mrc_text *t, const mrc_tokenizer *tok, const mrc_encoding *e,
                         size_t sample, int word_ids) {
    mrc_text_add(t, "{", 1);
    tool_json_integer(t, "overflow_to_sample_mapping", (int64_t)sample);
    tok_add_ints(t, "input_ids", e->input_ids, e->n);
    tok_add_ints(t, "token_type_ids", e->token_type_ids, e->n);
    tool_json_key(t, "tokens");
    mrc_text_add(t, "[", 1);
    for (size_t i = 0; i < e->n; i++) {
        const char *token = mrc_tokenizer_token(tok, e->input_ids[i]);
        if (i) mrc_text_add(t, ",", 1);
        mrc_text_json_string(t, token, strlen(token), 0);
    }
    mrc_text_add(t, "]", 1);
    tool_json_key(t, "offset_mapping");
    mrc_text_add(t, "[", 1);
    for (size_t i = 0; i < e->n; i++) {
        mrc_text_printf(t, i ? ",[%d,%d]" : "[%d,%d]", (int)e->offset_mapping[i][0],
                        (int)e->offset_mapping[i][1]);
    }
    mrc_text_add(t, "]", 1);
    tok_add_ids(t, "sequence_ids", e->sequence_ids, e->n);
    if (word_ids) tok_add_ids(t, "word_ids", e->word_ids, e->n);
    mrc_text_add(t, "}\n", 2);
}

static void tok_add_plain(mrc_text *t, const mrc_tokenizer *tok, const mrc_encoding *e) {
    for (size_t i = 0; i < e->n; i++) {
        const char *token = mrc_tokenizer_token(tok, e->input_ids[i]);
        if (i) mrc_text_add(t, " ", 1);
        mrc_text_add(t, token, strlen(token));
    }
    mrc_text_add(t, "\n", 1);
}

// A line's texts: a JSON string, or {"text", "text_pair"}.
static mrc_status tok_parse(mrc_ctx *ctx, const char *line, size_t bytes, size_t number,
                            mrc_json **root, const mrc_json **text, const mrc_json **pair) {
    mrc_status status = mrc_json_parse(ctx, root, "stdin", line, bytes, 0);
    if (status == MRC_OK) status = mrc_json_unique_keys(ctx, *root, "stdin");
    if (status != MRC_OK) return status;
    *text = *root;
    *pair = NULL;
    if ((*root)->type == MRC_JSON_OBJECT) {
        *text = mrc_json_get(*root, "text");
        *pair = mrc_json_get(*root, "text_pair");
        if (*pair && (*pair)->type == MRC_JSON_NULL) *pair = NULL;
    }
    if (!*text || (*text)->type != MRC_JSON_STRING || (*pair && (*pair)->type != MRC_JSON_STRING)) {
        tool_fail(TOOL_BAD_INPUT, "stdin:%zu: not a text (expected a JSON string, or an object "
                  "whose text and text_pair are strings)", number);
    }
    return MRC_OK;
}

static void tok_run(mrc_ctx *ctx, const mrc_tokenizer *tok, const tok_flags *flags,
                    const mrc_encode_options *options) {
    char *line = NULL;
    size_t capacity = 0, bytes, sample = 0;
    mrc_text out;
    mrc_text_init(&out, ctx);
    for (size_t number = 1; tok_line(&line, &capacity, &bytes, number); number++) {
        mrc_encodings e = { 0 };
        mrc_json *root = NULL;
        const mrc_json *text = NULL, *pair = NULL;
        if (flags->jsonl && strspn(line, " \t\r") == bytes) continue;
        mrc_status status = flags->jsonl ? tok_parse(ctx, line, bytes, number, &root, &text, &pair)
                                         : MRC_OK;
        if (status == MRC_OK) {
            status = mrc_tokenizer_encode(ctx, tok, &e, text ? text->string : line,
                                          text ? text->bytes : bytes, pair ? pair->string : NULL,
                                          pair ? pair->bytes : 0, options);
        }
        if (status != MRC_OK) tok_fail(ctx, status, number);
        out.bytes = 0;
        for (size_t w = 0; w < e.n; w++) {
            if (flags->jsonl) tok_add_json(&out, tok, &e.list[w], sample, flags->word_ids);
            else tok_add_plain(&out, tok, &e.list[w]);
        }
        tool_write_text(&out);
        mrc_encodings_free(&e);
        mrc_json_free(root);
        sample++;
    }
    mrc_text_free(&out);
    free(line);
}

static tok_flags a;

static int run(tool_program *p) {
    mrc_tokenizer *tok;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    tool_check(ctx, mrc_tokenizer_load(ctx, &tok, a.tokenizer_name));
    mrc_encode_options options = {
        .truncation = a.truncation == 1 ? MRC_TRUNCATION_ONLY_SECOND : MRC_TRUNCATION_LONGEST_FIRST,
        .max_length = a.max_length, .stride = a.stride, .no_special_tokens = a.no_special_tokens,
    };
    if (a.max_length == 0 && tool_given(p, "truncation")) {
        options.max_length = mrc_tokenizer_max_length(tok);
    }
    tok_run(ctx, tok, &a, &options);
    mrc_tokenizer_free(tok);
    mrc_ctx_free(ctx);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "tokenizer_name", .group = "tokenizer", .string = &a.tokenizer_name, .required = 1,
      .value = "DIR|FILE",
      .help = "a model's folder, its vocab.txt (cased then), tokenizer.json or *.model" },
    { .name = "jsonl", .group = "output", .flag = &a.jsonl,
      .help = "a line is a JSON string or {\"text\", \"text_pair\"}, and so is each encoding" },
    { .name = "max_length", .group = "windows", .size = &a.max_length, .unit = "tokens", .min = 1,
      .max = 2147483647.0, .otherwise = "no limit; with --truncation the model's",
      .help = "of one encoding, special tokens included" },
    { .name = "truncation", .choice = &a.truncation, .choices = "longest_first|only_second",
      .preset = "longest_first", .help = "what gives way when --max_length is exceeded; "
      "only_second makes as many windows of the second text as it takes" },
    { .name = "stride", .size = &a.stride, .unit = "tokens", .preset = "0",
      .help = "only_second: by how much windows overlap" },
    { .name = "no_special_tokens", .flag = &a.no_special_tokens,
      .help = "leave out [CLS] and [SEP], or what the tokenizer has for them" },
    { .name = "word_ids", .flag = &a.word_ids,
      .help = "with --jsonl: also the number of each token's word" },
    { 0 }
};

static tool_program program = {
    .name = "tok", .group = "files", .run = run,
    .purpose = "Tokenizes the texts on standard input, one a line.",
    .usage = "--tokenizer_name DIR|FILE [flags] < text",
    .examples = { "echo 'some text' | build/tok --tokenizer_name data",
                  "build/tok --tokenizer_name data --jsonl --max_length 384 "
                  "--truncation only_second --stride 128 < pairs.jsonl" },
    .flags = flags,
};
TOOL_PROGRAM(tok, program)
