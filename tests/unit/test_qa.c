// From data files to features and from logits to scores: data sets, encoders, batch plans,
// decoding, metrics.  Small data is written here, so that it runs anywhere; with ../shared (or
// MRC_SHARED) also the corpus of broken files, the reference run's counts, figures, 474 windows.
#define TEST_LINKED
#include "../support/cases.h"
#include "../support/folder.h"

static mrc_ctx *ctx_new(void) {
    mrc_ctx *ctx = NULL;
    mrc_ctx_desc desc = { .log = keep_message };
    n_messages = 0;
    message[0] = 0;
    mrc_ctx_new(&ctx, &desc);
    return ctx;
}

static const char *shared(const char *name) {
    static char paths[4][512];
    static int turn;
    const char *root = getenv("MRC_SHARED");
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root && *root ? root : "../shared", name);
    return path;
}
static int has_shared(void) { return mrc_path_kind(shared("data/mrc")) == MRC_PATH_DIR; }

//==============================================================================
// Data sets
//==============================================================================
#define NESTED(context, qas) "{\"version\": \"KorQuAD_v1.0_dev\", \"data\": [{\"title\": \"t\", " \
    "\"paragraphs\": [{\"context\": " context ", \"qas\": [" qas "]}]}]}"
#define QA(rest) "{\"id\": \"q1\", \"question\": \"수도는?\", " rest "}"
#define SEOUL "\"대한민국의 수도는 서울이다. 😀 인구는 약 940만 명이다.\""
#define ANSWER(text, start) "\"answers\": [{\"text\": \"" text "\", \"answer_start\": " start "}]"
#define FLAT(id, text, start) "{\"id\": \"" id "\", \"title\": \"t\", \"context\": " SEOUL ", " \
    "\"question\": \"수도는?\", \"answers\": {\"text\": [\"" text "\"], " \
    "\"answer_start\": [" start "]}}"

// What each file gives: rows, rows kept, format; or an error, whose message has the text.
typedef struct dataset_case {
    const char *what, *text;
    size_t      rows, kept;
    const char *format, *reason;
} dataset_case;
static const dataset_case dataset_cases[] = {
    { "nested", NESTED(SEOUL, QA(ANSWER("서울", "10"))), 1, 1, "squad_v1", NULL },
    { "behind an emoji", NESTED(SEOUL, QA(ANSWER("940만", "24"))), 1, 1, "squad_v1", NULL },
    { "impossible", NESTED(SEOUL, QA("\"answers\": [], \"is_impossible\": true")), 1, 1,
      "squad_v2", NULL },
    { "possible without answer", NESTED(SEOUL, QA("\"answers\": [], \"is_impossible\": false")), 1,
      0, "squad_v2", "no answer and not is_impossible" },
    { "whole number as id", NESTED(SEOUL, "{\"id\": 7, \"question\": \"q\", " ANSWER("서울", "10")
      "}"), 1, 1, "squad_v1", NULL },
    { "guid", NESTED(SEOUL, "{\"guid\": \"g\", \"question\": \"q\", " ANSWER("서울", "10") "}"), 1,
      1, "squad_v1", NULL },
    { "answers as columns", NESTED(SEOUL, QA("\"answers\": {\"text\": [\"서울\"], "
      "\"answer_start\": [10]}")), 1, 1, "squad_v1", NULL },
    { "columns of two lengths", NESTED(SEOUL, QA("\"answers\": {\"text\": [\"서울\"], "
      "\"answer_start\": []}")), 1, 0, "squad_v1", "answers are malformed" },
    { "second answer wrong", NESTED(SEOUL, QA("\"answers\": [{\"text\": \"서울\", "
      "\"answer_start\": 10}, {\"text\": \"부산\", \"answer_start\": 10}]")), 1, 0, "squad_v1",
      "context has another text at answer_start" },
    { "empty answer", NESTED(SEOUL, QA(ANSWER("", "10"))), 1, 0, "squad_v1",
      "answer text is empty" },
    { "text runs past the end", NESTED("\"ab\"", QA(ANSWER("bc", "1"))), 1, 0, "squad_v1",
      "context has another text at answer_start" },
    { "position is the end", NESTED("\"ab\"", QA(ANSWER("b", "2"))), 1, 0, "squad_v1",
      "answer_start is no position in the context" },
    { "key twice", NESTED(SEOUL, QA("\"id\": \"q2\", " ANSWER("서울", "10"))), 1, 0, "squad_v1",
      "a key is given twice" },
    { "id with NUL", NESTED(SEOUL, "{\"id\": \"a\\u0000\", \"question\": \"q\", "
      ANSWER("서울", "10") "}"), 1, 0, "squad_v1", "id is missing or not text" },
    { "row is a number", NESTED(SEOUL, "5"), 1, 0, "squad_v1", "not an object" },
    { "article without paragraphs", "{\"data\": [{\"paragraphs\": 3}]}", 1, 0, "squad_v1",
      "paragraphs is not an array" },
    { "article is a number", "{\"data\": [{\"paragraphs\": []}, 3]}", 1, 0, "squad_v1",
      "paragraphs is not an array" },
    { "flat in data", "{\"data\": [" FLAT("a", "서울", "10") ", 3]}", 2, 1, "json", "not an object" },
    { "one line", FLAT("a", "서울", "10"), 1, 1, "jsonl", NULL },
    { "lines", "\xef\xbb\xbf\r\n" FLAT("a", "서울", "10") "\r\n \t\r\n" FLAT("b", "부산", "10")
      "\n" FLAT("c", "940만", "24"), 3, 2, "jsonl", "context has another text at answer_start" },
    { "laid out", "{\n \"data\": [\n  " FLAT("a", "서울", "10") "\n ]\n}\n", 1, 1, "json", NULL },
    { "no rows", "{\"data\": []}", 0, 0, "squad_v1", NULL },
    { "empty", "", 0, 0, NULL, ":1:1: " },
    { "an array", "[]", 0, 0, NULL, ":1:1: found no record" },
    { "no data", "{\"rows\": []}", 0, 0, NULL, "found no \"data\"" },
    { "data twice", "{\"data\":[],\"data\":[]}", 0, 0, NULL, ":1:19: the key \"data\" appears" },
    { "a key twice", "{\"a\":0,\"a\":1,\"data\":[]}", 0, 0, NULL, "the key \"a\" appears twice" },
    { "bad second line", FLAT("a", "서울", "10") "\n{\"id\": nope}\n", 0, 0, NULL, ":2:8: " },
    { "bad first line", "{\"id\": nope}\n" FLAT("a", "서울", "10"), 0, 0, NULL, ":1:8: " },
    { "two files in one", "{\"data\": []}\n{\"data\": []}\n", 0, 0, NULL, ":2:1: " },
    { "gzip", "\x1f\x8b\x08", 0, 0, NULL, "gzip" },
    { "Git LFS", "version https://git-lfs.github.com/spec/v1\n", 0, 0, NULL, "LFS" },
};

static void test_datasets(void) {
    for (size_t i = 0; i < sizeof dataset_cases / sizeof *dataset_cases; i++) {
        const dataset_case *c = &dataset_cases[i];
        mrc_ctx *ctx = ctx_new();
        mrc_dataset *d = NULL;
        size_t count = 0;
        mrc_status status = mrc_dataset_load(ctx, &d, file_new("case.json", c->text));
        if (!c->format) {
            CHECK(status == MRC_ERR_FORMAT && !d, "%s: status %d", c->what, status);
            CHECK(strstr(mrc_ctx_message(ctx), "case.json:1:") ||
                  strstr(mrc_ctx_message(ctx), "case.json:2:"), "%s: %s", c->what,
                  mrc_ctx_message(ctx));
            CHECK(strstr(mrc_ctx_message(ctx), c->reason), "%s: %s", c->what, mrc_ctx_message(ctx));
        } else if (CHECK(status == MRC_OK, "%s: %s", c->what, mrc_ctx_message(ctx))) {
            CHECK(mrc_dataset_rows(d) == c->rows && mrc_dataset_size(d) == c->kept,
                  "%s: %zu of %zu", c->what, mrc_dataset_size(d), mrc_dataset_rows(d));
            CHECK(!strcmp(mrc_dataset_format(d), c->format), "%s: %s", c->what,
                  mrc_dataset_format(d));
            const char *reason = mrc_dataset_skipped(d, 0, &count);
            CHECK(c->reason ? reason && !strcmp(reason, c->reason) : !reason, "%s: %s", c->what,
                  reason ? reason : "none");
            CHECK(!mrc_dataset_skipped(d, 1, &count), "%s: a second reason", c->what);
            CHECK(c->reason ? strstr(message, c->reason) != NULL : !n_messages, "%s: logged %s",
                  c->what, message);
        }
        mrc_dataset_free(d);
        mrc_ctx_free(ctx);
    }
}

// Contents, sharing, places in messages, twins.
static void test_dataset_contents(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_dataset *d = NULL;
    const char *path = file_new("lines.jsonl", "\n" FLAT("a", "서울", "10") "\n\n"
                                FLAT("b", "부산", "10") "\n" FLAT("a", "940만", "24") "\n");
    CHECK(mrc_dataset_load(ctx, &d, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    const mrc_example *x = mrc_dataset_at(d, 0), *y = mrc_dataset_at(d, 1);
    CHECK(x && y && !mrc_dataset_at(d, 2), "2 rows");
    CHECK(x->context == y->context, "contexts are stored once");
    CHECK(!strcmp(x->id, "a") && !strcmp(x->title, "t") && !strcmp(x->question, "수도는?"),
          "texts");
    CHECK(x->n_answers == 1 && x->answers[0].answer_start == 10 && x->answers[0].bytes == 6,
          "answer");
    CHECK(n_messages == 2 && strstr(message, "an id that another has"), "%d: %s", n_messages,
          message);
    mrc_dataset_free(d);

    // Everything that has an id stays when questions are loaded.
    CHECK(mrc_dataset_load_questions(ctx, &d, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_dataset_size(d) == 3 && mrc_dataset_at(d, 1)->answers[0].answer_start == -1 &&
          mrc_dataset_at(d, 2)->answers[0].answer_start == 24, "3 questions");
    mrc_dataset_free(d);
    CHECK(mrc_dataset_load_questions(ctx, &d, file_new("few.json", NESTED("5", "{\"id\": \"a\"}, "
          "{\"question\": \"q\"}, {\"id\": \"b\", \"answers\": [{\"text\": \"x\"}, {}]}"))) ==
          MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_dataset_size(d) == 2 && mrc_dataset_rows(d) == 3, "%zu", mrc_dataset_size(d));
    CHECK(mrc_dataset_at(d, 0)->n_answers == 0 && !*mrc_dataset_at(d, 0)->context, "bare row");
    CHECK(mrc_dataset_at(d, 1)->n_answers == 1, "one text");
    CHECK(!strcmp(mrc_dataset_version(d), "KorQuAD_v1.0_dev"), "%s", mrc_dataset_version(d));
    mrc_dataset_free(d);
    CHECK(mrc_dataset_load(ctx, &d, "no/such/file") == MRC_ERR_ARG && !d, "missing file");
    mrc_ctx_free(ctx);
}

// NULs count: text in JSON may hold them.
static void test_dataset_nul(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_dataset *d = NULL;
    CHECK(mrc_dataset_load(ctx, &d, file_new("nul.json", NESTED("\"a\\u0000b 서울\"",
          QA(ANSWER("서울", "4"))))) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_dataset_size(d) == 1 && mrc_dataset_at(d, 0)->context_bytes == 10, "NUL inside");
    mrc_dataset_free(d);
    mrc_ctx_free(ctx);
}

// The verdicts of cases/squad: ok and warn keep rows, skip leaves some out, error refuses the file.
static void test_squad_corpus(void) {
    mrc_ctx *ctx = ctx_new();
    char *text = NULL;
    size_t bytes, files = 0;
    if (!CHECK(mrc_file_read(ctx, &text, &bytes, shared("cases/squad/manifest.tsv")) == MRC_OK,
               "%s", mrc_ctx_message(ctx))) {
        mrc_ctx_free(ctx);
        return;
    }
    for (char *line = strtok(text, "\n"); (line = strtok(NULL, "\n")) != NULL; files++) {
        char name[128], verdict[16], path[256];
        mrc_dataset *d = NULL;
        if (!CHECK(sscanf(line, "%127s %15s", name, verdict) == 2, "%s", line)) continue;
        snprintf(path, sizeof path, "cases/squad/%s", name);
        mrc_ctx *own = ctx_new();
        mrc_status status = mrc_dataset_load(own, &d, shared(path));
        size_t left_out = d ? mrc_dataset_rows(d) - mrc_dataset_size(d) : 0;
        const char *said = mrc_ctx_message(own);
        if (!strcmp(verdict, "error")) {
            const char *place = strstr(said, ".json:");
            CHECK(status == MRC_ERR_FORMAT && place && place[6] >= '1' && place[6] <= '9',
                  "%s: %d %s", name, status, said);
        } else {
            CHECK(status == MRC_OK, "%s: %s", name, said);
            CHECK(!strcmp(verdict, "skip") ? left_out == 1 && n_messages == 1 : left_out == 0,
                  "%s: %zu left out, %d messages", name, left_out, n_messages);
            if (!strcmp(verdict, "warn")) CHECK(n_messages == 1, "%s: no warning", name);
        }
        mrc_dataset_free(d);
        mrc_ctx_free(own);
    }
    CHECK(files == 50, "%zu files", files);
    mrc_file_free(ctx, text);
    mrc_ctx_free(ctx);
}

//==============================================================================
// Encoders
//==============================================================================
static const char vocab[] = "[CLS]\n[PAD]\n[SEP]\n[UNK]\n[MASK]\n"
                            "a\nb\nc\nd\ne\nf\ng\nh\n##x\nq\n?\n";

static mrc_status encode(mrc_ctx *ctx, mrc_features *f, const char *rows,
                         const mrc_features_config *config) {
    mrc_dataset *d = NULL;
    mrc_tokenizer *tok = NULL;
    mrc_status status = mrc_dataset_load(ctx, &d, file_new("encode.jsonl", rows));
    if (status == MRC_OK) status = mrc_tokenizer_load(ctx, &tok, file_new("vocab.txt", vocab));
    if (status == MRC_OK) status = mrc_features_new(ctx, f, d, tok, config);
    mrc_tokenizer_free(tok);
    mrc_dataset_free(d);
    return status;
}

#define ROW(context, question, text, start) "{\"id\": \"r\", \"context\": \"" context "\", " \
    "\"question\": \"" question "\", \"answers\": {\"text\": [\"" text "\"], \"answer_start\": [" \
    start "]}}\n"

// From memory: copies, equal contexts once, the index where there is no id.
static void test_dataset_memory(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_dataset *d = NULL;
    char context[] = "\xed\x95\x9c\xea\xb5\xad is here";
    mrc_answer right = { .text = "is", .bytes = 2, .answer_start = 3 };
    mrc_answer wrong = { .text = "is", .bytes = 2, .answer_start = 4 };
    mrc_answer outside = { .text = "is", .bytes = 2, .answer_start = 99 };
    mrc_example list[2] = {
        { .id = "a", .context = context, .context_bytes = strlen(context), .question = "where?",
          .question_bytes = 6, .answers = &right, .n_answers = 1 },
        { .context = context, .context_bytes = strlen(context), .question = "", .title = "t" } };
    CHECK(mrc_dataset_new(ctx, &d, list, 2) == MRC_OK, "%s", mrc_ctx_message(ctx));
    context[0] = 'x';
    const mrc_example *a = mrc_dataset_at(d, 0), *b = mrc_dataset_at(d, 1);
    CHECK(a && b && !mrc_dataset_at(d, 2) && a->context == b->context, "two rows, one context");
    CHECK(a && !strcmp(a->id, "a") && !strcmp(a->context, "\xed\x95\x9c\xea\xb5\xad is here")
          && a->n_answers == 1 && !strcmp(a->answers[0].text, "is") && !*a->title, "a copy");
    CHECK(b && !strcmp(b->id, "1") && !strcmp(b->title, "t") && !b->n_answers, "the second row");
    mrc_dataset_free(d);
    CHECK(mrc_dataset_new(ctx, &d, NULL, 0) == MRC_OK && mrc_dataset_size(d) == 0, "none");
    mrc_dataset_free(d);
    for (int i = 0; i < 4; i++) {
        mrc_example bad = list[0];
        bad.context = i == 0 ? "\xff" : i == 1 ? NULL : "\xed\x95\x9c\xea\xb5\xad is here";
        bad.context_bytes = i == 0 ? 1 : 14;
        bad.answers = i == 2 ? &wrong : i == 3 ? &outside : &right;
        CHECK(mrc_dataset_new(ctx, &d, &bad, 1) == MRC_ERR_ARG && !d, "case %d", i);
        mrc_ctx_clear_error(ctx);
    }
    mrc_ctx_free(ctx);
}

static void test_offsets(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_features f = {0};
    mrc_features_config c = mrc_features_config_default();
    c.max_seq_length = 9;           // [CLS] q ? [SEP], four of the passage, [SEP]
    c.doc_stride = 2;
    CHECK(encode(ctx, &f, ROW("a b cx d e f g", "  q?", "d e", "7"), &c) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    // a b c ##x | c ##x d e | d e f g
    CHECK(f.n == 3 && f.rows == 1 && f.kept == 1, "%zu windows", f.n);
    static const int32_t ids[3][9] = { { 0, 14, 15, 2, 5, 6, 7, 13, 2 },
        { 0, 14, 15, 2, 7, 13, 8, 9, 2 }, { 0, 14, 15, 2, 8, 9, 10, 11, 2 } };
    static const int32_t ends[3][2] = { { 0, 0 }, { 6, 7 }, { 4, 5 } };
    for (size_t w = 0; w < f.n && w < 3; w++) {
        const mrc_feature *x = &f.list[w];
        CHECK(x->length == 9 && x->real_len == 9 && !memcmp(x->input_ids, ids[w], sizeof ids[w]),
              "window %zu: ids", w);
        CHECK(x->window_index == (int32_t)w && x->loss_begin == 0 && x->loss_end == 9,
              "window %zu", w);
        CHECK(x->start_position == ends[w][0] && x->end_position == ends[w][1],
              "window %zu: %d, %d", w, x->start_position, x->end_position);
        CHECK(x->offset_mapping[3][0] == -1 && x->offset_mapping[8][1] == -1 &&
              x->token_type_ids[3] == 0 && x->token_type_ids[8] == 1, "window %zu: outside", w);
    }
    CHECK(f.n == 3 && f.list[1].offset_mapping[5][0] == 5 && f.list[1].offset_mapping[5][1] == 6,
          "offsets");
    mrc_features_free(&f);

    // The answer in the window's last token: HF labels the [SEP] behind it, or the last pad.
    c.pad_to_max_length = 1;
    c.max_seq_length = 12;
    CHECK(encode(ctx, &f, ROW("a b c", "q?", "c", "4"), &c) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(f.n == 1 && f.list[0].length == 12 && f.list[0].real_len == 8 && f.list[0].loss_end == 12
          && f.list[0].input_ids[11] == 1 && f.list[0].offset_mapping[11][0] == -1, "pads");
    CHECK(f.list[0].start_position == 6 && f.list[0].end_position == 6, "last token: %d, %d",
          f.list[0].start_position, f.list[0].end_position);
    mrc_features_free(&f);
    c.with_targets = 0;
    CHECK(encode(ctx, &f, ROW("a b c", "q?", "c", "4"), &c) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(f.n == 1 && f.list[0].start_position == -1, "no targets");
    mrc_features_free(&f);
    mrc_ctx_free(ctx);
}

// A question that leaves no room takes its row with it, unless nothing has to be cut.
static void test_long_questions(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_features f = {0};
    mrc_features_config c = mrc_features_config_default();
    c.max_seq_length = 9;
    c.doc_stride = 3;
    CHECK(encode(ctx, &f, ROW("a b c d e", "q q q q q q q q", "c", "4")
                 ROW("a b c d e f", "q q q q", "c", "4") ROW("a b", "q q q q", "b", "2")
                 ROW("a b c d e f", "q", "c", "4"), &c) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(f.rows == 4 && f.kept == 2 && f.dropped[0].count == 2 && !f.dropped[1].reason,
          "%zu kept, %zu dropped", f.kept, f.dropped[0].count);
    CHECK(f.n > 0 && f.list[0].example_index == 2 && f.list[0].end_position == 7, "row 2");
    mrc_features_free(&f);
    c.doc_stride = 6;
    CHECK(encode(ctx, &f, ROW("a", "q", "a", "0"), &c) == MRC_ERR_ARG, "stride too wide");
    CHECK(strstr(mrc_ctx_message(ctx), "doc_stride 6") != NULL, "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    c.magic = 0;
    CHECK(encode(ctx, &f, ROW("a", "q", "a", "0"), &c) == MRC_ERR_ARG, "zeroed config");
    mrc_ctx_free(ctx);
}

static void test_sentinel(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_features f = {0};
    mrc_features_config c = mrc_features_config_default();
    c.kind = MRC_ENCODING_SENTINEL;
    c.max_seq_length = 12;
    // "ax" alone is a ##x; what follows the answer loses its "##".
    CHECK(encode(ctx, &f, ROW("b axx c", "q?", "ax", "2") ROW("a [MASK] b", "q?", "a", "0")
                 ROW("a b c d e f g h a b c d", "q?", "d", "22"), &c) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    static const int32_t ids[] = { 0, 14, 15, 2, 6, 5, 13, 3, 7, 2 };
    static const int32_t offsets[][2] = { { 0, 1 }, { 2, 3 }, { 3, 4 }, { 4, 5 }, { 6, 7 } };
    CHECK(f.rows == 3 && f.kept == 1 && f.n == 1, "%zu kept", f.kept);
    if (f.n == 1) {
        const mrc_feature *x = &f.list[0];
        CHECK(x->real_len == 10 && !memcmp(x->input_ids, ids, sizeof ids), "ids");
        CHECK(x->start_position == 5 && x->end_position == 6, "%d, %d", x->start_position,
              x->end_position);
        CHECK(!memcmp(x->offset_mapping + 4, offsets, sizeof offsets), "offsets");
        // The answer's two tokens are one word, and so are all others: what the pipeline grows to.
        const int32_t *w = x->word_ids + 4;
        CHECK(w[0] >= 0 && w[1] != w[0] && w[2] == w[1] && w[3] != w[2] && w[4] != w[3]
              && x->word_ids[3] == -1, "words %d %d %d %d %d", w[0], w[1], w[2], w[3], w[4]);
        float start[10] = { 0 }, end[10] = { 0 };
        mrc_window_logits window = { x, start, end };
        mrc_example e = { .context = "b axx c", .context_bytes = 7 };
        mrc_decode_input in = { .windows = &window, .n_windows = 1, .example = &e };
        mrc_decode_config dc = mrc_decode_config_default();
        mrc_span out[2];
        size_t n = 0;
        start[6] = end[6] = 9;                  // ##x of "ax"
        dc.kind = MRC_DECODE_PIPELINE;
        dc.n_best_size = 1;
        CHECK(mrc_decode(ctx, &dc, &in, out, 2, &n) == MRC_OK && n == 1 && out[0].begin == 2
              && out[0].end == 4, "%s: %d to %d", mrc_ctx_message(ctx), out[0].begin, out[0].end);
    }
    CHECK(f.dropped[0].reason && !strcmp(f.dropped[0].reason, "mask token in the text") &&
          f.dropped[1].reason && !strcmp(f.dropped[1].reason, "answer truncated"), "reasons");
    mrc_features_free(&f);
    mrc_ctx_free(ctx);
}

static void test_reference_counts(void) {
    static const struct { const char *file; size_t rows, kept, windows; } cases[] = {
        { "data/mrc/mrc_train.jsonl", 3952, 3706, 7978 },
        { "data/mrc/mrc_validation.jsonl", 240, 220, 474 } };
    mrc_ctx *ctx = ctx_new();
    mrc_tokenizer *tok = NULL;
    CHECK(mrc_tokenizer_load(ctx, &tok, shared("data/klue")) == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (size_t i = 0; tok && i < 2; i++) {
        mrc_dataset *d = NULL;
        mrc_features f = {0};
        mrc_features_config c = mrc_features_config_default();
        CHECK(mrc_dataset_load(ctx, &d, shared(cases[i].file)) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
        c.kind = MRC_ENCODING_SENTINEL;
        CHECK(mrc_features_new(ctx, &f, d, tok, &c) == MRC_OK, "%s", mrc_ctx_message(ctx));
        CHECK(f.rows == cases[i].rows && f.kept == cases[i].kept, "%s: %zu rows -> %zu kept",
              cases[i].file, f.rows, f.kept);
        mrc_features_free(&f);
        c = mrc_features_config_default();
        c.max_seq_length = 384;
        CHECK(mrc_features_new(ctx, &f, d, tok, &c) == MRC_OK, "%s", mrc_ctx_message(ctx));
        CHECK(f.n == cases[i].windows, "%s: %zu windows", cases[i].file, f.n);
        mrc_features_free(&f);
        mrc_dataset_free(d);
    }
    mrc_tokenizer_free(tok);
    mrc_ctx_free(ctx);
}

static int same_ids(const mrc_json *list, const int32_t *ids, int32_t n) {
    int32_t i = 0;
    if (!list || list->n != (size_t)n) return 0;
    for (const mrc_json *v = list->child; v; v = v->next) {
        if (v->integer != ids[i++]) return 0;
    }
    return 1;
}

// 474 windows as klue/bert-base's tokenizer made them.
static void test_windows(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_tokenizer *tok = NULL;
    mrc_dataset *d = NULL;
    mrc_features f = {0};
    mrc_features_config c = mrc_features_config_default();
    char *text = NULL;
    size_t bytes = 0, i = 0, wrong = 0;
    c.max_seq_length = 384;
    mrc_tokenizer_load(ctx, &tok, shared("data/klue/vocab.bert.txt"));
    mrc_dataset_load(ctx, &d, shared("data/mrc/mrc_validation.jsonl"));
    mrc_file_read(ctx, &text, &bytes,
                  shared("cases/tokenizer/klue_bert_base_validation_features_384_128.jsonl"));
    if (CHECK(tok && d && text && mrc_features_new(ctx, &f, d, tok, &c) == MRC_OK, "%s",
              mrc_ctx_message(ctx))) {
        for (char *line = text, *end; (end = strchr(line, '\n')) && i < f.n; line = end + 1, i++) {
            const mrc_feature *x = &f.list[i];
            mrc_json *w = NULL;
            mrc_json_parse(ctx, &w, "window", line, (size_t)(end - line), 0);
            int inside = w && mrc_json_get(w, "answer_inside")->type == MRC_JSON_TRUE;
            wrong += !w || !same_ids(mrc_json_get(w, "input_ids"), x->input_ids, x->length) ||
                     !same_ids(mrc_json_get(w, "token_type_ids"), x->token_type_ids, x->length) ||
                     mrc_json_get(w, "window")->integer != x->window_index ||
                     inside != (x->start_position > 0);
            mrc_json_free(w);
        }
    }
    CHECK(i == 474 && f.n == 474 && wrong == 0, "%zu of %zu windows, %zu wrong", i, f.n, wrong);
    mrc_features_free(&f);
    mrc_file_free(ctx, text);
    mrc_dataset_free(d);
    mrc_tokenizer_free(tok);
    mrc_ctx_free(ctx);
}

//==============================================================================
// Batch plans
//==============================================================================
enum { PLAN_MAX = 1000 };
static mrc_feature plan_features[PLAN_MAX];

// Once each, batches not empty and not too large; returns a number that depends on the order.
static uint64_t plan_check(mrc_ctx *ctx, size_t n, mrc_batching kind, size_t size, uint64_t seed,
                           uint32_t epoch) {
    mrc_features f = { .n = n, .list = plan_features };
    mrc_batch_plan p = {0};
    uint8_t seen[PLAN_MAX] = {0};
    uint64_t hash = 14695981039346656037u;
    size_t longest = 0;
    for (size_t i = 0; i < n; i++) {
        plan_features[i].length = (int32_t)(5 + (i * 7919) % 97);
        if ((size_t)plan_features[i].length > longest) longest = (size_t)plan_features[i].length;
    }
    if (!CHECK(mrc_batch_plan_new(ctx, &p, &f, kind, size, seed, epoch) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) return 0;
    for (size_t b = 0; b < p.n_batches; b++) {
        size_t rows = 0, in = p.begin[b + 1] - p.begin[b];
        for (size_t i = p.begin[b]; i < p.begin[b + 1]; i++) {
            seen[p.feature[i]]++;
            rows += (size_t)plan_features[p.feature[i]].length;
            hash = (hash ^ p.feature[i]) * 1099511628211u;
            if (kind == MRC_BATCHING_SEQUENTIAL) CHECK(p.feature[i] == i, "place %zu", i);
        }
        CHECK(in > 0 && (kind == MRC_BATCHING_TOKEN_BUDGET ? rows <= size * longest : in <= size),
              "kind %d, batch %zu: %zu features, %zu rows", (int)kind, b, in, rows);
    }
    CHECK(p.begin[0] == 0 && p.begin[p.n_batches] == n, "ends");
    if (kind != MRC_BATCHING_TOKEN_BUDGET) {
        CHECK(p.n_batches == (n + size - 1) / size, "%zu batches", p.n_batches);
    }
    for (size_t i = 0; i < n; i++) CHECK(seen[i] == 1, "feature %zu: %d times", i, seen[i]);
    mrc_batch_plan_free(&p);
    return hash;
}

static void test_plans(void) {
    mrc_ctx *ctx = ctx_new();
    static const size_t sizes[][2] = { { 0, 4 }, { 1, 4 }, { 7, 10 }, { 64, 1 }, { 1000, 8 },
                                       { 999, 10 } };
    for (int kind = MRC_BATCHING_RANDOM; kind <= MRC_BATCHING_TOKEN_BUDGET; kind++) {
        mrc_batching k = (mrc_batching)kind;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t n = sizes[i][0], size = sizes[i][1];
            uint64_t a = plan_check(ctx, n, k, size, 1, 0);
            uint64_t again = plan_check(ctx, n, k, size, 1, 0);
            uint64_t next = plan_check(ctx, n, k, size, 1, 1);
            uint64_t seed = plan_check(ctx, n, k, size, 2, 0);
            CHECK(a == again, "kind %d: two plans for one epoch", kind);
            if (n < 64) continue;
            CHECK((kind == MRC_BATCHING_SEQUENTIAL) == (a == next && a == seed),
                  "kind %d: epochs and seeds", kind);
        }
    }
    // Fixed for ever: resuming must make the same plan in every build.
    unsigned long long mixed = plan_check(ctx, 100, MRC_BATCHING_RANDOM, 8, 42, 3);
    unsigned long long sorted = plan_check(ctx, 100, MRC_BATCHING_SORTED, 8, 42, 3);
    CHECK(mixed == 0xe5e282b72a457b33u && sorted == 0xbb5273242ccb73a9u, "%llx %llx", mixed,
          sorted);
    mrc_features f = { .n = 3, .list = plan_features };
    mrc_batch_plan p;
    CHECK(mrc_batch_plan_new(ctx, &p, &f, MRC_BATCHING_RANDOM, 0, 1, 0) == MRC_ERR_ARG, "size 0");
    mrc_ctx_free(ctx);
}

// Sorting pays: batches of one length need fewer pads.
static void test_plan_padding(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_features f = { .n = PLAN_MAX, .list = plan_features };
    size_t padded[2] = {0};
    plan_check(ctx, PLAN_MAX, MRC_BATCHING_RANDOM, 8, 1, 0);        // sets the lengths
    for (int sorted = 0; sorted < 2; sorted++) {
        mrc_batch_plan p;
        mrc_batching kind = sorted ? MRC_BATCHING_SORTED : MRC_BATCHING_RANDOM;
        mrc_batch_plan_new(ctx, &p, &f, kind, 8, 1, 0);
        for (size_t b = 0; b < p.n_batches; b++) {
            size_t longest = 0, in = p.begin[b + 1] - p.begin[b];
            for (size_t i = p.begin[b]; i < p.begin[b + 1]; i++) {
                size_t length = (size_t)plan_features[p.feature[i]].length;
                longest = length > longest ? length : longest;
            }
            padded[sorted] += longest * in;
        }
        mrc_batch_plan_free(&p);
    }
    CHECK(padded[1] * 10 < padded[0] * 7, "%zu rows against %zu", padded[1], padded[0]);
    mrc_ctx_free(ctx);
}

//==============================================================================
// Decoding
//==============================================================================
enum { ROWS = 12, BEST = 20 };
typedef struct candidate { float score; mrc_span span; size_t order; } candidate;
typedef struct ranked { float value; size_t row; } ranked;

static int by_score(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}
static int by_value(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->value > y->value || x->value < y->value) return x->value > y->value ? -1 : 1;
    return x->row > y->row ? -1 : 1;
}

// PARITY 3.5 by sorting everything.
static size_t decode_slowly(const mrc_window_logits *w, size_t n_windows, size_t best,
                            size_t max_length, candidate *out) {
    size_t n = 0;
    for (size_t k = 0; k < n_windows; k++) {
        size_t rows = (size_t)w[k].feature->length;
        ranked s[ROWS], e[ROWS];
        for (size_t i = 0; i < rows; i++) {
            s[i] = (ranked){ w[k].start[i], i };
            e[i] = (ranked){ w[k].end[i], i };
        }
        qsort(s, rows, sizeof *s, by_value);
        qsort(e, rows, sizeof *e, by_value);
        for (size_t a = 0; a < rows && a < best; a++) {
            for (size_t b = 0; b < rows && b < best; b++) {
                size_t i = s[a].row, j = e[b].row;
                if (w[k].feature->offset_mapping[i][0] < 0 || w[k].feature->offset_mapping[j][0] < 0
                    || j < i || j - i + 1 > max_length) continue;
                out[n] = (candidate){ .score = s[a].value + e[b].value, .order = n };
                out[n].span.begin = w[k].feature->offset_mapping[i][0];
                out[n].span.end = w[k].feature->offset_mapping[j][1];
                n++;
            }
        }
    }
    qsort(out, n, sizeof *out, by_score);
    return n < best ? n : best;
}

// Windows of no example in particular.
static mrc_status decode(mrc_ctx *ctx, const mrc_decode_config *c, const mrc_window_logits *w,
                         size_t n_windows, mrc_span *out, size_t *n) {
    mrc_decode_input in = { .windows = w, .n_windows = n_windows };
    return mrc_decode(ctx, c, &in, out, BEST + 1, n);
}

static void test_decode_spans(void) {
    mrc_ctx *ctx = ctx_new();
    static candidate expected[4 * ROWS * ROWS];
    int wrong = 0, empty = 0;
    for (int round = 0; round < 2000; round++) {
        int32_t offsets[3][ROWS][2];
        float start[3][ROWS], end[3][ROWS];
        mrc_feature f[3] = {{0}};
        mrc_window_logits w[3];
        mrc_span out[BEST + 1];
        mrc_decode_config c = mrc_decode_config_default();
        size_t n_windows = 1 + (size_t)round % 3, n;
        c.n_best_size = 1 + (size_t)(round / 3) % BEST;
        c.max_answer_length = 1 + (size_t)(round / 5) % 6;
        for (size_t k = 0; k < n_windows; k++) {
            for (int i = 0; i < ROWS; i++) {
                int in = i > round % 4 && i < ROWS - round % 10;
                offsets[k][i][0] = in ? 3 * i + (int)k : -1;
                offsets[k][i][1] = in ? 3 * i + 3 : -1;
                // Few values, so that ties are common.
                start[k][i] = (float)floor(test_random() * 4) / 4;
                end[k][i] = (float)floor(test_random() * 4) / 4;
            }
            f[k].length = ROWS;
            f[k].offset_mapping = offsets[k];
            w[k] = (mrc_window_logits){ &f[k], start[k], end[k] };
        }
        if (!CHECK(decode(ctx, &c, w, n_windows, out, &n) == MRC_OK, "%s",
                   mrc_ctx_message(ctx))) break;
        size_t m = decode_slowly(w, n_windows, c.n_best_size, c.max_answer_length, expected);
        double sum = 0;
        empty += out[0].kind == MRC_SPAN_EMPTY;
        wrong += m ? n != m : n != 1 || out[0].kind != MRC_SPAN_EMPTY;
        for (size_t i = 0; i < n; i++) {
            sum += out[i].probability;
            wrong += m && (out[i].begin != expected[i].span.begin ||
                           out[i].end != expected[i].span.end);
        }
        wrong += !(fabs(sum - 1) < 1e-6);
    }
    CHECK(wrong == 0 && empty > 0, "%d wrong, %d empty", wrong, empty);
    mrc_ctx_free(ctx);
}

static void test_decode_edges(void) {
    mrc_ctx *ctx = ctx_new();
    int32_t offsets[3][2] = { { -1, -1 }, { 0, 2 }, { 3, 5 } };
    mrc_feature f = { .length = 3, .offset_mapping = offsets };
    float bad[3] = { NAN, NAN, NAN }, low[3] = { -INFINITY, -INFINITY, -INFINITY };
    float some[3] = { NAN, 1, -INFINITY }, high[3] = { INFINITY, INFINITY, INFINITY };
    float fine[3] = { 0, 2, 1 };
    float *logits[] = { bad, low, some, high };
    mrc_decode_config c = mrc_decode_config_default();
    mrc_span out[BEST + 1];
    size_t n;
    for (size_t i = 0; i < 4; i++) {
        mrc_window_logits w = { &f, logits[i], logits[i] };
        CHECK(decode(ctx, &c, &w, 1, out, &n) == MRC_OK && n == 1, "logits %zu", i);
        CHECK(i == 2 ? out[0].kind == MRC_SPAN_TEXT && out[0].end == 2
                     : out[0].kind == MRC_SPAN_EMPTY, "logits %zu: span", i);
        CHECK(out[0].probability >= 1 && out[0].probability <= 1, "logits %zu: %g", i,
              out[0].probability);
    }
    CHECK(decode(ctx, &c, NULL, 0, out, &n) == MRC_OK && n == 1 &&
          out[0].kind == MRC_SPAN_EMPTY, "no window");
    // A single span without text gets the fallback before it.
    offsets[1][1] = 0;
    offsets[2][0] = offsets[2][1] = -1;
    mrc_window_logits w = { &f, fine, fine };
    CHECK(decode(ctx, &c, &w, 1, out, &n) == MRC_OK && n == 2 &&
          out[0].kind == MRC_SPAN_EMPTY && out[1].kind == MRC_SPAN_TEXT, "%zu", n);
    CHECK(fabs(out[1].probability - 1 / (1 + exp(-4))) < 1e-12, "%g", out[1].probability);
    c.n_best_size = 0;
    CHECK(decode(ctx, &c, &w, 1, out, &n) == MRC_ERR_ARG, "n_best_size 0");
    mrc_ctx_clear_error(ctx);
    c.n_best_size = 20;
    c.temperature = NAN;
    CHECK(decode(ctx, &c, &w, 1, out, &n) == MRC_ERR_ARG, "no temperature");
    mrc_ctx_free(ctx);
}

// A size near SIZE_MAX must not wrap in any decoder, and too little room is refused.
static void test_decode_sizes(void) {
    static const size_t sizes[] = { 0, MRC_N_BEST_MAX + 1, SIZE_MAX / 3, SIZE_MAX / 2, SIZE_MAX - 1,
                                    SIZE_MAX };
    mrc_ctx *ctx = ctx_new();
    int32_t offsets[3][2] = { { -1, -1 }, { 0, 2 }, { 3, 5 } }, words[3] = { -1, 0, 1 };
    int32_t ids[3] = { 0, 1, 1 };
    float logits[3] = { 0, 2, 1 };
    mrc_feature f = { .length = 3, .offset_mapping = offsets, .word_ids = words, .input_ids = ids };
    mrc_window_logits w = { &f, logits, logits };
    mrc_example x = { .context = "ab cd", .context_bytes = 5 };
    mrc_tokenizer *tok = NULL;
    mrc_span out[2];
    size_t n;
    mrc_tokenizer_load(ctx, &tok, file_new("vocab.txt", vocab));
    mrc_decode_input in = { &w, 1, &x, tok };
    for (int kind = 0; kind < 3; kind++) {
        mrc_decode_config c = mrc_decode_config_default();
        c.kind = (mrc_decode_kind)kind;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            c.n_best_size = sizes[i];
            CHECK(mrc_decode(ctx, &c, &in, out, SIZE_MAX, &n) == MRC_ERR_ARG && n == 0
                  && strstr(mrc_ctx_message(ctx), "n_best_size"), "kind %d, n_best_size %zu: %s",
                  kind, sizes[i], mrc_ctx_message(ctx));
            mrc_ctx_clear_error(ctx);
        }
        c.n_best_size = 1;
        CHECK(mrc_decode(ctx, &c, &in, out, 1, &n) == MRC_ERR_ARG, "room for one");
        mrc_ctx_clear_error(ctx);
        CHECK(mrc_decode(ctx, &c, &in, out, 2, &n) == MRC_OK && n > 0, "%s", mrc_ctx_message(ctx));
        mrc_decode_input nothing = { &w, 1, NULL, NULL };
        CHECK(mrc_decode(ctx, &c, &nothing, out, 2, &n) == (kind ? MRC_ERR_ARG : MRC_OK),
              "kind %d without an example", kind);
        mrc_ctx_clear_error(ctx);
    }
    mrc_decode_config c = mrc_decode_config_default();
    c.kind = (mrc_decode_kind)9;
    CHECK(mrc_decode(ctx, &c, &in, out, SIZE_MAX, &n) == MRC_ERR_ARG, "no such kind");
    // A window without rows has no first row to read.
    mrc_feature none = { .length = 0 };
    mrc_window_logits empty = { &none, NULL, NULL };
    c = mrc_decode_config_default();
    c.version_2_with_negative = 1;
    CHECK(decode(ctx, &c, &empty, 1, (mrc_span[BEST + 1]){{ 0 }}, &n) == MRC_OK && n == 1,
          "a window of no rows");
    const mrc_span *answer = mrc_decode_answer(&c, NULL, 0, NULL);
    CHECK(answer && answer->kind == MRC_SPAN_NULL, "no span");
    mrc_tokenizer_free(tok);
    mrc_ctx_free(ctx);
}

// Each window of the pipeline gives twice the spans that are wanted, and ten, before equal texts
// are one; with words as they are, as many as are wanted.
static void test_decode_pipeline(void) {
    mrc_ctx *ctx = ctx_new();
    // [CLS] "go" "##ing" "go" "a": a word of two tokens, the same word again.
    int32_t offsets[5][2] = { { -1, -1 }, { 0, 2 }, { 2, 5 }, { 6, 8 }, { 9, 10 } };
    int32_t words[5] = { -1, 0, 0, 1, 2 };
    float start[5] = { 0, 3, 2.5f, 1, 0 }, end[5] = { 0, 1, 3, 0.5f, 0 };
    mrc_feature f = { .length = 5, .offset_mapping = offsets, .word_ids = words };
    mrc_window_logits w = { &f, start, end };
    mrc_example x = { .context = "GOing go a", .context_bytes = 10 };
    mrc_decode_input in = { &w, 1, &x, NULL };
    mrc_decode_config c = mrc_decode_config_default();
    mrc_span out[2];
    size_t n;
    double p[2][5], sum[2] = { 0, 0 };
    for (int i = 0; i < 5; i++) {
        sum[0] += p[0][i] = exp((double)start[i]);
        sum[1] += p[1][i] = exp((double)end[i]);
    }
    c.kind = MRC_DECODE_PIPELINE;
    c.n_best_size = 1;
    c.max_answer_length = 2;
    CHECK(mrc_decode(ctx, &c, &in, out, 2, &n) == MRC_OK && n == 1, "%s", mrc_ctx_message(ctx));
    double all = (p[0][1] * (p[1][1] + p[1][2]) + p[0][2] * p[1][2]) / sum[0] / sum[1];
    CHECK(out[0].begin == 0 && out[0].end == 5 && fabs(out[0].probability - all) < 1e-6,
          "%d to %d, %g, expected %g", out[0].begin, out[0].end, out[0].probability, all);
    c.align_to_words = 0;
    CHECK(mrc_decode(ctx, &c, &in, out, 2, &n) == MRC_OK && n == 1, "%s", mrc_ctx_message(ctx));
    all = p[0][1] * p[1][2] / sum[0] / sum[1];
    CHECK(out[0].begin == 0 && out[0].end == 5 && fabs(out[0].probability - all) < 1e-6,
          "tokens: %d to %d, %g, expected %g", out[0].begin, out[0].end, out[0].probability, all);
    mrc_ctx_free(ctx);
}

// Two windows of tokens 0-5 and 3-8: token 3 is seen best in neither's first row.
// One span of tokens, as the older code gives it back: where, and its text.
static void test_decode_legacy(void) {
    static const struct { const char *context; int first, last, begin; const char *text; }
    cases[] = {
        { "a b\\u202fc", 1, 2, 2, "b c" },          // words that this space parts
        { "a\\t\\nb?", 0, 1, 0, "a b" },            // not all of the last word
        { "a zz?", 1, 1, 2, "zz?" },                // [UNK] stands nowhere: the whole word
        { "a b\\u00a0? c", 1, 1, 2, "b\xc2\xa0?" }, // a space inside a word: not as many characters
        { "b ax", 2, 2, 2, "ax" },                  // ##x, without what it continues
        { "b?b?", 2, 2, 0, "b" },                   // the first of two
        { "ax  b", 0, 2, 0, "ax b" },
    };
    mrc_ctx *ctx = ctx_new();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mrc_dataset *d = NULL;
        mrc_tokenizer *tok = NULL;
        mrc_features f = {0};
        mrc_features_config c = mrc_features_config_default();
        mrc_decode_config dc = mrc_decode_config_default();
        mrc_span out[BEST + 1];
        mrc_text row, text;
        float start[16], end[16];
        size_t n = 0;
        mrc_text_init(&row, ctx);
        mrc_text_init(&text, ctx);
        mrc_text_printf(&row, "{\"id\": \"r\", \"context\": \"%s\", \"question\": \"q?\"}\n",
                        cases[i].context);
        c.with_targets = 0;
        c.max_seq_length = 16;
        c.doc_stride = 2;
        for (int k = 0; k < 16; k++) {
            start[k] = k == cases[i].first + 4 ? 9 : 0;     // behind [CLS] q ? [SEP]
            end[k] = k == cases[i].last + 4 ? 9 : 0;
        }
        mrc_dataset_load_questions(ctx, &d, file_new("legacy.jsonl", row.data));
        mrc_tokenizer_load(ctx, &tok, file_new("vocab.txt", vocab));
        CHECK(mrc_features_new(ctx, &f, d, tok, &c) == MRC_OK && f.n == 1, "%s",
              mrc_ctx_message(ctx));
        mrc_window_logits w = { &f.list[0], start, end };
        mrc_decode_input in = { &w, 1, mrc_dataset_at(d, 0), tok };
        dc.kind = MRC_DECODE_LEGACY;
        CHECK(mrc_decode(ctx, &dc, &in, out, BEST + 1, &n) == MRC_OK && n > 0, "%s",
              mrc_ctx_message(ctx));
        size_t bytes;
        mrc_span_text(&out[0], in.example, &text, &bytes);
        mrc_text_add(&text, "", 1);
        CHECK(!text.failed && !strcmp(text.data, cases[i].text) && out[0].begin == cases[i].begin,
              "case %zu: '%s' at %d", i, text.data, (int)out[0].begin);
        mrc_text_free(&row);
        mrc_text_free(&text);
        mrc_features_free(&f);
        mrc_tokenizer_free(tok);
        mrc_dataset_free(d);
    }
    mrc_ctx_free(ctx);
}

static void test_decode_max_context(void) {
    mrc_ctx *ctx = ctx_new();
    int32_t offsets[2][7][2] = {{{ 0 }}};
    float start[2][7], end[2][7];
    mrc_feature f[2] = {{0}};
    mrc_window_logits w[2];
    mrc_span out[BEST + 1];
    mrc_decode_config c = mrc_decode_config_default();
    size_t n = 0;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 7; i++) {
            offsets[k][i][0] = i ? 3 * k + i - 1 : -1;
            offsets[k][i][1] = i ? 3 * k + i : -1;
            start[k][i] = end[k][i] = -(float)i;
        }
        f[k] = (mrc_feature){ .length = 7, .offset_mapping = offsets[k] };
        w[k] = (mrc_window_logits){ &f[k], start[k], end[k] };
    }
    c.max_answer_length = 1;
    CHECK(decode(ctx, &c, w, 2, out, &n) == MRC_OK && n == 12, "%zu", n);
    c.max_context = 1;
    CHECK(decode(ctx, &c, w, 2, out, &n) == MRC_OK && n == 9, "%zu", n);
    // Around 3: two on each side in the first window, none on the left in the second; around 4 and
    // 5 one and none in the first, one and two in the second: a tie goes to the first.
    int from[9] = { 0 };
    for (size_t i = 0; i < n && i < 9; i++) {
        // Logits tell the window: row i of window k has -i twice.
        from[out[i].begin] = (int)-out[i].start_logit == out[i].begin + 1 ? 0 : 1;
    }
    static const int expected[9] = { 0, 0, 0, 0, 0, 1, 1, 1, 1 };
    CHECK(!memcmp(from, expected, sizeof from), "%d %d %d", from[3], from[4], from[5]);
    mrc_ctx_free(ctx);
}

// The best text against "no answer", which is always in the list.
static void test_decode_negative(void) {
    mrc_ctx *ctx = ctx_new();
    int32_t offsets[4][2] = { { -1, -1 }, { 0, 1 }, { 2, 3 }, { -1, -1 } };
    float a[4] = { 5, 1, 2, 0 }, b[4] = { 3, 4, 0, 0 };
    mrc_feature f = { .length = 4, .offset_mapping = offsets };
    mrc_window_logits w[2] = { { &f, a, a }, { &f, b, b } };
    mrc_span out[BEST + 1];
    mrc_decode_config c = mrc_decode_config_default();
    mrc_example x = { .context = "a b", .context_bytes = 3 };
    size_t n = 0, bytes = 0;
    double odds;
    c.version_2_with_negative = 1;
    c.n_best_size = 4;
    CHECK(decode(ctx, &c, w, 2, out, &n) == MRC_OK && n == 4, "%zu", n);
    // 4 + 4 for "a" is above the least null score, 3 + 3.
    const mrc_span *best = mrc_decode_answer(&c, out, n, &odds);
    CHECK(out[1].kind == MRC_SPAN_NULL && best == &out[0] && fabs(odds + 2) < 1e-12, "%g", odds);
    CHECK(!strncmp(mrc_span_text(best, &x, NULL, &bytes), "a", 1) && bytes == 1, "%zu", bytes);
    c.null_score_diff_threshold = -2.5;
    best = mrc_decode_answer(&c, out, n, NULL);
    CHECK(best && best->kind == MRC_SPAN_NULL, "beyond the threshold");
    CHECK(best && !*mrc_span_text(best, &x, NULL, &bytes) && bytes == 0, "%zu", bytes);
    c.n_best_size = 1;
    CHECK(decode(ctx, &c, w, 2, out, &n) == MRC_OK && n == 2 && out[1].kind == MRC_SPAN_NULL,
          "one more");
    double sum = out[0].probability + out[1].probability;
    CHECK(fabs(sum - 1) < 1e-6 && fabs(out[1].probability - 1 / (1 + exp(2))) < 1e-6, "%g", sum);
    c.temperature = 2;
    decode(ctx, &c, w, 2, out, &n);
    CHECK(fabs(out[1].probability - 1 / (1 + exp(1))) < 1e-6, "%g", out[1].probability);
    mrc_ctx_free(ctx);
}

// The probabilities that the reference run wrote, from its logits.
static void test_recorded_probabilities(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_json *root = NULL;
    size_t n_all = 0;
    double worst = 0;
    CHECK(mrc_json_load(ctx, &root, shared("cases/predictions/A_nbest_predictions.json")) == MRC_OK,
          "%s", mrc_ctx_message(ctx));
    for (const mrc_json *q = root ? root->child : NULL; q; q = q->next) {
        // One window per candidate keeps each start with its end.
        static int32_t offsets[BEST][1][2];
        static mrc_feature f[BEST];
        static float start[BEST], end[BEST];
        mrc_window_logits w[BEST];
        mrc_span out[BEST + 1];
        mrc_decode_config c = mrc_decode_config_default();
        size_t n = 0, got;
        for (const mrc_json *v = q->child; v && n < BEST; v = v->next, n++) {
            start[n] = (float)mrc_json_get(v, "start_logit")->number;
            end[n] = (float)mrc_json_get(v, "end_logit")->number;
            offsets[n][0][0] = (int32_t)n;
            offsets[n][0][1] = (int32_t)n + 1;
            f[n] = (mrc_feature){ .length = 1, .offset_mapping = offsets[n] };
            w[n] = (mrc_window_logits){ &f[n], &start[n], &end[n] };
        }
        decode(ctx, &c, w, n, out, &got);
        CHECK(got == n, "%s: %zu of %zu", q->key, got, n);
        const mrc_json *v = q->child;
        for (size_t i = 0; i < got; i++, v = v->next, n_all++) {
            double p = mrc_json_get(v, "probability")->number;
            CHECK(out[i].begin == (int32_t)i, "%s: place %zu", q->key, i);
            double e = fabs(out[i].probability - p);
            if (!(e <= worst)) worst = e;
        }
    }
    CHECK(n_all == 4792 && worst <= 0, "%zu candidates, error %g", n_all, worst);
    mrc_json_free(root);
    mrc_ctx_free(ctx);
}

//==============================================================================
// Metrics
//==============================================================================
// Each made with the official normalisations in Python 3.11.
typedef struct metric_case { const char *p, *g; double exact[2], f1[2]; } metric_case;
static const metric_case metric_cases[] = {
    //                                    KorQuAD, SQuAD
    { "서울", "서울", { 1, 1 }, { 1, 1 } },
    { "《서울》", "서울", { 1, 0 }, { 1, 0 } },
    { "서울 특별시", "서울특별시", { 0, 0 }, { 1, 0 } },
    { "서울시", "서울", { 0, 0 }, { 0.8, 0 } },
    { "The cat", "cat", { 0, 1 }, { 2 * (3.0 / 6) / (3.0 / 6 + 1), 1 } },
    { "a-b", "ab", { 1, 1 }, { 1, 1 } },
    { "the theory", "theory", { 0, 1 }, { 2 * (6.0 / 9) / (6.0 / 9 + 1), 1 } },
    { "!", "", { 1, 1 }, { 0, 0 } },
    { "the", "", { 0, 1 }, { 0, 0 } },
    { "x", "y", { 0, 0 }, { 0, 0 } },
    { "x\xe3\x80\x80 y", " x y\n", { 1, 1 }, { 1, 1 } },
    { "x\x1cy", "x y", { 1, 1 }, { 1, 1 } },
    { "x\xe2\x80\x8by", "x y", { 0, 0 }, { 2 * (2.0 / 3) / (2.0 / 3 + 1), 0 } },  // no white space
    { "ΟΔΟΣ", "οδος", { 1, 1 }, { 1, 1 } },                          // final sigma
    { "ΣΑ Σ", "σα σ", { 1, 1 }, { 1, 1 } },
    { "ΑΣ'Α", "ασα", { 0, 1 }, { 2 * (2.0 / 3) * (2.0 / 3) / (2.0 / 3 + 2.0 / 3), 1 } },
    { "İ", "i\xcc\x87", { 1, 1 }, { 1, 1 } },
    { "a\xcc\x81 b", "\xcc\x81 b", { 0, 1 }, { 0.8, 1 } },           // a mark is no \w
    { "가a나", "가 나", { 0, 0 }, { 0.8, 0 } },                      // Hangul is
    { "an_a", "ana", { 1, 1 }, { 1, 1 } },
    { "b b c", "b c c", { 0, 0 }, { 2 * (2.0 / 3) * (2.0 / 3) / (2.0 / 3 + 2.0 / 3),
                                    2 * (2.0 / 3) * (2.0 / 3) / (2.0 / 3 + 2.0 / 3) } },
};

static int equal(double a, double b) { return a >= b && a <= b; }

static void test_metrics(void) {
    mrc_ctx *ctx = ctx_new();
    for (size_t i = 0; i < sizeof metric_cases / sizeof *metric_cases; i++) {
        const metric_case *c = &metric_cases[i];
        for (int m = 0; m < 2; m++) {
            mrc_answer g[2] = { { "zzz", 3, 0 }, { c->g, strlen(c->g), 0 } };
            double exact, f1;
            CHECK(mrc_metric_score(ctx, (mrc_metric)m, c->p, strlen(c->p), g, 2, &exact, &f1) ==
                  MRC_OK, "%s", mrc_ctx_message(ctx));
            CHECK(equal(exact, c->exact[m]) && equal(f1, c->f1[m]),
                  "metric %d, case %zu (%s): %.17g %.17g", m, i, c->p, exact, f1);
        }
    }
    double exact, f1;
    CHECK(mrc_metric_score(ctx, MRC_METRIC_SQUAD, "x", 1, NULL, 0, &exact, &f1) == MRC_OK &&
          equal(exact, 0) && equal(f1, 0), "no answers");
    CHECK(mrc_metric_score(ctx, MRC_METRIC_SQUAD, "\xff\xfe", 2, NULL, 0, &exact, &f1) == MRC_OK,
          "ill-formed text");
    CHECK(mrc_metric_score(ctx, (mrc_metric)9, "x", 1, NULL, 0, &exact, &f1) == MRC_ERR_ARG,
          "no such metric");
    mrc_ctx_free(ctx);
}

// The scripts' figures are 100.0 * sum / total; the digits of sum * (100 / total) are others.
static void test_means(void) {
    static mrc_scored list[400];
    mrc_ctx *ctx = ctx_new();
    int wrong = 0, others = 0;
    for (size_t n = 1; n <= 400; n++) {
        for (size_t i = 0; i < n; i++) {
            list[i] = (mrc_scored){ .counted = 1, .answerable = 1, .answered = 1 };
        }
        for (size_t k = 0; k <= n; k++) {
            if (k) list[k - 1].exact = list[k - 1].f1 = 1;
            mrc_figures m = mrc_metric_mean(list, n, MRC_SUBSET_ALL);
            double expected = 100.0 * (double)k / (double)n;
            wrong += !equal(m.exact, expected) || !equal(m.f1, expected) || m.total != n;
            others += !equal(expected, (double)k * (100.0 / (double)n));
        }
    }
    CHECK(wrong == 0 && others > 10000, "%d wrong, %d where the order shows", wrong, others);
    // What has no prediction is not counted, and each subset has its own number.
    mrc_scored four[4] = { { 1, 1, -1, 1, 1, 1 }, { 0, 0.5, 3, 1, 1, 1 }, { 1, 1, 5, 1, 0, 0 },
                           { 0, 0, 2, 0, 0, 0 } };
    mrc_figures all = mrc_metric_mean(four, 4, MRC_SUBSET_ALL);
    mrc_figures has = mrc_metric_mean(four, 4, MRC_SUBSET_ANSWERABLE);
    mrc_figures none = mrc_metric_mean(four, 4, MRC_SUBSET_UNANSWERABLE);
    CHECK(all.total == 3 && equal(all.exact, 100.0 * 2 / 3) && has.total == 2
          && equal(has.f1, 75) && none.total == 1 && equal(none.exact, 100), "%zu %zu %zu",
          all.total, has.total, none.total);
    // Two of four are answerable.  Begin with "" for all, 2 right (one is not counted); the first
    // threshold lets the right answer in, the second half a point more.
    double best, threshold;
    CHECK(mrc_metric_best(ctx, four, 4, 1, &best, &threshold) == MRC_OK
          && equal(best, 100.0 * 3.5 / 3) && equal(threshold, 3), "%.17g at %g", best, threshold);
    CHECK(mrc_metric_best(ctx, four, 4, 0, &best, &threshold) == MRC_OK
          && equal(best, 100.0 * 3 / 3) && equal(threshold, -1), "%.17g at %g", best, threshold);
    CHECK(mrc_metric_mean(NULL, 0, MRC_SUBSET_ALL).total == 0, "no question");
    mrc_ctx_free(ctx);
}

// The reference run's figures, digit for digit.
static void test_recorded_figures(void) {
    mrc_ctx *ctx = ctx_new();
    mrc_dataset *d = NULL;
    mrc_json *predictions = NULL;
    double exact = 0, f1 = 0, e, f;
    mrc_dataset_load_questions(ctx, &d, shared("data/mrc/mrc_validation.jsonl"));
    mrc_json_load(ctx, &predictions, shared("cases/predictions/A_predictions.json"));
    if (CHECK(d && predictions, "%s", mrc_ctx_message(ctx))) {
        for (size_t i = 0; i < mrc_dataset_size(d); i++) {
            const mrc_example *x = mrc_dataset_at(d, i);
            const mrc_json *p = mrc_json_get(predictions, x->id);
            if (!CHECK(p != NULL, "%s", x->id)) continue;
            mrc_metric_score(ctx, MRC_METRIC_SQUAD, p->string, p->bytes, x->answers, x->n_answers,
                             &e, &f);
            exact += e;
            f1 += f;
        }
        exact = 100.0 * exact / (double)mrc_dataset_size(d);
        f1 = 100.0 * f1 / (double)mrc_dataset_size(d);
        CHECK(equal(exact, 58.333333333333336) && equal(f1, 66.89433020683022), "%.17g %.17g",
              exact, f1);
    }
    mrc_json_free(predictions);
    mrc_dataset_free(d);
    mrc_ctx_free(ctx);
}

//==============================================================================
// Every allocation that can fail: MRC_ERR_MEM, and nothing leaks (ASan says)
//==============================================================================
static mrc_status all_of_it(mrc_ctx *ctx, const char *data, const char *words,
                            mrc_encoding_kind kind) {
    mrc_dataset *d = NULL;
    mrc_tokenizer *tok = NULL;
    mrc_features f = {0};
    mrc_batch_plan p = {0};
    mrc_span out[BEST + 1];
    size_t n;
    double e, f1;
    mrc_features_config c = mrc_features_config_default();
    mrc_decode_config dc = mrc_decode_config_default();
    c.kind = kind;
    c.max_seq_length = 9;
    c.doc_stride = 2;
    mrc_status status = mrc_dataset_load(ctx, &d, data);
    if (status == MRC_OK) status = mrc_tokenizer_load(ctx, &tok, words);
    if (status == MRC_OK) status = mrc_features_new(ctx, &f, d, tok, &c);
    if (status == MRC_OK) status = mrc_batch_plan_new(ctx, &p, &f, MRC_BATCHING_SORTED, 2, 1, 0);
    if (status == MRC_OK && f.n) {
        float logits[16] = {0};
        mrc_window_logits w = { &f.list[0], logits, logits };
        mrc_decode_input in = { &w, 1, mrc_dataset_at(d, 0), tok };
        for (int decoder = 0; decoder < 3 && status == MRC_OK; decoder++) {
            dc.kind = (mrc_decode_kind)decoder;
            status = mrc_decode(ctx, &dc, &in, out, BEST + 1, &n);
        }
    }
    if (status == MRC_OK) {
        const mrc_example *x = mrc_dataset_at(d, 0);
        status = mrc_metric_score(ctx, MRC_METRIC_SQUAD, "a b", 3, x->answers, x->n_answers, &e,
                                  &f1);
    }
    mrc_batch_plan_free(&p);
    mrc_features_free(&f);
    mrc_tokenizer_free(tok);
    mrc_dataset_free(d);
    return status;
}

static void test_out_of_memory(void) {
    const char *data = file_new("oom.jsonl", ROW("a b cx d e f g", "q?", "d e", "7")
                                ROW("a b c", "q?", "c", "4"));
    const char *words = file_new("vocab.txt", vocab);
    for (int kind = 0; kind < 2; kind++) {
        mrc_status status = MRC_ERR_MEM;
        size_t k = 0;
        for (; status != MRC_OK && k < 100000; k++) {
            mrc_ctx_desc desc = { .allocator = { alloc_some, free_some, NULL } };
            mrc_ctx *ctx = NULL;
            allocations_left = k;
            status = mrc_ctx_new(&ctx, &desc);
            if (status == MRC_OK) status = all_of_it(ctx, data, words, (mrc_encoding_kind)kind);
            CHECK(status == MRC_OK || status == MRC_ERR_MEM, "allocation %zu: %d %s", k, status,
                  mrc_ctx_message(ctx));
            mrc_ctx_free(ctx);
        }
        CHECK(k > 20 && status == MRC_OK, "%zu allocations", k);
    }
}

int main(void) {
    if (!folder_new("qa")) return test_end();
    test_datasets();
    test_dataset_contents();
    test_dataset_nul();
    test_dataset_memory();
    test_offsets();
    test_long_questions();
    test_sentinel();
    test_plans();
    test_plan_padding();
    test_decode_spans();
    test_decode_edges();
    test_decode_sizes();
    test_decode_pipeline();
    test_decode_legacy();
    test_decode_max_context();
    test_decode_negative();
    test_metrics();
    test_means();
    test_out_of_memory();
    if (has_shared()) {
        cases_on_small_stack(test_squad_corpus);
        test_reference_counts();
        test_windows();
        test_recorded_probabilities();
        test_recorded_figures();
    } else {
        test_skip("../shared is absent: broken files, reference counts, 474 windows, "
                  "recorded figures");
    }
    folder_end();
    return test_end();
}
