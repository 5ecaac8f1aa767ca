// The tokenizer: recorded encodings, real outputs of ../shared, hostile files, failing memory.
#include "../support/test.h"

#include <sys/stat.h>
#include <time.h>

static mrc_ctx *ctx;
static int skipped;

static const char *shared(const char *name) {
    static char path[512];
    const char *root = getenv("MRC_SHARED");
    snprintf(path, sizeof path, "%s/%s", root ? root : "../shared", name);
    return path;
}
static int have_shared(const char *what) {
    if (mrc_path_kind(shared("cases/tokenizer")) == MRC_PATH_DIR) return 1;
    printf("SKIP: %s: no %s\n", what, shared("cases/tokenizer"));
    skipped++;
    return 0;
}

static mrc_tokenizer *load(const char *path) {
    mrc_tokenizer *tok = NULL;
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_tokenizer_load(ctx, &tok, path) == MRC_OK, "load %s: %s", path, mrc_ctx_message(ctx));
    return tok;
}

// Whether a JSON array holds these numbers; null counts as `null`, pairs are two numbers.
static int same_ints(const mrc_json *a, const int32_t *values, size_t n, size_t step,
                     int32_t null) {
    size_t i = 0;
    if (!a || a->type != MRC_JSON_ARRAY) return 0;
    for (const mrc_json *j = a->child; j; j = j->next) {
        const mrc_json *k = j->type == MRC_JSON_ARRAY ? j->child : j;
        for (; k; k = j->type == MRC_JSON_ARRAY ? k->next : NULL, i++) {
            if (i == n * step) return 0;
            if ((k->type == MRC_JSON_NULL ? null : k->integer) != values[i]) return 0;
        }
    }
    return i == n * step;
}
static int same_offsets(const mrc_json *a, const mrc_encoding *e) {
    return same_ints(a, &e->offset_mapping[0][0], e->n, 2, -9);
}
static int same_tokens(const mrc_json *a, const mrc_tokenizer *tok, const mrc_encoding *e) {
    size_t i = 0;
    for (const mrc_json *j = a ? a->child : NULL; j; j = j->next, i++) {
        if (i == e->n || strcmp(j->string, mrc_tokenizer_token(tok, e->input_ids[i]))) return 0;
    }
    return a && i == e->n;
}

static mrc_json *parse_line(char **p, char *end, const char *name) {
    mrc_json *j = NULL;
    char *e = memchr(*p, '\n', (size_t)(end - *p));
    if (!e) e = end;
    CHECK(mrc_json_parse(ctx, &j, name, *p, (size_t)(e - *p), 0) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    *p = e + 1;
    return j;
}

//
// tests/fixtures/tokenizer
//
static mrc_truncation truncation_of(const mrc_json *j) {
    if (!j || j->type != MRC_JSON_STRING) return MRC_TRUNCATION_NONE;
    return strcmp(j->string, "only_second") == 0 ? MRC_TRUNCATION_ONLY_SECOND
         : strcmp(j->string, "only_first") == 0 ? MRC_TRUNCATION_ONLY_FIRST
         : MRC_TRUNCATION_LONGEST_FIRST;
}

static void check_case(const mrc_tokenizer *tok, const mrc_json *c, size_t line) {
    const mrc_json *text = mrc_json_get(c, "text"), *pair = mrc_json_get(c, "text_pair");
    const mrc_json *w = mrc_json_get(c, "windows")->child;
    mrc_encode_options o = {
        .truncation = truncation_of(mrc_json_get(c, "truncation")),
        .max_length = (size_t)mrc_json_get(c, "max_length")->integer,
        .stride = (size_t)mrc_json_get(c, "stride")->integer,
        .no_special_tokens = mrc_json_get(c, "special")->type == MRC_JSON_FALSE,
    };
    mrc_encodings e;
    int two = pair->type == MRC_JSON_STRING;
    mrc_status s = mrc_tokenizer_encode(ctx, tok, &e, text->string, text->bytes,
                                        two ? pair->string : NULL, two ? pair->bytes : 0, &o);
    int ok = s == MRC_OK && e.n == mrc_json_get(c, "windows")->n;
    for (size_t i = 0; ok && i < e.n; i++, w = w->next) {
        const mrc_encoding *x = &e.list[i];
        ok = same_ints(mrc_json_get(w, "input_ids"), x->input_ids, x->n, 1, -9)
          && same_ints(mrc_json_get(w, "token_type_ids"), x->token_type_ids, x->n, 1, -9)
          && same_ints(mrc_json_get(w, "word_ids"), x->word_ids, x->n, 1, -1)
          && same_ints(mrc_json_get(w, "sequence_ids"), x->sequence_ids, x->n, 1, -1)
          && same_offsets(mrc_json_get(w, "offset_mapping"), x)
          && x->overflow_to_sample_mapping == 0;
    }
    CHECK(ok, "cases.jsonl:%zu: \"%s\" differs (%s)", line, text->string, mrc_ctx_message(ctx));
    mrc_encodings_free(&e);
}

// Every line of a file, each with the tokenizer that it names.
static void check_cases(const char *file, size_t least) {
    static const char *const names[] = { "cased", "uncased", "bytes", "prefix" };
    mrc_tokenizer *tok[4] = {0};
    char *data = NULL;
    size_t bytes = 0, line = 0;
    for (int i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "tests/fixtures/tokenizer/%s", names[i]);
        tok[i] = load(path);
    }
    CHECK(mrc_file_read(ctx, &data, &bytes, file) == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (char *p = data; p && p < data + bytes;) {
        mrc_json *c = parse_line(&p, data + bytes, file);
        line++;
        for (int i = 0; i < 4; i++) {
            if (tok[i] && strcmp(mrc_json_get(c, "tokenizer")->string, names[i]) == 0)
                check_case(tok[i], c, line);
        }
        mrc_json_free(c);
    }
    CHECK(line > least, "%s: %zu cases", file, line);
    if (data) mrc_file_free(ctx, data);
    for (int i = 0; i < 4; i++) mrc_tokenizer_free(tok[i]);
}

static void test_fixtures(void) {
    check_cases("tests/fixtures/tokenizer/cases.jsonl", 500);
    check_cases("tests/fixtures/tokenizer/byte_cases.jsonl", 150);
}

static void test_properties(void) {
    mrc_tokenizer *tok = load("tests/fixtures/tokenizer/cased");
    mrc_tokenizer *json = load("tests/fixtures/tokenizer/uncased");
    if (!tok || !json) return;
    mrc_special_ids s = mrc_tokenizer_special(tok);
    CHECK(s.cls == 0 && s.pad == 1 && s.sep == 2 && s.unk == 3 && s.mask == 4, "special ids");
    CHECK(mrc_tokenizer_max_length(tok) == 512, "%zu", mrc_tokenizer_max_length(tok));
    CHECK(mrc_tokenizer_max_length(json) == 0, "1e30: %zu", mrc_tokenizer_max_length(json));
    CHECK(mrc_tokenizer_size(json) == mrc_tokenizer_size(tok) + 1, "the added token counts");
    CHECK(mrc_tokenizer_id(json, "[NEW]") == (int32_t)mrc_tokenizer_size(tok), "[NEW]");
    CHECK(mrc_tokenizer_id(tok, "[NEW]") == -1, "not there");
    CHECK(mrc_tokenizer_id(tok, "rea") == -1 && mrc_tokenizer_id(tok, "") == -1, "no such token");
    for (size_t i = 0; i < mrc_tokenizer_size(json); i++) {
        const char *token = mrc_tokenizer_token(json, (int32_t)i);
        CHECK(token && mrc_tokenizer_id(json, token) == (int32_t)i, "id %zu", i);
    }
    CHECK(!mrc_tokenizer_token(tok, -1), "id -1");
    CHECK(!mrc_tokenizer_token(tok, (int32_t)mrc_tokenizer_size(tok)), "id past the end");
    CHECK(mrc_tokenizer_size(tok) > 0, "size");
    mrc_tokenizer_free(tok);
    mrc_tokenizer_free(json);
    mrc_tokenizer_free(NULL);
}

// Ill-formed bytes are U+FFFD by maximal subparts: dropped by clean_text, one position each.
static void test_ill_formed(void) {
    static const struct { const char *text; int32_t begin, end; } cases[] = {
        { "\xE2\x82" "a", 1, 2 },               // one subpart
        { "\xF0\x80\x80" "a", 3, 4 },           // three
        { "\xED\xA0\x80" "a", 3, 4 },           // a surrogate
        { "\xF4\x80\x80\xFF" "a", 2, 3 },
        { "\xC0\xAF" "a", 2, 3 },               // overlong
        { "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF" "a", 4, 5 },
        { "\x80" "a\xE1\x80", 1, 2 },           // ends in the middle
        { "a\xFF" "b", 0, 3 },                  // "ab", one word
    };
    mrc_tokenizer *tok = load("tests/fixtures/tokenizer/cased");
    for (size_t i = 0; tok && i < sizeof cases / sizeof *cases; i++) {
        mrc_encodings e;
        mrc_encode_options o = { .no_special_tokens = 1 };
        CHECK(mrc_tokenizer_encode(ctx, tok, &e, cases[i].text, strlen(cases[i].text), NULL, 0, &o)
              == MRC_OK, "%s", mrc_ctx_message(ctx));
        size_t last = e.n ? e.list[0].n - 1 : 0;
        CHECK(e.n == 1 && e.list[0].n > 0 && e.list[0].offset_mapping[0][0] == cases[i].begin
              && e.list[0].offset_mapping[last][1] == cases[i].end, "ill-formed text %zu", i);
        mrc_encodings_free(&e);
    }
    mrc_tokenizer_free(tok);
}

static void test_options(void) {
    static const struct { mrc_encode_options o; int pair; mrc_status expected; } cases[] = {
        { { MRC_TRUNCATION_NONE, 2, 9, 0 }, 1, MRC_OK },            // not asked for
        { { MRC_TRUNCATION_LONGEST_FIRST, 0, 0, 0 }, 1, MRC_OK },   // no limit
        { { MRC_TRUNCATION_LONGEST_FIRST, 2, 0, 0 }, 0, MRC_OK },   // only the special ones
        { { MRC_TRUNCATION_LONGEST_FIRST, 1, 0, 0 }, 0, MRC_ERR_ARG },
        { { MRC_TRUNCATION_LONGEST_FIRST, 2, 0, 0 }, 1, MRC_ERR_ARG },
        { { MRC_TRUNCATION_ONLY_SECOND, 9, 0, 0 }, 0, MRC_ERR_ARG },    // no second
        { { MRC_TRUNCATION_ONLY_SECOND, 6, 0, 0 }, 1, MRC_ERR_ARG },    // the first fills it
        { { MRC_TRUNCATION_ONLY_SECOND, 7, 0, 0 }, 1, MRC_OK },
        { { MRC_TRUNCATION_ONLY_SECOND, 7, 1, 0 }, 1, MRC_ERR_ARG },    // no step left
        { { MRC_TRUNCATION_ONLY_SECOND, 8, 1, 0 }, 1, MRC_OK },
        { { MRC_TRUNCATION_ONLY_FIRST, 7, 0, 0 }, 1, MRC_ERR_ARG },
        { { (mrc_truncation)77, 4, 0, 0 }, 1, MRC_ERR_ARG },
    };
    mrc_tokenizer *tok = load("tests/fixtures/tokenizer/cased");
    for (size_t i = 0; tok && i < sizeof cases / sizeof *cases; i++) {
        mrc_encodings e;
        mrc_ctx_clear_error(ctx);
        mrc_status s = mrc_tokenizer_encode(ctx, tok, &e, "a b c", 5,
                                            cases[i].pair ? "a b a b" : NULL, 7, &cases[i].o);
        CHECK(s == cases[i].expected, "options %zu: %d %s", i, (int)s, mrc_ctx_message(ctx));
        CHECK((s == MRC_OK) == (e.n > 0), "options %zu", i);
        CHECK(s == MRC_OK || *mrc_ctx_message(ctx), "options %zu: no message", i);
        mrc_encodings_free(&e);
        mrc_encodings_free(&e);
    }
    for (int t = MRC_TRUNCATION_LONGEST_FIRST; tok && t <= MRC_TRUNCATION_ONLY_FIRST; t++) {
        mrc_encodings e;                // 10 and 15 tokens into 20
        mrc_encode_options o = { .truncation = (mrc_truncation)t, .max_length = 20 };
        CHECK(mrc_tokenizer_encode(ctx, tok, &e, "a a a a a a a a a a", 19,
                                   "b b b b b b b b b b b b b b b", 29, &o) == MRC_OK
              && e.list[0].n == 20, "truncation %d", t);
        mrc_encodings_free(&e);
    }
    mrc_ctx_clear_error(ctx);
    mrc_tokenizer_free(tok);
}

//
// ../shared/cases/tokenizer
//
static int window_is(const mrc_json *expected, const char *key, size_t index, const int32_t *values,
                     size_t n, int32_t pad) {
    const mrc_json *list = mrc_json_get(expected, key);
    if (!list) return 1;
    const mrc_json *row = list->child;
    if (row && row->type == MRC_JSON_ARRAY) {
        for (size_t i = 0; row && i < index; i++) row = row->next;
    } else {
        row = list;                 // of a single encoding: not nested
    }
    size_t i = 0;
    for (const mrc_json *j = row ? row->child : NULL; j; j = j->next, i++) {
        if (j->integer != (i < n ? values[i] : pad)) return 0;
    }
    return row && i >= n;
}

// A row of data/mrc by id: its field.
static char *shared_row(const char *file, const char *id, mrc_json **row) {
    char *data = NULL, quoted[128];
    size_t bytes = 0;
    *row = NULL;
    snprintf(quoted, sizeof quoted, "\"%s\"", id);
    if (mrc_file_read(ctx, &data, &bytes, shared(file)) != MRC_OK) return NULL;
    for (char *p = data; p < data + bytes;) {
        char *e = memchr(p, '\n', (size_t)(data + bytes - p));
        if (!e) e = data + bytes;
        *e = 0;
        if (strstr(p, quoted)) {
            mrc_json_parse(ctx, row, file, p, (size_t)(e - p), 0);
            const mrc_json *found = mrc_json_get(*row, "id");
            if (found && strcmp(found->string, id) == 0) return data;
            mrc_json_free(*row);
            *row = NULL;
        }
        p = e + 1;
    }
    return data;
}

// One printed case.  `texts` were encoded one by one; pads on the right are ours to expect.
static void check_printed(const mrc_tokenizer *tok, const mrc_json *c, const mrc_json *const text[],
                          size_t n_texts, const mrc_json *pair, size_t number) {
    const mrc_json *expected = mrc_json_get(c, "expected"), *max = mrc_json_get(c, "max_length");
    const mrc_json *overflow = mrc_json_get(c, "overflow"), *stride = mrc_json_get(c, "stride");
    const mrc_json *tokens = mrc_json_get(c, "expected_tokens");
    const mrc_json *index = mrc_json_get(c, "feature_index");
    int windows = overflow && overflow->type == MRC_JSON_TRUE;
    mrc_encode_options o = {
        .truncation = !windows ? MRC_TRUNCATION_LONGEST_FIRST
                    : pair ? MRC_TRUNCATION_ONLY_SECOND : MRC_TRUNCATION_ONLY_FIRST,
        .max_length = max && max->type == MRC_JSON_NUMBER ? (size_t)max->integer : 0,
        .stride = windows && stride ? (size_t)stride->integer : 0,
        .no_special_tokens = tokens != NULL,
    };
    int32_t pad = mrc_tokenizer_special(tok).pad;
    size_t at = 0;
    int ok = n_texts > 0;
    for (size_t t = 0; ok && t < n_texts; t++) {
        mrc_encodings e;
        ok = mrc_tokenizer_encode(ctx, tok, &e, text[t]->string, text[t]->bytes,
                                  pair ? pair->string : NULL, pair ? pair->bytes : 0, &o) == MRC_OK;
        size_t first = index ? (size_t)index->integer : 0, n = index ? first + 1 : e.n;
        for (size_t w = first; ok && w < n; w++, at++) {
            const mrc_encoding *x = &e.list[w];
            ok = w < e.n && window_is(expected, "input_ids", at, x->input_ids, x->n, pad)
              && (!tokens || same_tokens(tokens, tok, x));
            const mrc_json *offsets = mrc_json_get(expected, "offset_mapping");
            const mrc_json *row = offsets ? offsets->child : NULL;
            for (size_t i = 0; row && i < at; i++) row = row->next;
            for (size_t i = 0; ok && row && i < x->n; i++) {
                const mrc_json *p = row->child;
                for (size_t k = 0; p && k < i; k++) p = p->next;
                ok = p && p->child->integer == x->offset_mapping[i][0]
                  && p->child->next->integer == x->offset_mapping[i][1];
            }
            const mrc_json *sample = mrc_json_get(expected, "overflow_to_sample_mapping");
            sample = sample ? sample->child : NULL;
            for (size_t i = 0; sample && i < at; i++) sample = sample->next;
            ok = ok && (!sample || sample->integer == (int64_t)t);
        }
        mrc_encodings_free(&e);
    }
    CHECK(ok, "printed case %zu: window %zu", number, at);
}

static void test_printed(void) {
    mrc_json *cases = NULL;
    size_t number = 0;
    if (!have_shared("25 printed cases")) return;
    mrc_tokenizer *roberta = load(shared("data/klue"));
    mrc_tokenizer *bert = load(shared("data/klue/vocab.bert.txt"));
    CHECK(mrc_json_load(ctx, &cases, shared("cases/tokenizer/klue_tokenizer_outputs.json"))
          == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (const mrc_json *c = cases ? cases->child : NULL; c && roberta && bert; c = c->next) {
        const mrc_json *model = mrc_json_get(c, "model"), *texts = mrc_json_get(c, "texts");
        const mrc_json *id = mrc_json_get(c, "train_id"), *doc = mrc_json_get(c, "wiki_doc");
        const mrc_tokenizer *tok = strcmp(model->string, "klue/bert-base") ? roberta : bert;
        const mrc_json *text[64] = {0}, *pair = NULL;
        mrc_json *row = NULL;
        char *data = NULL;
        size_t n = 0;
        for (const mrc_json *j = texts ? texts->child : NULL; j && n < 64; j = j->next)
            text[n++] = j;
        if (id) {
            data = shared_row("data/mrc/mrc_train.jsonl", id->string, &row);
            int both = mrc_json_get(c, "pair") != NULL;
            text[n++] = mrc_json_get(row, both ? "question" : "context");
            if (both) pair = mrc_json_get(row, "context");
        }
        if (doc) {
            mrc_json_load(ctx, &row, shared("data/mrc/wikipedia_documents_40.json"));
            text[n++] = mrc_json_get(mrc_json_get(row, doc->string), "text");
        }
        number++;
        if (CHECK(n && text[0], "printed case %zu has a text", number))
            check_printed(tok, c, text, n, pair, number);
        mrc_json_free(row);
        if (data) mrc_file_free(ctx, data);
    }
    CHECK(number == 25, "%zu printed cases", number);
    mrc_json_free(cases);
    mrc_tokenizer_free(roberta);
    mrc_tokenizer_free(bert);
}

// `labels` is the answer encoded by itself where the window's passage holds it, else [CLS].
static void check_labels(const mrc_tokenizer *tok, const mrc_json *want, const mrc_encoding *e,
                         const mrc_json *row) {
    const mrc_json *labels = mrc_json_get(want, "labels"), *answers = mrc_json_get(row, "answers");
    const mrc_json *text = mrc_json_get(answers, "text")->child;
    int64_t begin = mrc_json_get(answers, "answer_start")->child->integer;
    int64_t end = begin + (int64_t)mrc_utf8_length(text->string, text->bytes);
    int begins = 0, ends = 0;
    for (size_t i = 0; i < e->n; i++) {
        if (e->sequence_ids[i] != 1) continue;
        begins |= e->offset_mapping[i][0] <= begin && begin < e->offset_mapping[i][1];
        ends |= e->offset_mapping[i][0] < end && end <= e->offset_mapping[i][1];
    }
    mrc_encodings answer;
    CHECK(mrc_tokenizer_encode(ctx, tok, &answer, text->string, text->bytes, NULL, 0, NULL)
          == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK((begins && ends) == (mrc_json_get(want, "answer_inside")->type == MRC_JSON_TRUE)
          && same_ints(labels, answer.list[0].input_ids, begins && ends ? answer.list[0].n : 1, 1,
                       -9), "%s: the answer's tokens", mrc_json_get(want, "id")->string);
    mrc_encodings_free(&answer);
}

static void test_windows(void) {
    const char *file = "cases/tokenizer/klue_bert_base_validation_features_384_128.jsonl";
    mrc_encode_options o = { .truncation = MRC_TRUNCATION_ONLY_SECOND, .max_length = 384,
                             .stride = 128 };
    char *data = NULL, *rows = NULL;
    size_t bytes = 0, row_bytes = 0, n = 0;
    if (!have_shared("474 windows")) return;
    mrc_tokenizer *bert = load(shared("data/klue/vocab.bert.txt"));
    mrc_tokenizer *roberta = load(shared("data/klue"));
    CHECK(mrc_file_read(ctx, &data, &bytes, shared(file)) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_file_read(ctx, &rows, &row_bytes, shared("data/mrc/mrc_validation.jsonl")) == MRC_OK,
          "%s", mrc_ctx_message(ctx));
    char *p = data;
    for (char *r = rows; bert && roberta && data && rows && r < rows + row_bytes;) {
        mrc_json *row = parse_line(&r, rows + row_bytes, "mrc_validation.jsonl");
        const mrc_json *q = mrc_json_get(row, "question"), *c = mrc_json_get(row, "context");
        mrc_encodings e, f;
        const char *text = q->string + strspn(q->string, " \t\n");
        CHECK(mrc_tokenizer_encode(ctx, bert, &e, text, strlen(text), c->string, c->bytes, &o)
              == MRC_OK, "%s", mrc_ctx_message(ctx));
        CHECK(mrc_tokenizer_encode(ctx, roberta, &f, text, strlen(text), c->string, c->bytes, &o)
              == MRC_OK, "%s", mrc_ctx_message(ctx));
        for (size_t w = 0; w < e.n && p < data + bytes; w++, n++) {
            mrc_json *want = parse_line(&p, data + bytes, "features");
            const mrc_encoding *x = &e.list[w], *y = &f.list[w];
            const char *id = mrc_json_get(want, "id")->string;
            CHECK(strcmp(id, mrc_json_get(row, "id")->string) == 0
                  && mrc_json_get(want, "window")->integer == (int64_t)w, "%s: window %zu", id, w);
            const mrc_json *ids = mrc_json_get(want, "input_ids");
            const mrc_json *types = mrc_json_get(want, "token_type_ids");
            CHECK(same_ints(ids, x->input_ids, x->n, 1, -9)
                  && same_ints(types, x->token_type_ids, x->n, 1, -9), "%s: window %zu differs", id,
                  w);
            const mrc_json *other = mrc_json_get(want, "roberta_input_ids");
            CHECK(w < f.n && same_ints(other, y->input_ids, y->n, 1, -9),
                  "%s: window %zu differs (roberta)", id, w);
            check_labels(bert, want, x, row);
            mrc_json_free(want);
        }
        mrc_encodings_free(&e);
        mrc_encodings_free(&f);
        mrc_json_free(row);
    }
    CHECK(n == 474 && p >= data + bytes, "%zu windows", n);
    if (data) mrc_file_free(ctx, data);
    if (rows) mrc_file_free(ctx, rows);
    mrc_tokenizer_free(bert);
    mrc_tokenizer_free(roberta);
}

//
// Files made here
//
static char folder[256];            // temporary
static const char *in_folder(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}
static void put(const char *name, const char *text, size_t bytes) {
    CHECK(mrc_file_write(ctx, in_folder(name), text, bytes) == MRC_OK, "%s", mrc_ctx_message(ctx));
}
static void take(const char *name) { remove(in_folder(name)); }

// Whether loading fails with this status and a message that holds this text.
static void check_refused(const char *path, mrc_status status, const char *message,
                          const char *what) {
    mrc_tokenizer *tok = NULL;
    mrc_ctx_clear_error(ctx);
    mrc_status s = mrc_tokenizer_load(ctx, &tok, path);
    CHECK(s == status && !tok && strstr(mrc_ctx_message(ctx), message),
          "%.60s: status %d, \"%s\" (expected %d, \"%s\")", what, (int)s, mrc_ctx_message(ctx),
          (int)status, message);
    mrc_tokenizer_free(tok);
    mrc_ctx_clear_error(ctx);
}

#define SPECIALS "[CLS]\n[SEP]\n[UNK]\n"
static void test_bad_vocab(void) {
    static const struct { const char *text, *message; } cases[] = {
        { "", "no tokens" },
        { "a\n", "cls_token \"[CLS]\" is not in the vocabulary of 1 tokens" },
        { "[CLS]\n[SEP]\n", "unk_token \"[UNK]\" is not in the vocabulary" },
        { "[UNK]\n[SEP]\na\n", "cls_token \"[CLS]\" is not in the vocabulary of 3 tokens" },
        { "[UNK]\n[CLS]\na\n", "sep_token \"[SEP]\"" },
        { SPECIALS "a\nb\na\n", "vocab.txt:6:1: token \"a\" is there twice: with id 3 and id 5" },
        { SPECIALS "a\na\r\n", "vocab.txt:5:1: token \"a\" is there twice" },
        { SPECIALS "a\nb\xFF\n", "vocab.txt:5: ill-formed UTF-8 (byte 0xff" },
        { SPECIALS "\xED\xA0\x80\n", "vocab.txt:4: ill-formed UTF-8" },
        { "\xFF\xFE[\0", "vocab.txt:1: ill-formed UTF-8" },
        { "\xEF\xBB\xBF[CLS]\n[UNK]\n[SEP]\n", "cls_token \"[CLS]\" is not" },      // a BOM
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("vocab.txt", cases[i].text, strlen(cases[i].text));
        check_refused(in_folder("vocab.txt"), MRC_ERR_FORMAT, cases[i].message, cases[i].text);
        check_refused(folder, MRC_ERR_FORMAT, cases[i].message, cases[i].text);
    }
    put("vocab.txt", SPECIALS "a\0b\n", sizeof SPECIALS "a\0b\n" - 1);
    check_refused(folder, MRC_ERR_FORMAT, "vocab.txt:4:1: token with a NUL", "NUL");
    take("vocab.txt");
    check_refused(folder, MRC_ERR_ARG, "neither tokenizer.json nor vocab.txt nor vocab.json",
                  "empty folder");
    check_refused(in_folder("none.txt"), MRC_ERR_ARG, "no such file or folder", "missing");
    put("vocab.txt", SPECIALS "a\nb", strlen(SPECIALS "a\nb"));     // no last line end
    mrc_tokenizer *tok = load(in_folder("vocab.txt"));
    if (tok) {
        CHECK(mrc_tokenizer_size(tok) == 5 && mrc_tokenizer_id(tok, "b") == 4, "the last line");
        CHECK(mrc_tokenizer_special(tok).pad == -1, "no [PAD]");
    }
    mrc_tokenizer_free(tok);
}

// A configuration that is taken, of the vocabulary that is there.
static void good_config(void) {
    const char *good = "{\"do_lower_case\": false, \"added_tokens_decoder\": "
                       "{\"2\": {\"content\": \"[UNK]\", \"normalized\": false}}, "
                       "\"cls_token\": {\"content\": \"[CLS]\"}, "
                       "\"additional_special_tokens\": [\"b\"]}";
    put("tokenizer_config.json", good, strlen(good));
    mrc_tokenizer *tok = load(folder);
    mrc_encodings e = {0};
    if (tok && mrc_tokenizer_encode(ctx, tok, &e, "aba", 3, NULL, 0, NULL) == MRC_OK)
        CHECK(e.list[0].n == 5 && e.list[0].input_ids[2] == 4, "a special token inside a word");
    mrc_encodings_free(&e);
    mrc_tokenizer_free(tok);
}

static void test_bad_config(void) {
    static const struct { const char *config, *map, *message; mrc_status status; } cases[] = {
        { "[]", NULL, "tokenizer_config.json:1:1: ", MRC_ERR_FORMAT },
        { "{", NULL, "tokenizer_config.json:1:", MRC_ERR_FORMAT },
        { "{\"do_lower_case\": 1}", NULL, "do_lower_case is a number", MRC_ERR_FORMAT },
        { "{\"do_lower_case\": true, \"do_lower_case\": false}", NULL, "do_lower_case",
          MRC_ERR_FORMAT },
        { "{\"model_max_length\": -1}", NULL, "model_max_length is -1", MRC_ERR_FORMAT },
        { "{\"model_max_length\": 0}", NULL, "model_max_length is 0", MRC_ERR_FORMAT },
        { "{\"model_max_length\": 12.5}", NULL, "model_max_length is 12.5", MRC_ERR_FORMAT },
        { "{\"model_max_length\": \"512\"}", NULL, "model_max_length is a string", MRC_ERR_FORMAT },
        { "{\"do_basic_tokenize\": false}", NULL, "do_basic_tokenize", MRC_ERR_UNSUPPORTED },
        { "{\"never_split\": [\"x\"]}", NULL, "never_split has 1", MRC_ERR_UNSUPPORTED },
        { "{\"unk_token\": \"<unk>\"}", NULL, "unk_token \"<unk>\" is not", MRC_ERR_FORMAT },
        { "{\"pad_token\": \"[PAD]\"}", NULL, "pad_token \"[PAD]\" is not", MRC_ERR_FORMAT },
        { "{\"cls_token\": \"a\"}", "{\"cls_token\": \"b\"}", "cls_token is \"b\" here and \"a\"",
          MRC_ERR_FORMAT },
        { "{\"unk_token\": {\"content\": 3}}", NULL, "content is a number", MRC_ERR_FORMAT },
        { "{}", "{\"additional_special_tokens\": [\"\"]}", "empty token", MRC_ERR_FORMAT },
        { "{\"tokenizer_class\": \"BertJapaneseTokenizer\"}", NULL,
          "tokenizer_class \"BertJapaneseTokenizer\" is not supported", MRC_ERR_UNSUPPORTED },
        { "{\"padding_side\": \"left\"}", NULL, "padding_side is \"left\"", MRC_ERR_UNSUPPORTED },
        { "{\"truncation_side\": \"left\"}", NULL, "truncation_side is \"left\"",
          MRC_ERR_UNSUPPORTED },
        { "{\"wordpieces_prefix\": \"@\"}", NULL, "wordpieces_prefix is \"@\", supported is \"##\"",
          MRC_ERR_UNSUPPORTED },
        { "{\"added_tokens_decoder\": {\"x\": {\"content\": \"z\"}}}", NULL, "expected an id",
          MRC_ERR_FORMAT },
        { "{\"added_tokens_decoder\": {\"7\": {\"content\": \"z\"}}}", NULL,
          "has id 7, expected 0 to 5", MRC_ERR_FORMAT },
        { "{\"added_tokens_decoder\": {\"3\": {\"content\": \"[UNK]\"}}}", NULL,
          "token \"[UNK]\" has two ids: 2 in the vocabulary and 3", MRC_ERR_FORMAT },
        { "{\"added_tokens_decoder\": {\"2\": \"[UNK]\"}}", NULL, "expected an object",
          MRC_ERR_FORMAT },
        { "{\"added_tokens_decoder\": [1]}", NULL, "expected an object", MRC_ERR_FORMAT },
        { "{\"added_tokens_decoder\": {\"2\": {}}}", NULL, "without content", MRC_ERR_FORMAT },
        { "{\"additional_special_tokens\": 5}", NULL, "is a number, expected", MRC_ERR_FORMAT },
        { "{\"additional_special_tokens\": [5]}", NULL, "is a number, expected", MRC_ERR_FORMAT },
    };
    put("vocab.txt", SPECIALS "a\nb\n", strlen(SPECIALS "a\nb\n"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("tokenizer_config.json", cases[i].config, strlen(cases[i].config));
        if (cases[i].map) put("special_tokens_map.json", cases[i].map, strlen(cases[i].map));
        check_refused(folder, cases[i].status, cases[i].message, cases[i].config);
        if (cases[i].map) take("special_tokens_map.json");
    }
    good_config();
    take("tokenizer_config.json");
    take("vocab.txt");
}

#define J_NORM  "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true," \
                "\"strip_accents\":null,\"lowercase\":true}"
#define J_PRE   "{\"type\":\"BertPreTokenizer\"}"
#define J_POST  "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",1],\"cls\":[\"[CLS]\",0]}"
#define J_ADDED "[{\"id\":2,\"content\":\"[UNK]\",\"single_word\":false,\"normalized\":false}]"
#define J_VOCAB(entries) "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":{" entries "}}"
#define J_THREE "\"[CLS]\":0,\"[SEP]\":1,\"[UNK]\":2,"
#define J_MODEL J_VOCAB(J_THREE "\"a\":3")
#define J_REGEX(text) "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"" text "\"},\"content\":\"\"}"
#define J_TEMPLATE(single) "{\"type\":\"TemplateProcessing\",\"single\":" single ",\"pair\":[]," \
                "\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[0]}}}"
static const struct { const char *norm, *pre, *post, *added, *model, *message; mrc_status status; }
bad_json[] = {
    { "{\"type\":\"Nmt\"}", 0, 0, 0, 0, "normalizer of type Nmt", MRC_ERR_UNSUPPORTED },
    { "{\"type\":\"clean_text\"}", 0, 0, 0, 0, "normalizer of type clean_text",
      MRC_ERR_UNSUPPORTED },
    { "{\"type\":\"Sequence\"}", 0, 0, 0, 0, "without its array of normalizers", MRC_ERR_FORMAT },
    { "{\"lowercase\":true}", 0, 0, 0, 0, "a normalizer without a type", MRC_ERR_FORMAT },
    { "{\"type\":\"Prepend\"}", 0, 0, 0, 0, "a Prepend without", MRC_ERR_FORMAT },
    { "{\"type\":\"Precompiled\"}", 0, 0, 0, 0, "a Precompiled without", MRC_ERR_FORMAT },
    { "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AA*A\"}", 0, 0, 0, 0,
      "no base64 (at byte 2 of 4)", MRC_ERR_FORMAT },
    { "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAA\"}", 0, 0, 0, 0,
      "a charsmap of 3 bytes", MRC_ERR_FORMAT },
    { "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AwAAAAAAAAA=\"}", 0, 0, 0, 0,
      "double array has 3 bytes", MRC_ERR_FORMAT },
    { "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"CAAAAAAAAAA=\"}", 0, 0, 0, 0,
      "double array has 8 bytes", MRC_ERR_FORMAT },
    { "{\"type\":\"Replace\",\"content\":\"a\"}", 0, 0, 0, 0, "no pattern", MRC_ERR_FORMAT },
    { "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}", 0, 0, 0, 0,
      "a Replace without \"content\"", MRC_ERR_FORMAT },
    { J_REGEX("(?<=a)b"), 0, 0, 0, 0, "\"(?<=a)b\" is not supported: a (? other than (?: (?i: (?= "
      "(?! (at byte 1 of 7)", MRC_ERR_UNSUPPORTED },
    { J_REGEX("a++"), 0, 0, 0, 0, "a repetition of a repetition", MRC_ERR_UNSUPPORTED },
    { J_REGEX("a{2}?"), 0, 0, 0, 0, "a repetition of a repetition", MRC_ERR_UNSUPPORTED },
    { J_REGEX("a*|b"), 0, 0, 0, 0, "it matches the empty text", MRC_ERR_UNSUPPORTED },
    { J_REGEX("(?!a)"), 0, 0, 0, 0, "it matches the empty text", MRC_ERR_UNSUPPORTED },
    { J_REGEX("(?=a)"), 0, 0, 0, 0, "it matches the empty text", MRC_ERR_UNSUPPORTED },
    { J_REGEX(""), 0, 0, 0, 0, "it matches the empty text", MRC_ERR_UNSUPPORTED },
    { J_REGEX("(?=a)(?!b)"), 0, 0, 0, 0, "it matches the empty text", MRC_ERR_UNSUPPORTED },
    { J_REGEX("x(|a)*"), 0, 0, 0, 0, "a repetition without a bound of what may be empty",
      MRC_ERR_UNSUPPORTED },
    { J_REGEX("x(?:a*?|b){2,}"), 0, 0, 0, 0, "a repetition without a bound of what may be empty",
      MRC_ERR_UNSUPPORTED },
    { J_REGEX("\\\\bab"), 0, 0, 0, 0, "an escape other than", MRC_ERR_UNSUPPORTED },
    { J_REGEX("ab\\\\"), 0, 0, 0, 0, "an escape other than", MRC_ERR_UNSUPPORTED },
    { J_REGEX("\\\\p{Han}"), 0, 0, 0, 0, "a property other than", MRC_ERR_UNSUPPORTED },
    { J_REGEX("(?i:\\\\p{Lu})"), 0, 0, 0, 0, "a property other than", MRC_ERR_UNSUPPORTED },
    { J_REGEX("(?i:\\u00e9)"), 0, 0, 0, 0, "(?i: ) of other letters", MRC_ERR_UNSUPPORTED },
    { J_REGEX("(?i:ass)"), 0, 0, 0, 0, "(?i: ) of ss or st", MRC_ERR_UNSUPPORTED },
    { J_REGEX("(?i:Fi)"), 0, 0, 0, 0, "(?i: ) of ff, fi or fl", MRC_ERR_UNSUPPORTED },
    { J_REGEX("[ab"), 0, 0, 0, 0, "a [ without its ]", MRC_ERR_UNSUPPORTED },
    { J_REGEX("[]"), 0, 0, 0, 0, "an empty [ ]", MRC_ERR_UNSUPPORTED },
    { J_REGEX("[b-a]"), 0, 0, 0, 0, "a range without an end", MRC_ERR_UNSUPPORTED },
    { J_REGEX("[a-[b]]"), 0, 0, 0, 0, "a range that ends in [", MRC_ERR_UNSUPPORTED },
    { J_REGEX("[[:alpha:]]"), 0, 0, 0, 0, "&&, [: or [^ inside [ ]", MRC_ERR_UNSUPPORTED },
    { J_REGEX("[[[[[[[[[[[[[[[[[[[a]"), 0, 0, 0, 0, "too many [ in each", MRC_ERR_UNSUPPORTED },
    { J_REGEX("((((((((((((((((((a"), 0, 0, 0, 0, "too many groups in each", MRC_ERR_UNSUPPORTED },
    { J_REGEX("(ab"), 0, 0, 0, 0, "a ( without its )", MRC_ERR_UNSUPPORTED },
    { J_REGEX("ab)"), 0, 0, 0, 0, "a ) without its (", MRC_ERR_UNSUPPORTED },
    { J_REGEX("a(?!bc)"), 0, 0, 0, 0, "looking ahead at more than one", MRC_ERR_UNSUPPORTED },
    { J_REGEX("^a"), 0, 0, 0, 0, "a sign that stands for something else", MRC_ERR_UNSUPPORTED },
    { J_REGEX("a{,}"), 0, 0, 0, 0, "a { that is no repetition", MRC_ERR_UNSUPPORTED },
    { J_REGEX("a{3,2}"), 0, 0, 0, 0, "a repetition of no times", MRC_ERR_UNSUPPORTED },
    { J_REGEX("a{0}"), 0, 0, 0, 0, "a repetition of no times", MRC_ERR_UNSUPPORTED },
    { J_REGEX("(a{100}){9}"), 0, 0, 0, 0, "it is too long", MRC_ERR_UNSUPPORTED },
    { J_REGEX("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#%&;:<>~"), 0, 0, 0, 0,
      "it has too many classes", MRC_ERR_UNSUPPORTED },
    { "[]", 0, 0, 0, 0, "normalizer is an array", MRC_ERR_FORMAT },
    { "{\"type\":\"BertNormalizer\",\"lowercase\":\"yes\"}", 0, 0, 0, 0, "lowercase is a string",
      MRC_ERR_FORMAT },
    { 0, "{\"type\":\"UnicodeScripts\"}", 0, 0, 0, "pre_tokenizer of type UnicodeScripts",
      MRC_ERR_UNSUPPORTED },
    { 0, "{\"type\":\"Metaspace\",\"prepend_scheme\":\"often\"}", 0, 0, 0,
      "prepend_scheme \"often\"", MRC_ERR_FORMAT },
    { 0, "{\"type\":\"Metaspace\",\"add_prefix_space\":false}", 0, 0, 0,
      "add_prefix_space false", MRC_ERR_FORMAT },
    { 0, "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", 0, 0, 0, "2 characters, expected one",
      MRC_ERR_FORMAT },
    { 0, "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Kept\"}", 0, 0, 0,
      "behavior is \"Kept\"", MRC_ERR_FORMAT },
    { 0, "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"}}", 0, 0, 0, "behavior is \"absent\"",
      MRC_ERR_FORMAT },
    { 0, 0, "{\"type\":\"Other\"}", 0, 0, "post_processor of type Other", MRC_ERR_UNSUPPORTED },
    { 0, 0, "{\"type\":\"Sequence\"}", 0, 0, "without its array of processors", MRC_ERR_FORMAT },
    { 0, 0, "{\"type\":\"Sequence\",\"processors\":[" J_POST ",{\"type\":\"ByteLevel\"}]}", 0, 0,
      "ByteLevel behind another", MRC_ERR_UNSUPPORTED },
    { 0, 0, "{\"type\":\"RobertaProcessing\"}", 0, 0, "\"cls\": [token, id]", MRC_ERR_FORMAT },
    { 0, 0, "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",1]}", 0, 0, "\"cls\": [token, id]",
      MRC_ERR_FORMAT },
    { 0, 0, "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",9],\"cls\":[\"[CLS]\",0]}", 0, 0,
      "is 9, expected an integer from 0 to 3", MRC_ERR_FORMAT },
    { 0, 0, J_TEMPLATE("{}"), 0, 0, "single is an object", MRC_ERR_FORMAT },
    { 0, 0, J_TEMPLATE("[]"), 0, 0, "has 0 sequences, expected 1", MRC_ERR_FORMAT },
    { 0, 0, J_TEMPLATE("[{}]"), 0, 0, "neither Sequence nor SpecialToken", MRC_ERR_FORMAT },
    { 0, 0, J_TEMPLATE("[3]"), 0, 0, "neither Sequence nor SpecialToken", MRC_ERR_FORMAT },
    { 0, 0, J_TEMPLATE("[{\"Sequence\":{}}]"), 0, 0, "has no id", MRC_ERR_FORMAT },
    { 0, 0, J_TEMPLATE("[{\"Sequence\":{\"id\":\"B\"}}]"), 0, 0, "sequence B as number 1",
      MRC_ERR_UNSUPPORTED },
    { 0, 0, J_TEMPLATE("[{\"Sequence\":{\"id\":\"A\"}},{\"Sequence\":{\"id\":\"A\"}}]"), 0, 0,
      "sequence A as number 2", MRC_ERR_UNSUPPORTED },
    { 0, 0, J_TEMPLATE("[{\"SpecialToken\":{\"id\":\"[X]\"}}]"), 0, 0, "\"[X]\" has no ids",
      MRC_ERR_FORMAT },
    { 0, 0, J_TEMPLATE("[{\"Sequence\":{\"id\":\"A\",\"type_id\":-1}}]"), 0, 0, "type_id is -1",
      MRC_ERR_FORMAT },
    { 0, 0, J_TEMPLATE("[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]"), 0, 0,
      "pair has 0 sequences", MRC_ERR_FORMAT },
    { 0, 0, 0, "{}", 0, "added_tokens is an object", MRC_ERR_FORMAT },
    { 0, 0, 0, "[3]", 0, "without id", MRC_ERR_FORMAT },
    { 0, 0, 0, "[{\"id\":3}]", 0, "without content", MRC_ERR_FORMAT },
    { 0, 0, 0, "[{\"content\":\"a\"}]", 0, "without id", MRC_ERR_FORMAT },
    { 0, 0, 0, "[{\"id\":2,\"content\":\"a\"}]", 0, "two ids: 3 in the vocabulary and 2",
      MRC_ERR_FORMAT },
    { 0, 0, 0, "[{\"id\":3,\"content\":\"z\"}]", 0, "id 3 has two tokens: \"a\" and \"z\"",
      MRC_ERR_FORMAT },
    { 0, 0, 0, "[{\"id\":5,\"content\":\"z\"}]", 0, "has id 5, expected 0 to 4", MRC_ERR_FORMAT },
    { 0, 0, 0, "[{\"id\":4,\"content\":\"\"}]", 0, "empty token", MRC_ERR_FORMAT },
    { 0, 0, 0, "[{\"id\":-4,\"content\":\"z\"}]", 0, "is -4, expected", MRC_ERR_FORMAT },
    { 0, 0, 0, "[{\"id\":4,\"content\":\"\xcc\x81\",\"normalized\":true}]", 0,
      "leaves nothing of the added token", MRC_ERR_UNSUPPORTED },
    { 0, 0, 0, "[{\"id\":4,\"content\":\"z\"},{\"id\":5,\"content\":\"z\"}]", 0, "two ids: 4",
      MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"BPE\"}", "vocab is absent", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"BPE\",\"dropout\":0.5,\"vocab\":{},\"merges\":[]}", "dropout",
      MRC_ERR_UNSUPPORTED },
    { 0, 0, 0, 0, "{\"type\":\"BPE\",\"byte_fallback\":true,\"merges\":[],\"vocab\":{" J_THREE
      "\"<0x00>\":3}}", "255 of the 256 tokens", MRC_ERR_UNSUPPORTED },
    { 0, 0, 0, 0, "{\"type\":\"BPE\",\"merges\":[\"a b\"],\"vocab\":{" J_THREE "\"a\":3}}",
      "not in the vocabulary (\"b\")", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"Unigram\"}", "vocab is absent", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\"]]}", "entry 0 of vocab is",
      MRC_ERR_FORMAT },
    { 0, 0, 0, "[]", "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[]}", "no tokens",
      MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"Unigram\",\"unk_id\":null,\"vocab\":[[\"a\",0]]}",
      "unk_id is null, expected 0 to 0", MRC_ERR_UNSUPPORTED },
    { 0, 0, 0, 0, "{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"a\",0]]}",
      "unk_id is 1, expected an integer from 0 to 0", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"WordLevel\"}", "model of type WordLevel", MRC_ERR_UNSUPPORTED },
    { 0, 0, 0, 0, "{\"type\":7}", "model of type unknown", MRC_ERR_UNSUPPORTED },
    { 0, 0, 0, 0, "{}", "vocab is absent", MRC_ERR_FORMAT },        // untyped: WordPiece
    { 0, 0, 0, 0, "{\"type\":\"WordPiece\"}", "vocab is absent", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"WordPiece\",\"vocab\":[]}", "vocab is an array", MRC_ERR_FORMAT },
    { 0, 0, 0, "[]", J_VOCAB(""), "no tokens", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\":-1"), "is -1, expected", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\":2147483648"), "is 2147483648, expected", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\":2147483647"), "has id 2147483647, expected 0 to 4",
      MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\":99999999999999999999"), "expected an integer",
      MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\":3.5"), "is 3.5, expected an integer", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\":\"3\""), "is a string, expected an integer",
      MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\":4"), "no token has id 3, but one has 4", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\":2"), "id 2 has two tokens: \"[UNK]\" and \"a\"",
      MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\":3,\"a\":4"), "\"a\" is there twice: with id 3 and id 4",
      MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"\":3"), "empty token", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, J_VOCAB(J_THREE "\"a\\u0000\":3"), "NUL", MRC_ERR_FORMAT },
    { 0, 0, 0, "[]", J_VOCAB("\"[CLS]\":0,\"[SEP]\":1,\"a\":2"), "unk_token \"[UNK]\" is not",
      MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"WordPiece\",\"max_input_chars_per_word\":0,\"vocab\":{" J_THREE
      "\"a\":3}}", "max_input_chars_per_word is 0", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"WordPiece\",\"continuing_subword_prefix\":3,\"vocab\":{" J_THREE
      "\"a\":3}}", "continuing_subword_prefix is a number", MRC_ERR_FORMAT },
    { 0, 0, 0, 0, "{\"type\":\"WordPiece\",\"type\":\"BPE\",\"vocab\":{}}", "type",
      MRC_ERR_FORMAT },
};

static void put_json(const char *norm, const char *pre, const char *post, const char *added,
                     const char *model) {
    char text[4096];
    int n = snprintf(text, sizeof text, "{\"version\":\"1.0\",\"added_tokens\":%s,"
                     "\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,\"model\":%s}",
                     added ? added : J_ADDED, norm ? norm : J_NORM, pre ? pre : J_PRE,
                     post ? post : J_POST, model ? model : J_MODEL);
    put("tokenizer.json", text, (size_t)n);
}

static void test_bad_json(void) {
    const char *config = "{\"do_lower_case\": false}";
    for (size_t i = 0; i < sizeof bad_json / sizeof *bad_json; i++) {
        put_json(bad_json[i].norm, bad_json[i].pre, bad_json[i].post, bad_json[i].added,
                 bad_json[i].model);
        check_refused(in_folder("tokenizer.json"), bad_json[i].status, bad_json[i].message,
                      bad_json[i].message);
    }
    put_json(0, 0, 0, 0, 0);
    mrc_tokenizer *tok = load(folder);      // BertProcessing
    mrc_encodings e = {0};
    static const int32_t ids[] = { 0, 3, 1, 3, 2, 1 }, types[] = { 0, 0, 0, 1, 1, 1 };
    if (tok && mrc_tokenizer_encode(ctx, tok, &e, "A", 1, "a[UNK]", 6, NULL) == MRC_OK) {
        CHECK(e.list[0].n == 6 && !memcmp(e.list[0].input_ids, ids, sizeof ids)
              && !memcmp(e.list[0].token_type_ids, types, sizeof types), "BertProcessing");
    }
    mrc_encodings_free(&e);
    mrc_tokenizer_free(tok);
    put("tokenizer_config.json", config, strlen(config));
    check_refused(folder, MRC_ERR_FORMAT, "lowercase is 1 here and 0 in", "files that disagree");
    take("tokenizer_config.json");
    take("tokenizer.json");
}

//
// Byte-level BPE: the fixture with one thing wrong
//
// `text` with `what`, which must be in it, replaced.
static void put_edited(const char *name, const char *text, size_t bytes, const char *what,
                       const char *with) {
    const char *at = what ? strstr(text, what) : text;
    mrc_text t;
    mrc_text_init(&t, ctx);
    if (!CHECK(at, "%s: no %s to replace", name, what ? what : "")) return;
    mrc_text_add(&t, text, (size_t)(at - text));
    mrc_text_add(&t, with ? with : "", with ? strlen(with) : 0);
    size_t after = (size_t)(at - text) + (what ? strlen(what) : 0);
    mrc_text_add(&t, text + after, bytes - after);
    put(name, t.data, t.bytes);
    mrc_text_free(&t);
}

typedef struct edit { const char *what, *with, *message; mrc_status status; } edit;
static const edit bad_vocab_json[] = {
    { "\"a\": ", "\"a\": 5, \"z9\": ", "id 5 has two tokens", MRC_ERR_FORMAT },
    { "\"a\": ", "\"a\": 99999, \"z9\": ", "has id 99999, expected 0 to", MRC_ERR_FORMAT },
    { "{", "[{", "", MRC_ERR_FORMAT },
    { "\"a\": ", "\"b\": ", "the key \"b\" appears twice", MRC_ERR_FORMAT },
    { "\"a\": ", "\"a\": -", "is -", MRC_ERR_FORMAT },
    { "\"a\": ", "\"a\": 2147483648, \"z9\": ", "is 2147483648, expected", MRC_ERR_FORMAT },
    { "\"a\": ", "\"a\": 4294967296, \"z9\": ", "is 4294967296, expected", MRC_ERR_FORMAT },
    { "\"a\": ", "\"a\": 1e99, \"z9\": ", "expected an integer", MRC_ERR_FORMAT },
    { "\"a\": ", "\"a\": null, \"z9\": ", "is null, expected an integer", MRC_ERR_FORMAT },
    { "\"a\": ", "\"a\": [1], \"z9\": ", "is an array", MRC_ERR_FORMAT },
    { "\"a\": ", "\"\": ", "empty token", MRC_ERR_FORMAT },
    { "\"a\": ", "\"a\\u0000\": ", "NUL", MRC_ERR_FORMAT },
    { "\"a\": ", "\"\\ud800\": ", "vocab.json:1:", MRC_ERR_FORMAT },
    { "\"a\": ", "\"A1\": ", "no token for byte 0x61 (U+0061)", MRC_ERR_FORMAT },
    { "\"\\u0100\": ", "\"A1\": ", "no token for byte 0x00 (U+0100)", MRC_ERR_FORMAT },
    { "\"\\u00ff\": ", "\"<0x-1>\": ", "no token for byte 0xff (U+00FF)", MRC_ERR_FORMAT },
    { "\"<s>\": 0", "\"<s>\": 1", "id 1 has two tokens", MRC_ERR_FORMAT },
    { "\"<s>\": 0", "\"<t>\": 0", "cls_token \"<s>\" is not in", MRC_ERR_FORMAT },
    { "\"</s>\": 2", "\"</t>\": 2", "sep_token \"</s>\" is not in", MRC_ERR_FORMAT },
    { "\"<unk>\": 3", "\"<unc>\": 3", "unk_token \"<unk>\" is not in", MRC_ERR_FORMAT },
    { "\"<s>\": 0, ", "", "has id", MRC_ERR_FORMAT },
    { "\"ab\": ", "\"aB\": ", "what \"a\" and \"b\" merge into is not", MRC_ERR_FORMAT },
};
static const edit bad_merges[] = {
    { "a b\n", "a b\na b\n", "there twice: as number", MRC_ERR_FORMAT },
    { "a b\n", "a bq\n", "a token that is not in the vocabulary (\"bq\")", MRC_ERR_FORMAT },
    { "a b\n", "qa b\n", "a token that is not in the vocabulary (\"qa\")", MRC_ERR_FORMAT },
    { "a b\n", "a z\n", "what \"a\" and \"z\" merge into is not", MRC_ERR_FORMAT },
    { "a b\n", "ab\n", "not a merge (found \"ab\"", MRC_ERR_FORMAT },
    { "a b\n", "a  b\n", "not a merge (found \"a  b\"", MRC_ERR_FORMAT },
    { "a b\n", "a b c\n", "not a merge (found \"a b c\"", MRC_ERR_FORMAT },
    { "a b\n", " b\n", "not a merge (found \" b\"", MRC_ERR_FORMAT },
    { "a b\n", "a \n", "not a merge (found \"a \"", MRC_ERR_FORMAT },
    { "a b\n", " \n", "not a merge", MRC_ERR_FORMAT },
    { "a b\n", "\n", "not a merge (found \"\"", MRC_ERR_FORMAT },
    { "a b\n", "a\tb\n", "not a merge", MRC_ERR_FORMAT },
    { "a b\n", "a <0x-1>\n", "a token that is not in the vocabulary (\"<0x-1>\")", MRC_ERR_FORMAT },
    { "a b\n", "a \xff\n", "merges.txt:", MRC_ERR_FORMAT },
    { "a b\n", "a \xed\xa0\x80\n", "ill-formed UTF-8 (byte 0xed", MRC_ERR_FORMAT },
};
#define P_MODEL "\"dropout\":null"
static const edit bad_prefix_json[] = {
    { P_MODEL, "\"dropout\":0.1", "dropout is a number", MRC_ERR_UNSUPPORTED },
    { "\"ignore_merges\":false", "\"ignore_merges\":0", "expected true or", MRC_ERR_FORMAT },
    { "\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"",
      "continuing_subword_prefix", MRC_ERR_UNSUPPORTED },
    { "\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"", "end_of_word_suffix",
      MRC_ERR_UNSUPPORTED },
    { "\"unk_token\":null", "\"unk_token\":\"<nope>\"", "unk_token \"<nope>\"", MRC_ERR_FORMAT },
    { "\"sep\":[\"</s>\",2]", "\"sep\":[\"</s>\",99999]", "is 99999, expected an integer",
      MRC_ERR_FORMAT },
    { "\"cls\":[\"<s>\",0]", "\"cls\":\"<s>\"", "\"cls\": [token, id]", MRC_ERR_FORMAT },
    { "\"merges\":[[", "\"merges\":[3,[", "a merge is a number", MRC_ERR_FORMAT },
    { "\"merges\":[[", "\"merges\":[[\"a\"],[", "a merge is an array", MRC_ERR_FORMAT },
    { "\"merges\":[[", "\"merges\":[[\"a\",7],[", "a merge is an array", MRC_ERR_FORMAT },
    { "\"merges\":[[", "\"merges\":[\"ab\",[", "not a merge (found \"ab\"", MRC_ERR_FORMAT },
    { "\"merges\":[[", "\"merges\":[[\"\",\"a\"],[", "a token that is not in", MRC_ERR_FORMAT },
    { "\"merges\":[[", "\"merges\":[[\"a\\u0000\",\"a\"],[", "a token that is not in",
      MRC_ERR_FORMAT },
    { "\"merges\":", "\"merges\":{},\"m\":", "merges is an object", MRC_ERR_FORMAT },
    { "\"merges\":", "\"m\":", "merges is absent", MRC_ERR_FORMAT },
    { "\"trim_offsets\":true,\"add_prefix_space\":true}", "\"trim_offsets\":1}",
      "trim_offsets is a", MRC_ERR_FORMAT },
};

// Each edit of a file of the folder is refused; then the file is as it was.
#define REFUSE_EDITS(name, text, bytes, list) \
    refuse_edits(name, text, bytes, list, sizeof list / sizeof *list)
static void refuse_edits(const char *name, const char *text, size_t bytes, const edit *list,
                         size_t n) {
    for (size_t i = 0; i < n; i++) {
        put_edited(name, text, bytes, list[i].what, list[i].with);
        check_refused(folder, list[i].status, list[i].message, list[i].with);
    }
    put(name, text, bytes);
}

static void test_bad_bytes(void) {
    char *vocab = NULL, *merges = NULL, *json = NULL;
    size_t v = 0, m = 0, j = 0;
    CHECK(mrc_file_read(ctx, &vocab, &v, "tests/fixtures/tokenizer/bytes/vocab.json") == MRC_OK
          && mrc_file_read(ctx, &merges, &m, "tests/fixtures/tokenizer/bytes/merges.txt") == MRC_OK
          && mrc_file_read(ctx, &json, &j, "tests/fixtures/tokenizer/prefix/tokenizer.json")
             == MRC_OK, "%s", mrc_ctx_message(ctx));
    if (!vocab || !merges || !json) return;
    put("merges.txt", merges, m);
    REFUSE_EDITS("vocab.json", vocab, v, bad_vocab_json);
    REFUSE_EDITS("merges.txt", merges, m, bad_merges);
    take("merges.txt");
    check_refused(folder, MRC_ERR_ARG, "merges.txt: cannot open", "no merges.txt");
    take("vocab.json");
    REFUSE_EDITS("tokenizer.json", json, j, bad_prefix_json);
    put("tokenizer_config.json", "{\"add_prefix_space\": false}", 27);
    check_refused(folder, MRC_ERR_FORMAT, "add_prefix_space is 1 here and 0 in", "disagreement");
    take("tokenizer_config.json");
    take("tokenizer.json");
    mrc_file_free(ctx, vocab);
    mrc_file_free(ctx, merges);
    mrc_file_free(ctx, json);
}

// What takes memory out of proportion is refused by its size.
static void test_too_large(void) {
    mrc_text t;
    mrc_text_init(&t, ctx);
    mrc_text_printf(&t, SPECIALS "%070000d\n", 1);
    put("vocab.txt", t.data, t.bytes);
    check_refused(folder, MRC_ERR_FORMAT, "vocab.txt:4:1: token of 70000 bytes", "a long token");
    mrc_text_free(&t);
    CHECK(truncate(in_folder("vocab.txt"), (off_t)1 << 30) == 0, "a file of 1 GiB");
    check_refused(folder, MRC_ERR_FORMAT, "vocab.txt: a file of 1073741824 bytes", "1 GiB");
    take("vocab.txt");
    put("tokenizer.json", "{", 1);
    CHECK(truncate(in_folder("tokenizer.json"), (off_t)1 << 30) == 0, "a file of 1 GiB");
    check_refused(folder, MRC_ERR_FORMAT, "tokenizer.json: a file of 1073741824 bytes", "1 GiB");
    take("tokenizer.json");
}

//
// ../shared/cases/tokenizer/upstream_tokenizer_cases.json
//
// A folder of these tokens (as they come, without twins) and the special ones that lack.
static mrc_tokenizer *of_tokens(const char *vocab_file, const mrc_json *tokens,
                                const mrc_json *added, const char *config) {
    static const char *const needed[] = { "[UNK]", "[CLS]", "[SEP]", "[MASK]" };
    mrc_text t;
    char *data = NULL;
    size_t bytes = 0;
    mrc_text_init(&t, ctx);
    if (vocab_file) {
        char name[256];
        snprintf(name, sizeof name, "data/english/%s.vocab.txt", vocab_file);
        CHECK(mrc_file_read(ctx, &data, &bytes, shared(name)) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
        mrc_text_add(&t, data, bytes);
        mrc_file_free(ctx, data);
    }
    mrc_text_add(&t, "\n", vocab_file ? 0 : 1);         // so that each token stands between two
    for (int pass = 0; pass < 3; pass++) {
        const mrc_json *j = pass == 0 ? tokens : pass == 1 ? added : NULL;
        j = j ? j->child : NULL;
        for (size_t i = 0; pass == 2 ? i < 4 : j != NULL; i++) {
            char line[256];
            const char *text = pass == 2 ? needed[i] : j->type == MRC_JSON_ARRAY ? j->child->string
                             : j->string;
            snprintf(line, sizeof line, "\n%s\n", text);
            if (!t.data || !strstr(t.data, line)) mrc_text_add(&t, line + 1, strlen(line + 1));
            if (j) j = j->next;
        }
    }
    put("vocab.txt", t.data + (vocab_file ? 0 : 1), t.bytes - (vocab_file ? 0 : 1));
    put("tokenizer_config.json", config, strlen(config));
    mrc_text_free(&t);
    return load(folder);
}

// Offsets are [begin, end], or begin alone; the pre-tokeniser's are [word, begin, end] in bytes.
static int upstream_offsets(const mrc_json *c, const mrc_encoding *e, const char *text,
                            size_t bytes) {
    const mrc_json *offsets = mrc_json_get(c, "offsets");
    const mrc_json *starts = mrc_json_get(c, "offset_starts");
    const mrc_json *words = mrc_json_get(c, "expected");
    size_t i = 0;
    if (offsets && offsets->type == MRC_JSON_ARRAY && !same_offsets(offsets, e)) return 0;
    for (const mrc_json *j = starts ? starts->child : NULL; j; j = j->next, i++) {
        if (i == e->n || j->integer != e->offset_mapping[i][0]) return 0;
    }
    if (!words || words->type != MRC_JSON_ARRAY) return 1;
    for (const mrc_json *j = words->child; j; j = j->next, i++) {
        const mrc_json *b = j->child->next;
        if (i == e->n) return 0;
        size_t begin = mrc_utf8_offset(text, bytes, (size_t)e->offset_mapping[i][0]);
        size_t end = mrc_utf8_offset(text, bytes, (size_t)e->offset_mapping[i][1]);
        if (b->integer != (int64_t)begin || b->next->integer != (int64_t)end) return 0;
    }
    return i == e->n;
}

static void check_upstream(const mrc_json *c, const char *kind, size_t number) {
    const mrc_json *args = mrc_json_get(c, "args"), *text = mrc_json_get(c, "text");
    const mrc_json *vocab = mrc_json_get(c, "vocab"), *pair = mrc_json_get(c, "pair");
    const mrc_json *tokens = mrc_json_get(c, "tokens"), *added = mrc_json_get(c, "added_tokens");
    const mrc_json *words = mrc_json_get(c, "expected");
    const mrc_json *given = mrc_json_get(c, "vocab_tokens"), *ids = mrc_json_get(c, "ids");
    const mrc_json *lower = mrc_json_get(args ? args : c, "lowercase");
    const mrc_json *strip = mrc_json_get(args, "strip_accents");
    char config[512];
    mrc_encode_options o = { .no_special_tokens = !vocab || added };
    mrc_encodings e = {0};
    snprintf(config, sizeof config, "{\"do_lower_case\": %s, \"strip_accents\": %s%s%s%s}",
             lower && lower->type == MRC_JSON_TRUE ? "true" : "false",
             !strip || strip->type == MRC_JSON_NULL ? "null"
             : strip->type == MRC_JSON_TRUE ? "true" : "false",
             added ? ", \"additional_special_tokens\": [\"" : "", added ? added->child->string : "",
             added ? "\"]" : "");
    mrc_tokenizer *tok = of_tokens(vocab ? vocab->string : NULL,
                                   given ? given : tokens ? tokens : words, added, config);
    if (!tok) return;
    mrc_status s = mrc_tokenizer_encode(ctx, tok, &e, text->string, text->bytes,
                                        pair ? pair->string : NULL, pair ? pair->bytes : 0, &o);
    const mrc_encoding *x = e.list;
    CHECK(s == MRC_OK && (!tokens || same_tokens(tokens, tok, x))
          && (!ids || same_ints(ids, x->input_ids, x->n, 1, -9))
          && upstream_offsets(c, x, text->string, text->bytes), "upstream case %zu (%s): \"%s\"",
          number, kind, text->string);
    mrc_encodings_free(&e);
    mrc_tokenizer_free(tok);
    take("tokenizer_config.json");
    take("vocab.txt");
}

// The normaliser alone: a tokenizer.json whose vocabulary is the words expected of it.
static void check_normalizer(const mrc_json *c, size_t number) {
    static const char *const keys[] = { "strip_accents", "lowercase", "handle_chinese_chars",
                                        "clean_text" };
    const mrc_json *args = mrc_json_get(c, "args"), *text = mrc_json_get(c, "text");
    char norm[512] = "{\"type\":\"BertNormalizer\"", model[512], words[128], *word, *rest = words;
    char again[128] = "";
    for (size_t i = 0; i < 4; i++) {
        snprintf(norm + strlen(norm), sizeof norm - strlen(norm), ",\"%s\":%s", keys[i],
                 mrc_json_get(args, keys[i])->type == MRC_JSON_TRUE ? "true" : "false");
    }
    snprintf(norm + strlen(norm), sizeof norm - strlen(norm), "}");
    snprintf(words, sizeof words, "%s", mrc_json_get(c, "expected")->string);
    snprintf(model, sizeof model, "{\"type\":\"WordPiece\",\"vocab\":{\"[CLS]\":0,\"[SEP]\":1,"
             "\"[UNK]\":2");
    int n = 0;
    while ((word = strtok_r(rest, " ", &rest))) {
        snprintf(model + strlen(model), sizeof model - strlen(model), ",\"%s\":%d", word, 3 + n++);
        snprintf(again + strlen(again), sizeof again - strlen(again), "%s ", word);
    }
    snprintf(model + strlen(model), sizeof model - strlen(model), "}}");
    put_json(norm, 0, 0, 0, model);
    mrc_tokenizer *tok = load(in_folder("tokenizer.json"));
    mrc_encodings e = {0};
    int ok = tok && mrc_tokenizer_encode(ctx, tok, &e, text->string, text->bytes, NULL, 0, NULL)
             == MRC_OK && e.list[0].n == (size_t)n + 2;
    for (int i = 0; ok && i < n; i++) ok = e.list[0].input_ids[i + 1] == 3 + i;
    CHECK(ok, "upstream case %zu (normalizer): \"%s\" is not \"%s\"", number, text->string, again);
    mrc_encodings_free(&e);
    mrc_tokenizer_free(tok);
    take("tokenizer.json");
}

static void check_classes(const mrc_json *c) {
    static const struct { const char *key; unsigned bit, on; } lists[] = {
        { "whitespace", MRC__UNI_SPACE, 1 }, { "not_whitespace", MRC__UNI_SPACE, 0 },
        { "control", MRC__UNI_DROP, 1 }, { "not_control", MRC__UNI_DROP, 0 },
        { "punctuation", MRC__UNI_PUNCT, 1 }, { "not_punctuation", MRC__UNI_PUNCT, 0 },
    };
    mrc_tokenizer *tok = load("tests/fixtures/tokenizer/cased");
    for (size_t i = 0; tok && i < sizeof lists / sizeof *lists; i++) {
        for (const mrc_json *j = mrc_json_get(c, lists[i].key)->child; j; j = j->next) {
            uint32_t cp = 0;
            mrc_utf8_decode(j->string, j->bytes, &cp);
            CHECK(!(mrc__uni_at(tok->classes, cp) & lists[i].bit) == !lists[i].on, "U+%04X: %s",
                  (unsigned)cp, lists[i].key);
        }
    }
    mrc_tokenizer_free(tok);
}

static void test_upstream(void) {
    mrc_json *cases = NULL;
    size_t number = 0, used = 0, others = 0;
    if (!have_shared("upstream cases")) return;
    CHECK(mrc_json_load(ctx, &cases, shared("cases/tokenizer/upstream_tokenizer_cases.json"))
          == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (const mrc_json *c = cases ? cases->child : NULL; c; c = c->next, number++) {
        const char *kind = mrc_json_get(c, "kind")->string;
        if (strcmp(kind, "bert_normalizer") == 0) check_normalizer(c, number);
        else if (strcmp(kind, "char_classes") == 0) check_classes(c);
        else if (mrc_json_get(c, "text") && strcmp(kind, "roberta_encode"))
            check_upstream(c, kind, number);
        else others++;              // byte-level BPE, decoding, and what other tests here repeat
        used++;
    }
    CHECK(used == 35 && others == 6, "%zu upstream cases, %zu of them not for this tokenizer", used,
          others);
    mrc_json_free(cases);
}

//
// Time and memory
//
static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Each takes milliseconds when it is linear, and minutes when it is not.
static void test_linear(void) {
    mrc_tokenizer *tok = load("tests/fixtures/tokenizer/uncased");
    size_t n = 2000000;
    char *text = malloc(n);
    double begun = seconds();
    for (int kind = 0; tok && text && kind < 4; kind++) {
        mrc_encodings e;
        for (size_t i = 0; i + 1 < n; i += 2) {         // marks of falling classes, one word, [[[[
            memcpy(text + i, kind == 0 ? (i % 4 ? "\xCC\xA7" : "\xCC\x81") : kind == 1 ? "ab"
                   : kind == 2 ? "[M" : "a ", 2);
        }
        CHECK(mrc_tokenizer_encode(ctx, tok, &e, text, n, NULL, 0, NULL) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
        CHECK(kind != 1 || e.list[0].n == 3, "a long word is one [UNK]");
        mrc_encodings_free(&e);
    }
    CHECK(seconds() - begun < 20, "8 MB of hostile text took %.1f s", seconds() - begun);
    free(text);
    mrc_tokenizer_free(tok);
    tok = load("tests/fixtures/tokenizer/prefix");
    text = malloc(n);
    for (int kind = 0; tok && text && kind < 4; kind++) {
        mrc_encodings e;
        for (size_t i = 0; i < n; i++) text[i] = "aab <m\n\n"[2 * (size_t)kind + i % 2];
        CHECK(mrc_tokenizer_encode(ctx, tok, &e, text, n, NULL, 0, NULL) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
        CHECK(kind != 0 || (e.list[0].n > n / 5 && e.list[0].n < n / 3), "%zu tokens",
              e.list[0].n);
        mrc_encodings_free(&e);
    }
    free(text);
    mrc_tokenizer_free(tok);
    mrc_text t;
    mrc_text_init(&t, ctx);
    mrc_text_printf(&t, SPECIALS);
    for (int i = 0; i < 100000; i++) mrc_text_printf(&t, "%c%d\n", 'a' + i % 26, i);
    put("vocab.txt", t.data, t.bytes);
    begun = seconds();
    tok = load(in_folder("vocab.txt"));
    CHECK(seconds() - begun < 5, "100,000 tokens took %.1f s", seconds() - begun);
    CHECK(tok && mrc_tokenizer_size(tok) == 100003, "size");
    mrc_tokenizer_free(tok);
    take("vocab.txt");
    mrc_text_free(&t);
}

// The n-th allocation fails, once or from then on.
typedef struct failing { size_t n, at; int on, live; } failing;
static void *failing_alloc(void *user, size_t bytes) {
    failing *f = user;
    f->n++;
    if (f->n == f->at || (f->on && f->n > f->at)) return NULL;
    void *p = malloc(bytes);
    if (p) f->live++;
    return p;
}
static void failing_free(void *user, void *p) {
    if (p) ((failing *)user)->live--;
    free(p);
}

static mrc_status load_and_encode(mrc_ctx *c, const char *path) {
    mrc_tokenizer *tok = NULL;
    mrc_encodings e = {0};
    const char *text = "The re\xCC\xA7\xCC\x81" "ader[MASK] \xC3\xA9\xE3\x80\xAE reads books";
    mrc_encode_options o = { .truncation = MRC_TRUNCATION_ONLY_SECOND, .max_length = 9 };
    mrc_status s = mrc_tokenizer_load(c, &tok, path);
    if (s == MRC_OK) s = mrc_tokenizer_encode(c, tok, &e, "a b", 3, text, strlen(text), &o);
    if (s == MRC_OK && e.n < 2) s = MRC_ERR_SHAPE;
    mrc_encodings_free(&e);
    mrc_tokenizer_free(tok);
    return s;
}

//
// Small inputs from public reports, and what is saved
//
// The ids of a text, special tokens included.
static size_t ids_of(const mrc_tokenizer *tok, const char *text, int32_t *ids, size_t most) {
    mrc_encodings e = {0};
    size_t n = 0;
    if (tok && mrc_tokenizer_encode(ctx, tok, &e, text, strlen(text), NULL, 0, NULL) == MRC_OK) {
        n = e.list[0].n < most ? e.list[0].n : most;
        memcpy(ids, e.list[0].input_ids, n * sizeof *ids);
    }
    mrc_encodings_free(&e);
    return n;
}
static void test_field(void) {
    static const struct { const char *name, *text; int32_t n, ids[6]; } cases[] = {
        { "untyped", "Hello world", 5, { 2, 4, 5, 6, 3 } },
        { "vocab_u2028", "Hello World", 4, { 2, 5, 7, 3 } },
        { "added_tokens_json", "hello <ent> world", 5, { 2, 5, 11, 6, 3 } },
        { "added_normalized", "hello *** world", 5, { 2, 5, 11, 6, 3 } },
        { "no_tokenizer_config", "Hello World", 4, { 2, 5, 6, 3 } },
        { "silent_lowercase", "Hello World", 4, { 2, 5, 6, 3 } },
    };
    if (!have_shared("inputs from public reports")) return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[600];
        int32_t ids[16];
        snprintf(path, sizeof path, "%s/%s", shared("cases/field"), cases[i].name);
        mrc_tokenizer *tok = load(path);
        size_t n = ids_of(tok, cases[i].text, ids, 16);
        CHECK(n == (size_t)cases[i].n && !memcmp(ids, cases[i].ids, n * sizeof *ids), "%s",
              cases[i].name);
        mrc_tokenizer_free(tok);
    }
}

// added_tokens.json and the decoder put tokens behind vocab.txt; which texts they are found in.
static void test_added(void) {
    const char *more = "{\"<ent>\": 5, \"[NEW]\": 6}";
    const char *config = "{\"do_lower_case\": true, \"added_tokens_decoder\": {\"7\": "
                         "{\"content\": \"xy\", \"single_word\": true, \"lstrip\": true, "
                         "\"rstrip\": true}}, "
                         "\"additional_special_tokens\": [\"[NEW]\", \"<last>\"]}";
    static const struct { const char *text; int32_t n, ids[8]; } cases[] = {
        { "a<ENT>b", 5, { 0, 3, 5, 4, 1 } },            // normalized: in any case
        { "a[NEW]b", 5, { 0, 3, 6, 4, 1 } }, { "a[new]b", 7, { 0, 3, 2, 2, 2, 4, 1 } },
        { "a xy b", 5, { 0, 3, 7, 4, 1 } }, { "axy b", 4, { 0, 2, 4, 1 } },
        { "<last>", 3, { 0, 8, 1 } },
    };
    put("vocab.txt", SPECIALS "a\nb\n", strlen(SPECIALS "a\nb\n"));
    put("added_tokens.json", more, strlen(more));
    put("tokenizer_config.json", config, strlen(config));
    mrc_tokenizer *tok = load(folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t ids[16];
        size_t n = ids_of(tok, cases[i].text, ids, 16);
        CHECK(n == (size_t)cases[i].n && !memcmp(ids, cases[i].ids, n * sizeof *ids), "\"%s\"",
              cases[i].text);
    }
    if (tok) CHECK(mrc_tokenizer_size(tok) == 9 && mrc_tokenizer_id(tok, "<ent>") == 5, "ids");
    mrc_tokenizer_free(tok);
    put("tokenizer_config.json", "{}", 2);
    put("added_tokens.json", "{\"a\": 3, \"<ent>\": 6}", 20);
    check_refused(folder, MRC_ERR_FORMAT, "no token has id 5", "a gap");
    put("added_tokens.json", "[]", 2);
    check_refused(folder, MRC_ERR_FORMAT, "added_tokens.json is an array", "an array");
    take("added_tokens.json");
    take("tokenizer_config.json");
    take("vocab.txt");
}

// A byte-level vocabulary without merges is BPE all the same.
static void test_no_merges(void) {
    mrc_tokenizer *tok = load("tests/fixtures/tokenizer/bytes");
    mrc_text vocab;
    mrc_text_init(&vocab, ctx);
    mrc_text_printf(&vocab, "{");
    for (int32_t id = 0; tok && mrc_tokenizer_token(tok, id); id++) {
        const char *token = mrc_tokenizer_token(tok, id);
        mrc_text_printf(&vocab, id ? "," : "");
        mrc_text_json_string(&vocab, token, strlen(token), 0);
        mrc_text_printf(&vocab, ":%d", (int)id);
    }
    mrc_text_printf(&vocab, "}");
    put("vocab.json", vocab.data, vocab.bytes);
    put("merges.txt", "#version: 0.2\n", 14);
    mrc_tokenizer *plain = load(folder);
    int32_t ids[16], one[16], h = tok ? mrc_tokenizer_id(tok, "h") : -1;
    size_t n = ids_of(plain, "hh", ids, 16);
    CHECK(n == 4 && ids[1] == h && ids[2] == h, "%zu ids", n);
    n = ids_of(plain, "h h", ids, 16);              // WordPiece would lose the space
    CHECK(n == 5 && ids[1] == h && ids[2] == mrc_tokenizer_id(plain, "\xc4\xa0") && ids[3] == h,
          "%zu ids", n);
    CHECK(plain && strcmp(mrc_tokenizer_kind(plain), "byte-level BPE") == 0, "kind");
    CHECK(ids_of(plain, "", one, 16) == 2 && one[0] == ids[0], "an empty text");
    mrc_tokenizer_free(plain);
    mrc_tokenizer_free(tok);
    mrc_text_free(&vocab);
    take("vocab.json");
    take("merges.txt");
}

static void copy(const char *from, const char *name) {
    char *data = NULL;
    size_t bytes = 0;
    CHECK(mrc_file_read(ctx, &data, &bytes, from) == MRC_OK, "%s", mrc_ctx_message(ctx));
    if (!data) return;
    put(name, data, bytes);
    mrc_file_free(ctx, data);
}
//
// pipelines.jsonl and models.jsonl: a tokenizer and its cases on each line
//
// Whether text and pair (NULL: the text alone, without special tokens) come out as the case says.
static int case_holds(const mrc_tokenizer *tok, const mrc_json *c) {
    const mrc_json *text = mrc_json_get(c, "text"), *pair = mrc_json_get(c, "text_pair");
    const mrc_json *words = mrc_json_get(c, "word_ids");
    mrc_encode_options alone = { .no_special_tokens = 1 };
    mrc_encodings e = {0}, one = {0};
    int ok = mrc_tokenizer_encode(ctx, tok, &e, text->string, text->bytes,
                                  pair ? pair->string : NULL, pair ? pair->bytes : 0,
                                  pair ? NULL : &alone) == MRC_OK
          && same_ints(mrc_json_get(c, "input_ids"), e.list[0].input_ids, e.list[0].n, 1, -1);
    if (ok && pair)
        ok = same_offsets(mrc_json_get(c, "offset_mapping"), &e.list[0])
          && same_ints(mrc_json_get(c, "token_type_ids"), e.list[0].token_type_ids, e.list[0].n, 1,
                       -1);
    if (ok && words)
        ok = mrc_tokenizer_encode(ctx, tok, &one, text->string, text->bytes, NULL, 0, &alone)
             == MRC_OK && same_ints(words, one.list[0].word_ids, one.list[0].n, 1, -1);
    mrc_encodings_free(&e);
    mrc_encodings_free(&one);
    return ok;
}
static void check_line_cases(const mrc_tokenizer *tok, const mrc_json *line, const char *how) {
    const mrc_json *name = mrc_json_get(line, "name");
    size_t n = 0;
    for (const mrc_json *c = mrc_json_get(line, "cases")->child; tok && c; c = c->next, n++) {
        CHECK(case_holds(tok, c), "%s%s, case %zu: \"%s\"", name->string, how, n,
              mrc_json_get(c, "text")->string);
    }
    CHECK(n > 0, "%s%s: no cases", name->string, how);
}
// What is saved from `path` gives the same.
static void check_saved(const char *path, const mrc_json *line) {
    char to[600];
    snprintf(to, sizeof to, "%s/saved", folder);
    CHECK(mrc_dir_new(ctx, to) == MRC_OK && mrc_tokenizer_save(ctx, path, to) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    mrc_tokenizer *tok = load(to);
    check_line_cases(tok, line, ", saved");
    mrc_tokenizer_free(tok);
    mrc_dir_remove(ctx, to);
}
// Calls `check` for each line of a fixture.
static void each_line(const char *file, size_t least, void (*check)(const mrc_json *line)) {
    char *data = NULL;
    size_t bytes = 0, lines = 0;
    CHECK(mrc_file_read(ctx, &data, &bytes, file) == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (char *p = data; p && p < data + bytes; lines++) {
        mrc_json *j = parse_line(&p, data + bytes, file);
        if (j) check(j);
        mrc_json_free(j);
    }
    CHECK(lines >= least, "%s: %zu lines", file, lines);
    if (data) mrc_file_free(ctx, data);
}
static void check_pipeline(const mrc_json *line) {
    const mrc_json *text = mrc_json_get(line, "tokenizer");
    put("pipeline.json", text->string, text->bytes);
    mrc_tokenizer *tok = load(in_folder("pipeline.json"));
    check_line_cases(tok, line, "");
    mrc_tokenizer_free(tok);
    check_saved(in_folder("pipeline.json"), line);
    take("pipeline.json");
}
static size_t unbase64(const mrc_json *text, unsigned char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < text->bytes && text->string[i] != '='; i++) {
        const char *d = strchr(digits, text->string[i]);
        bits = bits << 6 | (uint32_t)(d - digits);
        if (i % 4) out[n++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
    }
    return n;
}
static void put_model(const mrc_json *line, const char *dir) {
    const mrc_json *model = mrc_json_get(line, "model");
    unsigned char *data = malloc(model->bytes);
    char name[300];
    if (!data) return;
    mrc_dir_new(ctx, in_folder(dir));
    snprintf(name, sizeof name, "%s/%s", dir, mrc_json_get(line, "file")->string);
    put(name, (const char *)data, unbase64(model, data));
    free(data);
    for (const mrc_json *j = mrc_json_get(line, "files")->child; j; j = j->next) {
        snprintf(name, sizeof name, "%s/%s", dir, j->key);
        put(name, j->string, j->bytes);
    }
}
static void check_model(const mrc_json *line) {
    put_model(line, "model");
    mrc_tokenizer *tok = load(in_folder("model"));
    check_line_cases(tok, line, "");
    mrc_tokenizer_free(tok);
    check_saved(in_folder("model"), line);
    if (mrc_json_get(line, "files")->n == 0) {      // the file alone says all
        char path[600];
        snprintf(path, sizeof path, "%s/model/%s", folder, mrc_json_get(line, "file")->string);
        check_saved(path, line);
    }
    mrc_dir_remove(ctx, in_folder("model"));
}
static void test_kinds(void) {
    each_line("tests/fixtures/tokenizer/pipelines.jsonl", 29, check_pipeline);
    each_line("tests/fixtures/tokenizer/models.jsonl", 11, check_model);
}

// A class beside a file that it does not read; what is found is named, and what was expected.
static void check_wrong_file(const char *class, const char *fast, const char *wants,
                             const char *found) {
    char config[200], message[300];
    snprintf(config, sizeof config, "{\"tokenizer_class\": \"%s%s\"}", class, fast);
    snprintf(message, sizeof message, "tokenizer_class %s reads %s, which is not in this folder "
             "(found %s, expected %s%s, or another tokenizer_class in tokenizer_config.json)",
             class, wants, found, wants,
             strcmp(wants, "tokenizer.json") ? " or tokenizer.json" : "");
    put("tokenizer_config.json", config, strlen(config));
    check_refused(folder, MRC_ERR_UNSUPPORTED, message, config);
}

static void copy_bytes(const char *name) {
    char path[200], *data = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "tests/fixtures/tokenizer/bytes/%s", name);
    CHECK(mrc_file_read(ctx, &data, &bytes, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    if (data) put(name, data, bytes);
    if (data) mrc_file_free(ctx, data);
}

// Every class of transformers reads one kind of file, and is refused beside any other.
static void test_class_files(void) {
    static const struct { const char *class, *wants; } classes[] = {
        { "BertTokenizer", "vocab.txt" }, { "DistilBertTokenizer", "vocab.txt" },
        { "ElectraTokenizer", "vocab.txt" }, { "MPNetTokenizer", "vocab.txt" },
        { "SplinterTokenizer", "vocab.txt" }, { "RobertaTokenizer", "vocab.json" },
        { "GPT2Tokenizer", "vocab.json" }, { "LongformerTokenizer", "vocab.json" },
        { "DebertaTokenizer", "vocab.json" },
        { "XLMRobertaTokenizer", "sentencepiece.bpe.model" },
        { "CamembertTokenizer", "sentencepiece.bpe.model" },
        { "AlbertTokenizer", "spiece.model" }, { "BigBirdTokenizer", "spiece.model" },
        { "DebertaV2Tokenizer", "spm.model" }, { "KoBertTokenizer", "tokenizer_*.model" },
        { "KoBERTTokenizer", "tokenizer_*.model" }, { "LlamaTokenizer", "tokenizer.json" },
        { "Qwen2Tokenizer", "tokenizer.json" }, { "PreTrainedTokenizer", "tokenizer.json" } };
    static const char *const files[] = { "vocab.txt", "vocab.json", "sentencepiece.bpe.model",
                                         "spiece.model", "spm.model" };
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        put(files[f], SPECIALS "a\n", strlen(SPECIALS "a\n"));
        for (size_t c = 0; c < sizeof classes / sizeof *classes; c++) {
            if (strcmp(files[f], classes[c].wants) == 0) continue;
            check_wrong_file(classes[c].class, "", classes[c].wants, files[f]);
            check_wrong_file(classes[c].class, "Fast", classes[c].wants, files[f]);
        }
        take(files[f]);
    }
    check_refused(folder, MRC_ERR_ARG, "neither tokenizer.json nor vocab.txt", "no file");
}

// Which of several files is read: the class's; beside its own file another one does not matter.
static void test_class_choice(void) {
    static const char albert[] = "{\"tokenizer_class\": \"AlbertTokenizer\"}";
    put("vocab.txt", SPECIALS "a\nb\n", strlen(SPECIALS "a\nb\n"));
    copy_bytes("vocab.json");
    copy_bytes("merges.txt");
    static const struct { const char *config; int words; } both[] = {
        { "{\"tokenizer_class\": \"RobertaTokenizer\"}", 0 },
        { "{\"tokenizer_class\": \"BertTokenizer\"}", 1 }, { "{}", 1 } };
    for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
        put("tokenizer_config.json", both[i].config, strlen(both[i].config));
        mrc_tokenizer *tok = load(folder);
        CHECK(tok && (mrc_tokenizer_id(tok, "[CLS]") == 0) == both[i].words, "%s", both[i].config);
        mrc_tokenizer_free(tok);
    }
    // KoBERT's model, the first by name, where no class is named.
    static const char *const models[] = { "tokenizer_c.model", "tokenizer_a.model",
                                          "tokenizer_b.model" };
    for (size_t i = 0; i < 3; i++) put(models[i], "", 0);
    check_refused(folder, MRC_ERR_FORMAT, "tokenizer_a.model: no SentencePiece model", "KoBERT");
    for (size_t i = 0; i < 3; i++) take(models[i]);
    // What config.json names is a model: its class counts where the class's file is there.
    take("tokenizer_config.json");
    put("config.json", "{\"model_type\": \"deberta\"}", 25);
    take("vocab.json");
    mrc_tokenizer *tok = load(folder);
    CHECK(tok && mrc_tokenizer_id(tok, "a") == 3, "deberta's config.json beside vocab.txt");
    mrc_tokenizer_free(tok);
    take("config.json");
    take("merges.txt");
    take("vocab.txt");
    // ALBERT's file, but with the kind of model that BigBird's has.
    put("tokenizer_config.json", albert, sizeof albert - 1);
    put("spiece.model", "\x0a\x03\x0a\x01""a\x12\x02\x18\x02", 9);
    check_refused(folder, MRC_ERR_UNSUPPORTED, "spiece.model: tokenizer_class AlbertTokenizer has "
                  "no SentencePiece model of type BPE", "ALBERT's class and BigBird's model");
    take("spiece.model");
    take("tokenizer_config.json");
}

// All matches of a text together take time by its length, also where each looks far behind its end:
// a*b|a takes one "a", but only when no "b" ends the run.  Tried for each match anew, the 300,000
// characters here, in three runs, would take minutes.
static void test_regex_time(void) {
    enum { RUN = 100000 };
    static const struct { const char *pattern, *more; size_t n; } cases[] = {
        { "a*b|a", "aab", RUN * 3 - 2 + 1 },    // one match of "aab", behind a "c"
        { "a*b|a", "b", RUN * 2 - 1 + 1 },      // the last run of "a" ends in "b"
        { "(aa)*b|a+?", "c", RUN * 3 - 2 },
        { "a*?b|a*d|aa", "c", RUN * 3 / 2 - 2 + 1 } };      // an "a" is left before each sign
    char *text = malloc(3 * RUN + 8);
    if (!text) return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char norm[200];
        snprintf(norm, sizeof norm, "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"%s\"},"
                 "\"content\":\" a \"}", cases[i].pattern);
        put_json(norm, 0, 0, 0, 0);
        mrc_tokenizer *tok = load(in_folder("tokenizer.json"));
        mrc_encodings e = {0};
        memset(text, 'a', 3 * RUN);
        text[RUN] = text[2 * RUN] = ' ';
        if (i == 0) text[3 * RUN] = 'c';
        strcpy(text + 3 * RUN + (i == 0), cases[i].more);
        clock_t begun = clock();
        CHECK(tok && mrc_tokenizer_encode(ctx, tok, &e, text, strlen(text), NULL, 0, NULL)
                     == MRC_OK, "%s", mrc_ctx_message(ctx));
        double seconds = (double)(clock() - begun) / CLOCKS_PER_SEC;
        size_t n = 0;
        for (size_t k = 0; e.n && k < e.list[0].n; k++) n += e.list[0].input_ids[k] == 3;
        CHECK(n == cases[i].n, "%s: %zu matches, expected %zu", cases[i].pattern, n, cases[i].n);
        CHECK(seconds < 20, "%s: %g s", cases[i].pattern, seconds);
        mrc_encodings_free(&e);
        mrc_tokenizer_free(tok);
    }
    free(text);
    take("tokenizer.json");
}

// SentencePiece models that are none.
static void test_bad_models(void) {
    static const struct { const char *data; size_t bytes; const char *message; mrc_status status; }
    cases[] = {
        { "", 0, "it has no pieces", MRC_ERR_FORMAT },
        { "\xff", 1, "malformed protobuf", MRC_ERR_FORMAT },
        { "\x0b", 1, "malformed protobuf", MRC_ERR_FORMAT },            // a group
        { "\x0a\x7f", 2, "malformed protobuf", MRC_ERR_FORMAT },        // longer than the file
        { "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11, "malformed protobuf",
          MRC_ERR_FORMAT },
        { "\x0a\x03\x0a\x05""a", 5, "a malformed piece", MRC_ERR_FORMAT },
        { "\x0a\x03\x0a\x01\xff", 5, "ill-formed UTF-8", MRC_ERR_FORMAT },
        { "\x0a\x08\x0a\x01""a\x15\x00\x00\xc0\x7f", 10, "no finite number", MRC_ERR_FORMAT },
        { "\x0a\x03\x0a\x01""a\x12\x02\x18\x03", 9, "model_type 3", MRC_ERR_UNSUPPORTED },
        { "\x0a\x03\x0a\x01""a\x12\x01\x18", 8, "a malformed trainer_spec", MRC_ERR_FORMAT },
        { "\x0a\x03\x0a\x01""a\x12\x02\x18\x02", 9, "no family of readers", MRC_ERR_UNSUPPORTED },
        { "\x0a\x03\x0a\x01""a\x1a\x06\x12\x04\x08\x00\x00\x00", 13, "double array has 8 bytes",
          MRC_ERR_FORMAT },
        { "\x0a\x03\x0a\x01""a\x12\x03\xc0\x02\x09", 10, "unk_id is 9, expected 0 to 0",
          MRC_ERR_FORMAT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[32];
        snprintf(what, sizeof what, "model %zu", i);
        put("spm.model", cases[i].data, cases[i].bytes);
        check_refused(in_folder("spm.model"), cases[i].status, cases[i].message, what);
        check_refused(folder, cases[i].status, cases[i].message, what);
    }
    take("spm.model");
    put("any.model", "\x0a\x03\x0a\x01""a", 5);
    check_refused(in_folder("any.model"), MRC_ERR_UNSUPPORTED, "no family of readers", "a name");
    take("any.model");
}

// Splinter's questions end in a token that its vocabulary must have.
static void test_splinter(void) {
    static const char config[] = "{\"model_type\": \"splinter\"}";
    static const char *const words[] = { "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n.\na\n",
                                         "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n[QUESTION]\na\n" };
    static const char *const missing[] = { "\"[QUESTION]\", which Splinter puts",
                                           "\".\", which Splinter puts" };
    put("config.json", config, strlen(config));
    for (int i = 0; i < 2; i++) {
        put("vocab.txt", words[i], strlen(words[i]));
        check_refused(folder, MRC_ERR_FORMAT, missing[i], "a vocabulary without it");
    }
    take("vocab.txt");
    take("config.json");
}

// An answer as it is shown: without the space that is a SentencePiece token's.
static void test_trimmed(void) {
    static const struct { int32_t begin, end, to_begin, to_end; } cases[] = {
        { 0, 5, 1, 4 }, { 1, 4, 1, 4 }, { 4, 7, 6, 7 }, { 4, 6, 6, 6 }, { 6, 7, 6, 7 },
        { 2, 2, 2, 2 },
    };
    mrc_example e = { .context = " a\xED\x95\x9C" "c \xE3\x80\x80" "d" };
    e.context_bytes = strlen(e.context);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mrc_span span = { .kind = MRC_SPAN_TEXT, .begin = cases[i].begin, .end = cases[i].end };
        mrc_span out = mrc_span_trimmed(&span, &e);
        CHECK(out.begin == cases[i].to_begin && out.end == cases[i].to_end, "%d to %d: %d to %d",
              (int)span.begin, (int)span.end, (int)out.begin, (int)out.end);
    }
    mrc_span none = { .kind = MRC_SPAN_NULL, .begin = 0, .end = 3 };
    CHECK(mrc_span_trimmed(&none, &e).end == 3, "no text");
}

// However a tokenizer is given, its copy gives the same ids.
static void test_saved(void) {
    static const char *const texts[] = { "The Reader reads [MASK] <mask> books",
                                         ("\xC3\x89" "a 1."),
                                         "\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4 caf\xC3\xA9" };
    const char *fixtures = "tests/fixtures/tokenizer/";
    static const char *const ways[] = { "cased", "uncased", "bytes", "prefix", "cased/vocab.txt",
                                        "uncased/tokenizer.json", "=x.json", "=words.txt",
                                        "=folder" };
    copy("tests/fixtures/tokenizer/uncased/tokenizer.json", "x.json");
    copy("tests/fixtures/tokenizer/cased/vocab.txt", "words.txt");
    mrc_dir_new(ctx, in_folder("folder"));          // vocab.txt without a configuration
    copy("tests/fixtures/tokenizer/cased/vocab.txt", "folder/vocab.txt");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char from[600], to[600];
        int own = ways[i][0] == '=';
        snprintf(from, sizeof from, "%s%s%s", own ? folder : fixtures, own ? "/" : "",
                 ways[i] + own);
        snprintf(to, sizeof to, "%s/saved", folder);
        CHECK(mrc_dir_new(ctx, to) == MRC_OK && mrc_tokenizer_save(ctx, from, to) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
        mrc_tokenizer *a = load(from), *b = load(to);
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
            int32_t x[64], y[64];
            size_t n = ids_of(a, texts[k], x, 64), m = ids_of(b, texts[k], y, 64);
            CHECK(n > 2 && n == m && !memcmp(x, y, n * sizeof *x), "%s: \"%s\"", ways[i], texts[k]);
        }
        mrc_tokenizer_free(a);
        mrc_tokenizer_free(b);
        mrc_dir_remove(ctx, to);
    }
    CHECK(mrc_tokenizer_save(ctx, in_folder("none"), folder) != MRC_OK, "no such source");
    mrc_ctx_clear_error(ctx);
    take("x.json");
    take("words.txt");
}

// Every k-th allocation fails, once or from there on: an error, no leak, and success in the end.
static void check_memory(const char *path) {
    for (int on = 0; on < 2; on++) {
        mrc_status s = MRC_ERR_MEM;
        size_t at = 1;
        for (; s == MRC_ERR_MEM && at < 100000; at++) {
            failing f = { .at = at, .on = on };
            mrc_ctx_desc desc = { .allocator = { failing_alloc, failing_free, &f } };
            mrc_ctx *c = NULL;
            s = mrc_ctx_new(&c, &desc);
            if (s == MRC_OK) s = load_and_encode(c, path);
            mrc_ctx_free(c);
            if (!CHECK(f.live == 0, "allocation %zu fails: %d leaked", at, f.live)) break;
        }
        CHECK(s == MRC_OK && at > 20, "%s: allocation %zu fails: status %d", path, at, (int)s);
    }
}
// Every fifth pipeline, and the models.
static void check_line_memory(const mrc_json *line) {
    static int n;
    const mrc_json *text = mrc_json_get(line, "tokenizer");
    if (text && n++ % 5 == 0) {
        put("pipeline.json", text->string, text->bytes);
        check_memory(in_folder("pipeline.json"));
        take("pipeline.json");
    }
    if (text) return;
    put_model(line, "model");
    check_memory(in_folder("model"));
    mrc_dir_remove(ctx, in_folder("model"));
}
static void test_memory(void) {
    static const char *const paths[] = { "tests/fixtures/tokenizer/cased",
                                         "tests/fixtures/tokenizer/uncased",
                                         "tests/fixtures/tokenizer/bytes",
                                         "tests/fixtures/tokenizer/prefix" };
    for (int i = 0; i < 4; i++) check_memory(paths[i]);
    each_line("tests/fixtures/tokenizer/pipelines.jsonl", 29, check_line_memory);
    each_line("tests/fixtures/tokenizer/models.jsonl", 11, check_line_memory);
}

int main(void) {
    mrc_ctx_desc desc = {0};
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/mrc-tokenizer-XXXXXX", tmp ? tmp : "/tmp");
    if (mrc_ctx_new(&ctx, &desc) != MRC_OK || !mkdtemp(folder)) return 1;
    test_fixtures();
    test_properties();
    test_ill_formed();
    test_options();
    test_bad_vocab();
    test_bad_config();
    test_bad_json();
    test_bad_bytes();
    test_too_large();
    test_field();
    test_added();
    test_no_merges();
    test_saved();
    test_kinds();
    test_class_files();
    test_class_choice();
    test_regex_time();
    test_bad_models();
    test_splinter();
    test_trimmed();
    test_printed();
    test_windows();
    test_upstream();
    test_linear();
    test_memory();
    mrc_dir_remove(ctx, folder);
    mrc_ctx_free(ctx);
    if (!skipped) return test_end();
    printf("%d passed, %d failed, %d skipped\n", test_passed, test_failed, skipped);
    return test_failed != 0;
}
