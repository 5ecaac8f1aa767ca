// ask: a question in, answers out, over one passage or the passages that an index finds.
#include "answers.h"
#include "engine_search.h"

typedef struct ask_args {
    const char *model, *context, *index, *question;
    int         method, json, version_2_with_negative;
    size_t      top_k, n_answers, max_answer_length, max_seq_length, doc_stride, batch_size;
    double      retrieval_weight, null_score_diff_threshold, temperature;
    tool_precision precision;
} ask_args;

typedef struct asking {
    ask_args      a;
    mrc_backend  *be;
    mrc_ctx      *ctx;
    mrc_reader   *reader;
    retrieval_options o;                // of --index
    retrieval     stages;
    stage_hit    *found;
    char         *context;              // of --context
    size_t        context_bytes;
    size_t        most;                 // passages for a question
    mrc_example  *passages;
    mrc_text     *rooms;                // where the passages of an index are read to
    mrc_hit      *hits;
    mrc_reply    *replies;
    candidate    *list;
    mrc_text      out;
    cluster       cluster;              // of --engine
} asking;

//==============================================================================
// Inputs
//==============================================================================
static mrc_decode_config decode_config(const ask_args *a) {
    mrc_decode_config decode = mrc_decode_config_default();
    decode.max_answer_length = a->max_answer_length;
    decode.version_2_with_negative = a->version_2_with_negative;
    decode.null_score_diff_threshold = a->null_score_diff_threshold;
    return decode;
}

static void load(asking *k) {
    ask_args *a = &k->a;
    k->most = 1;
    if (a->index) {
        k->o.index = a->index;
        k->o.method = a->method;
        k->o.threads = tool_pool_threads();
        cluster_open(&k->cluster, k->ctx, &k->o, a->top_k, 1, 0);
        tool_check(k->ctx, retrieval_open(k->ctx, &k->stages, &k->o));
        size_t passages = retrieval_size(&k->stages);
        k->most = a->top_k < passages ? a->top_k : passages;
    } else {
        tool_check(k->ctx, mrc_file_read(k->ctx, &k->context, &k->context_bytes, a->context));
        size_t valid = mrc_utf8_valid(k->context, k->context_bytes);
        if (valid != k->context_bytes) {
            tool_fail(TOOL_BAD_INPUT, "%s: is not UTF-8 (found byte %02x at offset %zu)",
                      a->context, (unsigned)(unsigned char)k->context[valid], valid);
        }
    }
    mrc_decode_config decode = decode_config(a);
    mrc_features_config features = tool_reader_features(k->ctx, a->model, &a->max_seq_length,
                                                        &a->doc_stride);
    mrc_reader_desc desc = { .features = &features, .batch_size = a->batch_size,
                             .decode = &decode, .dtype = tool_precision_dtype(&a->precision),
                             .int8_keep = tool_precision_keep(&a->precision) };
    tool_check(k->ctx, mrc_reader_new(k->ctx, &k->reader, a->model, &desc));
    k->passages = tool_allocate(k->most, sizeof *k->passages);
    k->rooms = tool_allocate(k->most, sizeof *k->rooms);
    k->hits = tool_allocate(k->most, sizeof *k->hits);
    k->found = tool_allocate(k->most, sizeof *k->found);
    k->replies = tool_allocate(k->most, sizeof *k->replies);
    k->list = tool_allocate(k->most * (decode.n_best_size + 1), sizeof *k->list);
    for (size_t i = 0; i < k->most; i++) mrc_text_init(&k->rooms[i], k->ctx);
    mrc_text_init(&k->out, k->ctx);
}

// From the index: how many.
static size_t look_up(asking *k, const mrc_passage *query) {
    size_t n = 0;
    tool_check(k->ctx, retrieval_run(&k->stages, query, 1, k->most, k->found, &n));
    for (size_t i = 0; i < n; i++) {
        k->hits[i] = (mrc_hit){ k->found[i].passage, k->found[i].score };
        tool_check(k->ctx, retrieval_example(&k->stages, k->hits[i].passage, &k->rooms[i],
                                             &k->passages[i]));
    }
    return n;
}

// The passages to read for a question: how many.
static size_t find_passages(asking *k, const char *question) {
    const mrc_passage query = { "", "", question, strlen(question) };
    size_t n = 1;
    if (!k->o.index) {
        k->passages[0] = (mrc_example){ .id = k->a.context, .title = "", .context = k->context,
                                        .context_bytes = k->context_bytes };
    } else {
        n = look_up(k, &query);
    }
    for (size_t i = 0; i < n; i++) {
        k->passages[i].question = question;
        k->passages[i].question_bytes = query.text_bytes;
    }
    return n;
}

//==============================================================================
// Answers
//==============================================================================
static void add_json(asking *k, const char *question, size_t n) {
    mrc_text *t = &k->out;
    mrc_text_add(t, "{", 1);
    tool_json_string(t, "question", question);
    tool_json_key(t, "answers");
    mrc_text_add(t, "[", 1);
    for (size_t i = 0; i < n; i++) {
        const candidate *c = &k->list[i];
        mrc_text_printf(t, "%s{", i ? ", " : "");
        tool_json_key(t, "answer");
        mrc_text_json_string(t, c->text, c->bytes, 0);
        tool_json_number(t, "confidence", c->confidence);
        tool_json_string(t, "passage", c->passage->id);
        tool_json_string(t, "title", c->passage->title);
        tool_json_integer(t, "start", c->shown.begin);
        tool_json_integer(t, "end", c->shown.end);
        tool_json_number(t, "score", c->score);
        tool_json_number(t, "span_score", (double)(c->span->start_logit + c->span->end_logit));
        if (k->o.index) tool_json_number(t, "retrieval_score", k->hits[c->place].score);
        if (k->o.index && !stages_are_words(&k->o)) retrieval_json(t, &k->found[c->place]);
        mrc_text_add(t, "}", 1);
    }
    mrc_text_add(t, "]}\n", 3);
}

// At most so many bytes of text on one line, cut between characters.
static void add_line(mrc_text *t, const char *s, size_t bytes, size_t most, int from_end) {
    if (bytes > most) {
        size_t cut = from_end ? bytes - most : most;
        while (cut && cut < bytes && ((unsigned char)s[cut] & 0xc0) == 0x80) cut--;
        if (from_end) s += cut;
        bytes = from_end ? bytes - cut : cut;
    }
    for (size_t i = 0; i < bytes; i++) {
        mrc_text_add(t, (unsigned char)s[i] < ' ' || s[i] == 0x7f ? " " : s + i, 1);
    }
}

static void add_text(asking *k, size_t n) {
    mrc_text *t = &k->out;
    if (!n) mrc_text_printf(t, "no answer\n");
    for (size_t i = 0; i < n; i++) {
        const candidate *c = &k->list[i];
        const char *end = c->text + c->bytes, *context = c->passage->context;
        mrc_text_printf(t, "%zu. ", i + 1);
        add_line(t, c->text, c->bytes, c->bytes, 0);
        mrc_text_printf(t, "  (%.1f%%)  ", 100 * c->confidence);
        add_line(t, c->passage->id, strlen(c->passage->id), 200, 0);
        mrc_text_printf(t, "%s", *c->passage->title ? " " : "");
        add_line(t, c->passage->title, strlen(c->passage->title), 100, 0);
        mrc_text_printf(t, ", characters %d to %d\n   ..", (int)c->shown.begin,
                        (int)c->shown.end);
        add_line(t, context, (size_t)(c->text - context), 90, 1);
        mrc_text_printf(t, "[");
        add_line(t, c->text, c->bytes, c->bytes, 0);
        mrc_text_printf(t, "]");
        add_line(t, end, (size_t)(context + c->passage->context_bytes - end), 90, 0);
        mrc_text_printf(t, "..\n");
    }
}

static void answer(asking *k, const char *question) {
    size_t n = find_passages(k, question);
    tool_check(k->ctx, mrc_reader_answer(k->reader, k->passages, n, k->replies));
    size_t count = candidates_find(k->list, k->passages, k->replies, k->o.index ? k->hits : NULL, n,
                                   k->a.retrieval_weight, k->a.temperature);
    if (count > k->a.n_answers) count = k->a.n_answers;
    k->out.bytes = 0;
    if (k->a.json) add_json(k, question, count);
    else add_text(k, count);
    tool_write_text(&k->out);
    tool_flush();
}

// A question a line from stdin, until it ends; asked for where that is a terminal.
static void answer_lines(asking *k) {
    int talks = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t room = 0;
    for (;;) {
        if (talks) fputs("? ", stderr);
        ssize_t bytes = getline(&line, &room, stdin);
        if (bytes < 0) break;
        while (bytes && (line[bytes - 1] == '\n' || line[bytes - 1] == '\r')) line[--bytes] = 0;
        if (strlen(line) != (size_t)bytes || mrc_utf8_valid(line, (size_t)bytes) != (size_t)bytes) {
            tool_fail(TOOL_BAD_INPUT, "stdin: a question is not UTF-8");
        }
        if (line[strspn(line, " \t")]) answer(k, line);
    }
    if (talks) fputs("\n", stderr);
    free(line);
    if (ferror(stdin)) tool_fail(TOOL_IO, "stdin: cannot be read");
}

//==============================================================================
// main
//==============================================================================
static asking the_asking = { .a = { .doc_stride = SIZE_MAX },
                             .o = { .k1 = NAN, .b = NAN, .delta = NAN } };

static int run(tool_program *p) {
    asking *k = &the_asking;
    (void)p;
    if (!k->a.context == !k->a.index) {
        tool_fail(TOOL_USAGE, "--context or --index is wanted (found %s, expected one of them; see "
                  "--help)", k->a.context ? "both" : "neither");
    }
    if (engine_a.kind != ENGINE_NONE && !k->a.index) {
        tool_fail(TOOL_USAGE, "--engine: of which index? (found no --index, expected the alias)");
    }
    tool_want_model(k->a.model);
    k->be = tool_backend_new_for(tool_precision_dtype(&k->a.precision));
    k->ctx = tool_ctx_new(k->be, 0);
    load(k);
    if (k->a.question) answer(k, k->a.question);
    else answer_lines(k);
    for (size_t i = 0; i < k->most; i++) mrc_text_free(&k->rooms[i]);
    mrc_text_free(&k->out);
    mrc_reader_free(k->reader);
    if (k->o.index) retrieval_close(&k->stages);
    cluster_close(&k->cluster);
    if (k->context) mrc_file_free(k->ctx, k->context);
    mrc_ctx_free(k->ctx);
    mrc_backend_free(k->be);
    void *parts[] = { k->passages, k->rooms, k->hits, k->found, k->replies, k->list };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) free(parts[i]);
    return tool_finish();
}

#define A the_asking.a
static tool_flag the_flags[] = {
    { .name = "model_name_or_path", .group = "model",
      .string = &A.model, .value = "DIR", .required = 1,
      .help = "a model directory with its vocabulary" },
    { .name = "context", .group = "passages", .string = &A.context, .value = "FILE",
      .help = "the passage: a text file, all of it" },
    READER_INDEX_FLAGS(A, 10000),
    RETRIEVAL_FLAGS(the_asking.o),
    { .name = "question", .group = "answers", .string = &A.question, .value = "TEXT",
      .otherwise = "lines of stdin", .help = "what to answer" },
    { .name = "json", .flag = &A.json, .help = "print one JSON object for each question" },
    { .name = "n_answers", .size = &A.n_answers, .preset = "3", .min = 1, .max = 1000,
      .help = "answers to print" },
    READER_ANSWER_FLAGS(A),
    READER_WINDOW_FLAGS(A),
    TOOL_PRECISION_FLAGS(A.precision),
    ENGINE_FLAGS("300"),
    ENGINE_QUERY_FLAGS,
    { 0 }
};
#undef A

static tool_program program = {
    .name = "ask", .group = "answer and score", .run = run, .flags = the_flags,
    .purpose = "Answers questions from a passage, or from the passages that an index finds.",
    .usage = "--model_name_or_path DIR --context FILE | --index DIR [--question TEXT] [flags]",
    .examples = { "ask --model_name_or_path out --context passage.txt --question \"Who?\"",
                  "ask --model_name_or_path out --index wiki --top_k 20 --json <questions.txt" }
};
TOOL_PROGRAM(ask, program)
