// The YAML subset of configuration files (RELIABILITY 3.5): what is read is what YAML 1.2 means by
// it, all else is refused by name and place.
#define TEST_LINKED
#include "../support/cases.h"
#include "../../tools/yaml.h"

static mrc_ctx *yaml_ctx;

// 0 when two trees differ; keys in any order.
static int yaml_equal(const mrc_json *a, const mrc_json *b) {
    if (a->type != b->type || a->n != b->n) return 0;
    if (a->type == MRC_JSON_NUMBER) return a->number == b->number && a->is_int == b->is_int;
    if (a->type == MRC_JSON_STRING) {
        return a->bytes == b->bytes && !memcmp(a->string, b->string, a->bytes);
    }
    const mrc_json *y = b->child;
    for (const mrc_json *x = a->child; x; x = x->next) {
        const mrc_json *other = a->type == MRC_JSON_OBJECT ? mrc_json_get(b, x->key) : y;
        if (!other || !yaml_equal(x, other)) return 0;
        if (y) y = y->next;
    }
    return 1;
}

static mrc_status yaml_text(mrc_json **out, const char *text) {
    mrc_ctx_clear_error(yaml_ctx);
    return yaml_parse(yaml_ctx, out, "y", text, strlen(text));
}

static void test_values(void) {
    static const struct { const char *yaml, *json; } cases[] = {
        { "a: 1\nb: [x, 'y', \"z\"]\n", "{\"a\":1,\"b\":[\"x\",\"y\",\"z\"]}" },
        { "no", "\"no\"" }, { "on", "\"on\"" }, { "1_000", "\"1_000\"" },
        { "0o17", "15" }, { "0o18", "\"0o18\"" }, { "0o", "\"0o\"" },
        { "yes", "\"yes\"" }, { "y", "\"y\"" }, { "1:30", "\"1:30\"" }, { "010", "10" },
        { "0x1F", "31" }, { "0x", "\"0x\"" }, { "0X1F", "\"0X1F\"" }, { "-0x1F", "\"-0x1F\"" },
        { "0x7fffffffffffffff", "9223372036854775807" }, { "0x1g", "\"0x1g\"" },
        { "+5", "5" }, { "-5", "-5" }, { ".5", "0.5" }, { "5.", "5.0" }, { "-.5e3", "-0.5e3" },
        { "1e-5", "1e-5" }, { "1E+2", "1E+2" }, { "2e-05", "2e-05" }, { "00.50", "0.50" },
        { "1.2.3", "\"1.2.3\"" }, { "1e", "\"1e\"" }, { "+", "\"+\"" }, { ".", "\".\"" },
        { "-1-", "\"-1-\"" }, { "e5", "\"e5\"" }, { ".e5", "\".e5\"" }, { "+.e1", "\"+.e1\"" },
        { "~", "null" }, { "NULL", "null" }, { "nULL", "\"nULL\"" }, { "True", "true" },
        { "FALSE", "false" }, { "tRUE", "\"tRUE\"" }, { "'true'", "\"true\"" },
        { "\"1\"", "\"1\"" },
        { "|", NULL }, { "a|", "\"a|\"" }, { "''", "\"\"" }, { "'it''s'", "\"it's\"" },
        { "inf", "\"inf\"" }, { "nan", "\"nan\"" }, { "NaN", "\"NaN\"" }, { "\"\"", "\"\"" },
        { "a:", "{\"a\":null}" }, { "a: # c\nb: 2", "{\"a\":null,\"b\":2}" },
        { "-", "[null]" }, { "- \n-\n", "[null,null]" }, { "---", "null" },
        { "--- # c\n", "null" }, { "--- text", "\"text\"" }, { "# c\n---\na: 1\n", "{\"a\":1}" },
        { "--- [1,\n2]", "[1,2]" }, { "---\n- 1", "[1]" }, { "\xEF\xBB\xBF" "a: 1", "{\"a\":1}" },
        { "a:\n- 1\n- 2\nb: 3", "{\"a\":[1,2],\"b\":3}" }, { "- - 1\n  - 2\n- 3", "[[1,2],3]" },
        { "- a: 1\n  b: 2\n- c: 3\n", "[{\"a\":1,\"b\":2},{\"c\":3}]" },
        { "- a:\n    b: 1\n  c:\n  - 2\n", "[{\"a\":{\"b\":1},\"c\":[2]}]" },
        { "a: {b: 1, \"d\":2, e: , 'f' : [ ] }\n",
          "{\"a\":{\"b\":1,\"d\":2,\"e\":null,\"f\":[]}}" },
        { "{a: 1,\n# c\n b: 2\n}\n", "{\"a\":1,\"b\":2}" }, { "[ ]", "[]" }, { "{ }", "{}" },
        { "[a:b, http://x, a#b, -1, ?x, :x]", "[\"a:b\",\"http://x\",\"a#b\",-1,\"?x\",\":x\"]" },
        { "a: b#c\n", "{\"a\":\"b#c\"}" }, { "a: b #c\n", "{\"a\":\"b\"}" },
        { "a b : c d\n", "{\"a b\":\"c d\"}" }, { "\"a b\" : c\n", "{\"a b\":\"c\"}" },
        { "a: x, y]}\n", "{\"a\":\"x, y]}\"}" }, { "a:\tb\t# c\n", "{\"a\":\"b\"}" },
        { "a: 1\r\nb:\r\n  - 2\r\n", "{\"a\":1,\"b\":[2]}" }, { "a: 1\n\t\n \nb: 2", "{\"a\":1,"
          "\"b\":2}" },
        { "\"\\x41\\u00e9\\U0001F600\\n\\e\\N\\_\\L\\P\\/\\ \\\t\\\\\\\"\\0\"",
          "\"A\\u00e9\\ud83d\\ude00\\n\\u001b\\u0085\\u00a0\\u2028\\u2029/ \\t\\\\\\\"\\u0000\"" },
        { "\"\\L\\L\\L\\L\\L\\L\\L\\L\\L\"", "\"\\u2028\\u2028\\u2028\\u2028\\u2028\\u2028\\u2028"
          "\\u2028\\u2028\"" },
        { "1: a\n~: b\ntrue: c\n", "{\"1\":\"a\",\"~\":\"b\",\"true\":\"c\"}" },
        { "12345678901234567890", "12345678901234567890" },
        { "한: 글 # 주석\n", "{\"한\":\"글\"}" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mrc_json *got = NULL, *want = NULL;
        mrc_status s = yaml_text(&got, cases[i].yaml);
        if (!cases[i].json) {
            CHECK(s == MRC_ERR_FORMAT, "%s is refused", cases[i].yaml);
            continue;
        }
        if (!CHECK(s == MRC_OK, "%s: %s", cases[i].yaml, mrc_ctx_message(yaml_ctx))) continue;
        s = mrc_json_parse(yaml_ctx, &want, "j", cases[i].json, strlen(cases[i].json), 0);
        CHECK(s == MRC_OK && yaml_equal(got, want), "%s is not %s", cases[i].yaml, cases[i].json);
        yaml_free(got);
        mrc_json_free(want);
    }
}

static const struct { const char *yaml, *message; } refused[] = {
    { "", "y:1:1: no value" }, { "# c\n \n", "y:3:1: no value" },
    { "a: &x 1", "y:1:4: unsupported YAML: an anchor" },
    { "a: *x", "y:1:4: unsupported YAML: an alias" },
    { "a: 1\n<<: b", "y:2:3: unsupported YAML: a merge key" },
    { "a: !!str 1", "y:1:4: unsupported YAML: a tag" },
    { "? a\n: b", "y:1:1: unsupported YAML: a key with a question mark" },
    { "a: |\n  b", "y:1:4: unsupported YAML: a block scalar" },
    { "a: >-\n  b", "y:1:4: unsupported YAML: a block scalar" },
    { "%YAML 1.2\n---\na", "y:1:1: unsupported YAML: a directive" },
    { "a: 1\n---\nb: 1", "y:2:1: unsupported YAML: several documents" },
    { "a: 1\n...\n", "y:2:1: unsupported YAML: an end of document" },
    { "a:\n\tb: 1", "y:2:1: unsupported YAML: a tab in indentation" },
    { "a:\n  \tb: 1", "y:2:3: unsupported YAML: a tab in indentation" },
    { "-\t- 1", "y:1:2: unsupported YAML: a tab in indentation" },
    { "a: 1\nb: 2\na: 3", "y:3:4: the key \"a\" appears twice" },
    { "{a: 1, 'a': 3}", "y:1:13: the key \"a\" appears twice" },
    { "a: b\n  c", "y:2:3: indentation that fits no line above" },
    { "a:\n  b: 1\n c: 2", "y:3:2: indentation that fits no line above" },
    { "a: 'b\n  c'", "y:1:4: unsupported YAML: a value of several lines" },
    { "a: \"b\\\n  c\"", "y:1:4: unsupported YAML: a value of several lines" },
    { "a: 'b", "y:1:4: the string that begins here has no end" },
    { "'a': \"\\q\"", "y:1:7: not an escape" }, { "\"\\x4\"", "y:1:2: an escape with too few" },
    { "\"\\ud800\"", "y:1:2: an escape that is no character" },
    { "\"\\UFFFFFFFF\"", "y:1:2: an escape that is no character" },
    { "a: [1, 2", "y:1:9: a bracket is not closed" }, { "[1 2", "y:1:5: a bracket is not" },
    { "[1,, 2]", "y:1:4: expected a value, found ','" },
    { "[a: 1]", "y:1:3: unsupported YAML: a pair that stands in no mapping" },
    { "{a: 1]", "y:1:6: expected ',' or '}'" }, { "[a\nb]", "y:2:1: expected ',' or ']'" },
    { "[a]: 1", "y:1:4: unsupported YAML: a collection as a key" },
    { "a: 1\n[b]: 1", "y:2:1: unsupported YAML: a collection as a key" },
    { "{[a]: 1}", "y:1:2: unsupported YAML: a collection as a key" },
    { "{a, b: 1}", "y:1:3: unsupported YAML: a key without a value in braces" },
    { "{a b\nc: 1}", "y:2:1: unsupported YAML: a value of several lines" },
    { "{a\n:b}", "y:2:1: unsupported YAML: a value of several lines" },
    { "a: [1,\n2]", "y:2:1: expected more indentation inside brackets" },
    { "[1,\n---\n]", "y:2:1: unsupported YAML: several documents" },
    { "[#c\n]", "y:1:2: expected a value, found '#'" },
    { "a: b: c", "y:1:5: a second ':' on the line of a key" },
    { "a: - b", "y:1:4: expected a value, found '-'" },
    { "'a' b", "y:1:5: expected the end of the line" },
    { "a: [b]c", "y:1:7: expected the end of the line" },
    { "a: 1\nb\n", "y:2:2: expected ':' behind a key" }, { ": a", "y:1:1: expected a value" },
    { "- a\nb: c", "y:2:1: expected the end" }, { "a: .inf", "y:1:4: not a finite number" },
    { "a: .Inf", "y:1:4: not a finite number" }, { "a: .nan", "y:1:4: not a finite number" },
    { "a: +.NAN", "y:1:4: not a finite number" }, { "a: \x7f", "y:1:4: the control char" },
    { "a: \xc2\x9f", "y:1:4: the control character U+009F" },
    { "a: \xef\xbb\xbf", "y:1:4: the control character U+FEFF" },
    { "a: \xef\xbf\xbe", "y:1:4: the control character U+FFFE" },
    { "a: \xef\xbf\xbf", "y:1:4: the control character U+FFFF" },
    { "a: \xe2\x80\xa8", "y:1:4: the control character U+2028" },
    { "a: \xe2\x80\xa9", "y:1:4: the control character U+2029" },
    { "version https://git-lfs.github.com/spec/v1", "y:1:1: found a Git LFS pointer" },
    { "a: \xb0\xa1", "y:1:4: ill-formed UTF-8, byte 0xb0 (if it is CP949" },
    { "a: -.INF", "y:1:4: not a finite number" }, { "a: .NaN", "y:1:4: not a finite number" },
    { "a: 1e999", "y:1:4: a number too large for a double" },
    { "a: 0x8000000000000000", "y:1:4: an integer that does not fit 63 bits" },
    { "a: \x01", "y:1:4: the control character U+0001" }, { "a: 1\rb: 2", "y:1:5: the" },
    { "a: \xff", "y:1:4: ill-formed UTF-8, byte 0xff" }, { "한: 글\nb: @", "y:2:4: unsup" },
    { "한: 글: c", "y:1:5: a second ':'" }, { "a: `b`", "y:1:4: unsupported YAML: a reserved" },
    { "\xEF\xBB\xBF" "a: @", "y:1:4: unsupported" }, { "\xFF\xFE" "a\0", "y:1:1: ill-formed" },
};
static void test_refused(void) {
    mrc_json *got;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        mrc_status s = yaml_text(&got, refused[i].yaml);
        CHECK(s == MRC_ERR_FORMAT && !got, "%s is refused", refused[i].yaml);
        CHECK(!strncmp(mrc_ctx_message(yaml_ctx), refused[i].message, strlen(refused[i].message)),
              "%s: %s, expected %s", refused[i].yaml, mrc_ctx_message(yaml_ctx),
              refused[i].message);
    }
    CHECK(yaml_parse(yaml_ctx, &got, NULL, "a\0b", 3) == MRC_ERR_FORMAT, "a NUL");
    mrc_ctx_clear_error(yaml_ctx);
    CHECK(yaml_parse(yaml_ctx, &got, NULL, NULL, 0) == MRC_ERR_ARG && !got, "no text");
    CHECK(yaml_parse(NULL, &got, NULL, "a", 1) == MRC_ERR_ARG, "no context");
    CHECK(yaml_parse(yaml_ctx, NULL, NULL, "a", 1) == MRC_ERR_ARG, "no place for the tree");
    mrc_ctx_clear_error(yaml_ctx);
    CHECK(yaml_load(yaml_ctx, NULL, "a") == MRC_ERR_ARG, "no place for the tree");
    mrc_ctx_clear_error(yaml_ctx);
    CHECK(mrc_ctx_fail(NULL, MRC_ERR_IO, "x") == MRC_ERR_ARG
          && mrc_ctx_fail(yaml_ctx, MRC_ERR_IO, NULL) == MRC_ERR_ARG
          && mrc_ctx_status(yaml_ctx) == MRC_ERR_ARG, "no context, no text");
    mrc_ctx_clear_error(yaml_ctx);
    CHECK(mrc_ctx_fail(yaml_ctx, MRC_ERR_IO, "%s %d", "first", 1) == MRC_ERR_IO
          && mrc_ctx_fail(yaml_ctx, MRC_ERR_MEM, "second") == MRC_ERR_MEM
          && mrc_ctx_status(yaml_ctx) == MRC_ERR_IO
          && !strcmp(mrc_ctx_message(yaml_ctx), "first 1"), "a caller's errors: the first is kept");
    mrc_ctx_clear_error(yaml_ctx);
    CHECK(yaml_load(NULL, &got, "a") == MRC_ERR_ARG, "no context");
    mrc_ctx_clear_error(yaml_ctx);
    CHECK(yaml_load(yaml_ctx, &got, "/no/such/file") == MRC_ERR_ARG && !got, "no file");
    mrc_ctx_clear_error(yaml_ctx);
}

// n times `open`, then "1".
static mrc_status yaml_nested(size_t n, const char *open, const char *rest) {
    mrc_text t;
    mrc_json *got;
    mrc_text_init(&t, yaml_ctx);
    for (size_t i = 0; i < n; i++) mrc_text_printf(&t, "%s", open);
    mrc_text_printf(&t, "%s", rest);
    mrc_ctx_clear_error(yaml_ctx);
    mrc_status s = yaml_parse(yaml_ctx, &got, "y", t.data, t.bytes);
    yaml_free(got);
    mrc_text_free(&t);
    return s;
}

static void test_limits(void) {
    CHECK(yaml_nested(63, "- ", "1") == MRC_OK, "63 lists: %s", mrc_ctx_message(yaml_ctx));
    CHECK(yaml_nested(64, "- ", "1") == MRC_ERR_FORMAT, "64 lists");
    CHECK(yaml_nested(300000, "- ", "1") == MRC_ERR_FORMAT, "300000 lists");
    CHECK(yaml_nested(32, "[", "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]") == MRC_OK, "32 brackets: %s",
          mrc_ctx_message(yaml_ctx));
    CHECK(yaml_nested(33, "[", "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]") == MRC_ERR_FORMAT, "33");
    CHECK(yaml_nested(500000, "{a: ", "1") == MRC_ERR_FORMAT, "500000 braces");
    CHECK(yaml_nested(10000, "- 1\n", "") == MRC_OK, "%s", mrc_ctx_message(yaml_ctx));
    CHECK(yaml_nested(10001, "- 1\n", "") == MRC_ERR_FORMAT, "10001 values");
    CHECK(yaml_nested(1 << 20, "a", "") == MRC_OK, "%s", mrc_ctx_message(yaml_ctx));
    CHECK(yaml_nested(1 << 20, "a", "b") == MRC_ERR_FORMAT, "more than 1 MiB");
    CHECK(yaml_nested(1024, "a", ": 1") == MRC_OK, "%s", mrc_ctx_message(yaml_ctx));
    CHECK(yaml_nested(1025, "a", ": 1") == MRC_ERR_FORMAT, "a key of 1025 bytes");
    CHECK(yaml_nested(9000, "['a', \"b\"", "") == MRC_ERR_FORMAT, "brackets without an end");
}

static struct { size_t accepted, refused, errors, errors_refused, wrong; } yaml_counts;

// One folder of the suite: in.yaml, with either in.json or error; or folders of that kind.
static mrc_status yaml_case(mrc_ctx *ctx, void *user, const char *name) {
    char path[1024], file[1100];
    mrc_json *got, *want = NULL;
    (void)ctx;
    snprintf(path, sizeof path, "%s/%s", (const char *)user, name);
    if (mrc_path_kind(path) != MRC_PATH_DIR) return MRC_OK;
    snprintf(file, sizeof file, "%s/in.yaml", path);
    if (!mrc_path_kind(file)) return mrc_dir_list(ctx, path, yaml_case, path);
    mrc_status s = yaml_load(yaml_ctx, &got, file);
    snprintf(file, sizeof file, "%s/error", path);
    int error = (int)mrc_path_kind(file);
    yaml_counts.errors += error != 0;
    yaml_counts.errors_refused += error && s == MRC_ERR_FORMAT;
    if (s != MRC_OK) {
        CHECK(s == MRC_ERR_FORMAT && strstr(mrc_ctx_message(yaml_ctx), "in.yaml:"), "%s: %s",
              path, mrc_ctx_message(yaml_ctx));
        mrc_ctx_clear_error(yaml_ctx);
        yaml_counts.refused++;
        return MRC_OK;
    }
    yaml_counts.accepted++;
    snprintf(file, sizeof file, "%s/in.json", path);
    int right = !error && mrc_path_kind(file) && mrc_json_load(yaml_ctx, &want, file) == MRC_OK
                && yaml_equal(got, want);
    yaml_counts.wrong += !CHECK(right, "%s: another value%s", path, error ? ", of an error" : "");
    mrc_ctx_clear_error(yaml_ctx);
    yaml_free(got);
    mrc_json_free(want);
    return MRC_OK;
}

static void test_suite(void) {
    char folder[512];
    if (!cases_find(folder, sizeof folder, "cases/yaml")) return;
    CHECK(mrc_dir_list(yaml_ctx, folder, yaml_case, folder) == MRC_OK, "%s",
          mrc_ctx_message(yaml_ctx));
    printf("yaml: %zu accepted, %zu refused, %zu of %zu errors refused, %zu wrong\n",
           yaml_counts.accepted, yaml_counts.refused, yaml_counts.errors_refused,
           yaml_counts.errors, yaml_counts.wrong);
    CHECK(yaml_counts.errors == 94 && yaml_counts.errors_refused == 94, "all errors refused");
    CHECK(yaml_counts.accepted + yaml_counts.refused == 402, "402 cases");
    CHECK(yaml_counts.accepted >= 70, "%zu accepted", yaml_counts.accepted);
}

// The k-th allocation fails: a clear error, nothing lost.
static size_t yaml_left;
static void *failing_alloc(void *user, size_t bytes) {
    (void)user;
    if (yaml_left == 0) return NULL;
    yaml_left--;
    return malloc(bytes);
}
static void failing_free(void *user, void *p) { (void)user; free(p); }

static void test_memory(void) {
    mrc_ctx *ctx;
    mrc_json *got = NULL;
    mrc_text t;
    yaml_left = SIZE_MAX;
    const mrc_ctx_desc desc = { .allocator = { failing_alloc, failing_free, NULL } };
    if (!CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK, "context")) return;
    mrc_text_init(&t, yaml_ctx);
    mrc_text_printf(&t, "{b: 2, c: 3}\n");
    for (int i = 0; i < 400; i++) mrc_text_printf(&t, "- k%d: 1\n  b: {c: 0x10, d: +1.5}\n", i);
    mrc_status s = MRC_ERR_MEM;
    size_t k;
    for (k = 0; k < 10000 && s != MRC_OK; k++) {
        yaml_left = k;
        s = yaml_parse(ctx, &got, "y", t.data + 13, t.bytes - 13);
        CHECK(s == MRC_OK || (s == MRC_ERR_MEM && !got), "k = %zu: %s", k, mrc_ctx_message(ctx));
        mrc_ctx_clear_error(ctx);
    }
    CHECK(s == MRC_OK && k > 100, "%zu allocations", k);
    yaml_free(got);
    yaml_left = SIZE_MAX;
    mrc_ctx_free(ctx);
    mrc_text_free(&t);
}

static void run(void) {
    if (!CHECK(mrc_ctx_new(&yaml_ctx, NULL) == MRC_OK, "context")) return;
    test_values();
    test_refused();
    test_limits();
    test_suite();
    test_memory();
    mrc_ctx_free(yaml_ctx);
}

int main(void) {
    cases_on_small_stack(run);
    return test_end();
}
