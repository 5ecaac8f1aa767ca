// UTF-8, JSON, numbers and files: every rule of RELIABILITY 3.3, 3.4, 3.6 that a program can see.
#include "../support/backends.h"
#include "../support/cases.h"
#include <locale.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static mrc_ctx *text_ctx(void) {
    mrc_ctx *ctx = NULL;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){0}) == MRC_OK, "context");
    return ctx;
}

//==============================================================================
// UTF-8
//==============================================================================
// All strings of one to three bytes, with MRC_EXHAUSTIVE of four too: how many are well-formed is
// known.
static void test_utf8_exhaustive(void) {
    static const size_t expected[5] = { 0, 128, 18304, 2650112, 383270912 };
    size_t longest = getenv("MRC_EXHAUSTIVE") ? 4 : 3;
    for (size_t n = 1; n <= longest; n++) {
        size_t valid = 0;
        for (uint64_t v = 0; v < (uint64_t)1 << (8 * n); v++) {
            const char s[4] = { (char)(v & 255), (char)(v >> 8 & 255), (char)(v >> 16 & 255),
                                (char)(v >> 24 & 255) };
            valid += mrc_utf8_valid(s, n) == n;
        }
        CHECK(valid == expected[n], "%zu well-formed strings of %zu bytes", valid, n);
        if (n == 4) printf("utf8: %zu well-formed strings of 4 bytes\n", valid);
    }
}

// Every code point there and back; surrogates and what is too large are not encoded.
static void test_utf8_code_points(void) {
    uint32_t bad = 0;
    for (uint32_t cp = 0; cp <= 0x110000; cp++) {
        char s[4];
        uint32_t back = 0;
        size_t n = mrc_utf8_encode(cp, s);
        int scalar = cp < 0x110000 && (cp < 0xD800 || cp > 0xDFFF);
        if (scalar) bad += n == 0 || mrc_utf8_decode(s, n, &back) != n || back != cp;
        else bad += n != 0;
        if (n > 1) bad += mrc_utf8_decode(s, n - 1, &back) != 0;
    }
    CHECK(bad == 0, "%u code points do not survive", (unsigned)bad);
}

static void test_utf8_positions(void) {
    const char s[] = "a\xED\x95\x9C\xF0\x9F\x98\x80" "b";
    CHECK(mrc_utf8_length(s, 9) == 4, "length %zu", mrc_utf8_length(s, 9));
    static const size_t at[] = { 0, 1, 4, 8, 9, 9 };
    for (size_t i = 0; i < 6; i++) {
        CHECK(mrc_utf8_offset(s, 9, i) == at[i], "offset of %zu: %zu", i, mrc_utf8_offset(s, 9, i));
    }
    uint32_t cp;
    CHECK(mrc_utf8_decode(s, 0, &cp) == 0 && mrc_utf8_next(s, 0, &cp) == 0, "no bytes");
}

static size_t text_unhex(const char *hex, char *out) {
    size_t n = 0;
    for (unsigned v; sscanf(hex, "%2x", &v) == 1; hex += 2) out[n++] = (char)v;
    return n;
}

// Kuhn's stress cases: validity, and one U+FFFD per maximal subpart.
static void test_utf8_kuhn(mrc_ctx *ctx) {
    char path[512], *text, *rest, *line, in[1024], want[4096], got[4096];
    size_t bytes, n_cases = 0;
    if (!cases_find(path, sizeof path, "cases/utf8/kuhn_cases.tsv")) return;
    CHECK(mrc_file_read(ctx, &text, &bytes, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    rest = text;
    cases_line(&rest);
    while (text && (line = cases_line(&rest)) != NULL) {
        const char *id = cases_field(&line);
        size_t n = text_unhex(cases_field(&line), in), n_got = 0;
        int valid = cases_field(&line)[0] == '1';
        size_t n_want = text_unhex(cases_field(&line), want);
        CHECK((mrc_utf8_valid(in, n) == n) == valid, "kuhn %s: validity", id);
        for (size_t at = 0, step = 1; at < n && step; at += step) {
            uint32_t cp;
            step = mrc_utf8_next(in + at, n - at, &cp);
            n_got += mrc_utf8_encode(cp, got + n_got);
        }
        CHECK(n_got == n_want && !memcmp(got, want, n_got), "kuhn %s: replacement", id);
        n_cases++;
    }
    CHECK(n_cases == 113, "%zu cases read", n_cases);
    mrc_file_free(ctx, text);
}

// Lines "id:valid hex:hex", "id:invalid hex:hex:..." and "id:valid:text" of the utf8tests project.
static void test_utf8_project(mrc_ctx *ctx) {
    char path[512], *text, *rest, *line, in[1024];
    size_t bytes, n_cases = 0;
    if (!cases_find(path, sizeof path, "cases/utf8/utf8tests.txt")) return;
    CHECK(mrc_file_read(ctx, &text, &bytes, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    rest = text;
    while (text && (line = cases_line(&rest)) != NULL) {
        char *kind = strchr(line, ':'), *hex = kind ? strchr(kind + 1, ':') : NULL;
        if (line[0] == '#' || !hex) continue;
        size_t n = 0;
        int is_hex = !strncmp(hex - 4, " hex", 4);
        *hex = 0;
        if (!is_hex) n = (size_t)snprintf(in, sizeof in, "%s", hex + 1);    // the text itself
        else hex[1 + strcspn(hex + 1, ":")] = 0;
        for (char *p = is_hex ? strtok(hex + 1, " ") : NULL; p; p = strtok(NULL, " ")) {
            n += text_unhex(p, in + n);
        }
        CHECK((mrc_utf8_valid(in, n) == n) == !strstr(kind, "invalid"), "utf8tests %s", line);
        n_cases++;
    }
    CHECK(n_cases == 222, "%zu cases read", n_cases);
    mrc_file_free(ctx, text);
}

//==============================================================================
// JSON
//==============================================================================
static mrc_status text_parse(mrc_ctx *ctx, mrc_json **out, const char *text, size_t bytes) {
    // A copy of exactly these bytes, so that ASan sees a read past them.
    char *copy = malloc(bytes ? bytes : 1);
    if (bytes) memcpy(copy, text, bytes);
    mrc_status s = mrc_json_parse(ctx, out, "t", copy, bytes, 0);
    free(copy);
    return s;
}

typedef struct suite { const char *folder, *policy; size_t accepted, refused; } suite;

static mrc_status suite_file(mrc_ctx *ctx, void *user, const char *name) {
    suite *run = user;
    char path[1024], row[256];
    char *text;
    size_t bytes;
    mrc_json *root = NULL;
    snprintf(path, sizeof path, "%s/%s", run->folder, name);
    if (!CHECK(mrc_file_read(ctx, &text, &bytes, path) == MRC_OK, "%s", path)) return MRC_OK;
    mrc_status s = text_parse(ctx, &root, text, bytes);
    int accept = name[0] == 'y';
    if (name[0] == 'i') {
        snprintf(row, sizeof row, "%s\taccept", name);
        accept = strstr(run->policy, row) != NULL;
    }
    CHECK(s == (accept ? MRC_OK : MRC_ERR_FORMAT), "%s: %s %s", name, mrc_status_string(s),
          mrc_ctx_message(ctx));
    CHECK(accept || !strncmp(mrc_ctx_message(ctx), "t:", 2), "%s: %s", name, mrc_ctx_message(ctx));
    run->accepted += accept != 0;
    run->refused += !accept;
    mrc_ctx_clear_error(ctx);
    mrc_json_free(root);
    mrc_file_free(ctx, text);
    return MRC_OK;
}

static void test_json_suite(mrc_ctx *ctx) {
    char folder[512], path[512], *policy;
    size_t bytes;
    if (!cases_find(folder, sizeof folder, "cases/json/test_parsing")) return;
    if (!cases_find(path, sizeof path, "cases/json/json_policy_i_cases.tsv")) return;
    CHECK(mrc_file_read(ctx, &policy, &bytes, path) == MRC_OK, "policy");
    suite run = { .folder = folder, .policy = policy };
    CHECK(mrc_dir_list(ctx, folder, suite_file, &run) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(run.accepted == 95 + 7 && run.refused == 188 + 28, "%zu accepted, %zu refused",
          run.accepted, run.refused);
    mrc_file_free(ctx, policy);
}

// test_transform: what unusual but accepted texts mean.
static void test_json_transform(mrc_ctx *ctx) {
    static const struct { const char *text; int is_int; double number; } numbers[] = {
        { "number_-9223372036854775808", 1, -9223372036854775808.0 },
        { "number_-9223372036854775809", 0, -9223372036854775808.0 },
        { "number_1.0", 0, 1 }, { "number_1.000000000000000005", 0, 1 },
        { "number_1000000000000000", 1, 1e15 }, { "number_10000000000000000999", 0, 1e19 },
        { "number_1e-999", 0, 0 }, { "number_1e6", 0, 1e6 },
        { "number_9223372036854775807", 1, 9223372036854775808.0 },
        { "number_9223372036854775808", 0, 9223372036854775808.0 },
    };
    static const char *const refused[] = {
        "string_1_escaped_invalid_codepoint", "string_1_invalid_codepoint",
        "string_2_escaped_invalid_codepoints", "string_2_invalid_codepoints",
        "string_3_escaped_invalid_codepoints", "string_3_invalid_codepoints",
    };
    static const char *const pairs[] = {
        "object_key_nfc_nfd", "object_key_nfd_nfc", "object_same_key_different_values",
        "object_same_key_same_value", "object_same_key_unclear_values",
    };
    char folder[512], path[1024];
    mrc_json *root;
    if (!cases_find(folder, sizeof folder, "cases/json/test_transform")) return;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        snprintf(path, sizeof path, "%s/%s.json", folder, numbers[i].text);
        if (!CHECK(mrc_json_load(ctx, &root, path) == MRC_OK, "%s", path)) continue;
        const mrc_json *x = root->child;
        CHECK(x->number == numbers[i].number && x->is_int == numbers[i].is_int, "%s: %.17g int %d",
              numbers[i].text, x->number, x->is_int);
        CHECK(!x->is_int || (x->integer == INT64_MIN) == (x->number < 0), "%s", numbers[i].text);
        mrc_json_free(root);
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        snprintf(path, sizeof path, "%s/%s.json", folder, refused[i]);
        CHECK(mrc_json_load(ctx, &root, path) == MRC_ERR_FORMAT && !root, "%s", path);
        mrc_ctx_clear_error(ctx);
    }
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        snprintf(path, sizeof path, "%s/%s.json", folder, pairs[i]);
        if (!CHECK(mrc_json_load(ctx, &root, path) == MRC_OK && root->n == 2, "%s", path)) continue;
        CHECK((mrc_json_unique_keys(ctx, root, path) == MRC_OK) == (i < 2), "%s: keys", path);
        mrc_ctx_clear_error(ctx);
        mrc_json_free(root);
    }
    snprintf(path, sizeof path, "%s/string_with_escaped_NULL.json", folder);
    if (!CHECK(mrc_json_load(ctx, &root, path) == MRC_OK, "%s", path)) return;
    CHECK(root->child->bytes == 3 && !memcmp(root->child->string, "A\0B", 4), "A NUL B");
    mrc_json_free(root);
}

static void test_json_tree(mrc_ctx *ctx) {
    static const char text[] = "{\"a\": [1, -2.5e1, true],\n \"\\ud55c\\u0067\": "
                               "\"\\ud83d\\ude00\\n\\/\", \"e\": {}, \"n\": null}";
    mrc_json *root;
    if (!CHECK(text_parse(ctx, &root, text, sizeof text - 1) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) return;
    const mrc_json *a = mrc_json_get(root, "a"), *s = mrc_json_get(root, "\xED\x95\x9Cg");
    CHECK(root->type == MRC_JSON_OBJECT && root->n == 4, "root of %zu", root->n);
    CHECK(a && a->type == MRC_JSON_ARRAY && a->n == 3 && a->column == 7, "a");
    CHECK(a && a->child->is_int && a->child->integer == 1, "1");
    CHECK(a && a->child->next->number == -25 && !a->child->next->is_int, "-2.5e1");
    CHECK(a && a->child->next->next->type == MRC_JSON_TRUE && !a->child->next->next->next, "true");
    CHECK(s && s->type == MRC_JSON_STRING && s->bytes == 6 && s->line == 2
          && !strcmp(s->string, "\xF0\x9F\x98\x80\n/"), "string");
    CHECK(mrc_json_get(root, "e")->n == 0 && !mrc_json_get(root, "e")->child, "empty object");
    CHECK(mrc_json_get(root, "n")->type == MRC_JSON_NULL, "null");
    CHECK(!mrc_json_get(root, "x") && !mrc_json_get(a, "a") && !mrc_json_get(NULL, "a"), "absent");
    CHECK(mrc_json_unique_keys(ctx, root, "t") == MRC_OK, "unique");
    mrc_json_free(root);
    mrc_json_free(NULL);
}

// What the kernel's files say of the processors that a process may use, from files made here.
static void test_processors(mrc_ctx *ctx) {
    static const struct {
        const char *status, *cgroup, *whole, *outer, *inner, *quota, *period;
        long online;
        size_t want;
    } cases[] = {
        { .online = 8, .want = 8 }, { .online = 0, .want = 1 }, { .online = -1, .want = 1 },
        { .online = 1000, .want = 64 },
        { .status = "Name: x\nCpus_allowed:\tf0,00000003\nMems", .online = 64, .want = 6 },
        { .status = "Name: x\nCpus_allowed:\tA\n", .online = 64, .want = 64 },      // only 0 to f
        { .status = "Name: x\n", .online = 5, .want = 5 },
        { .status = "\nCpus_allowed:\tff\n", .online = 4, .want = 4 },
        { .cgroup = "0::/\n", .whole = "max 100000\n", .online = 8, .want = 8 },
        { .cgroup = "0::/\n", .whole = "150000 100000\n", .online = 8, .want = 2 },
        { .cgroup = "0::/\n", .whole = "50000 100000\n", .online = 8, .want = 1 },
        { .cgroup = "0::/\n", .whole = "-1 100000\n", .online = 8, .want = 8 },
        { .cgroup = "0::/\n", .whole = "100000 0\n", .online = 8, .want = 8 },
        { .cgroup = "1:cpu:/x\n0::/a/b\n", .inner = "400000 100000\n", .outer = "300000 100000\n",
          .online = 8, .want = 3 },
        { .cgroup = "0::/a/b\n", .inner = "200000 100000\n", .outer = "300000 100000\n",
          .whole = "max 100000\n", .online = 8, .want = 2 },
        { .cgroup = "0::/a/b\n", .outer = "max 100000\n", .whole = "600000 100000", .online = 8,
          .want = 6 },
        { .cgroup = "0::/a/b", .quota = "250000\n", .period = "100000\n", .online = 8, .want = 3 },
        { .quota = "-1\n", .period = "100000\n", .online = 8, .want = 8 },
        { .quota = "200000\n", .online = 8, .want = 8 },                            // no period
        { .status = "\nCpus_allowed:\tf\n", .cgroup = "0::/\n", .whole = "200000 100000\n",
          .online = 8, .want = 2 },
    };
    static const char *const places[] = {
        "/proc/self/status", "/proc/self/cgroup", "/sys/fs/cgroup/cpu.max",
        "/sys/fs/cgroup/a/cpu.max", "/sys/fs/cgroup/a/b/cpu.max",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us" };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const texts[] = { cases[i].status, cases[i].cgroup, cases[i].whole,
                                      cases[i].outer, cases[i].inner, cases[i].quota,
                                      cases[i].period };
        const char *root = "build/test_processors";
        char path[256];
        CHECK(mrc_dir_remove(ctx, root) == MRC_OK, "%s", mrc_ctx_message(ctx));
        for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
            snprintf(path, sizeof path, "%s%s", root, places[k]);
            char *slash = strrchr(path, '/');
            *slash = 0;
            CHECK(mrc_dir_new(ctx, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
            *slash = '/';
            if (texts[k]) mrc_file_write(ctx, path, texts[k], strlen(texts[k]));
        }
        const size_t found = mrc__processors(root, cases[i].online);
        CHECK(found == cases[i].want, "row %zu: %zu, expected %zu", i, found, cases[i].want);
        CHECK(mrc_dir_remove(ctx, root) == MRC_OK, "%s", mrc_ctx_message(ctx));
    }
}

// White space is what Python's str.split() parts at.
static void test_spaces(void) {
    size_t n = 0;
    for (uint32_t cp = 0; cp < 0x4000; cp++) {
        char text[8];
        const size_t bytes = mrc_utf8_encode(cp, text);
        if (!bytes || !mrc__is_space(cp)) continue;
        n++;
        CHECK((cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 32) || cp == 0x85 || cp == 0xa0
              || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029
              || cp == 0x202f || cp == 0x205f || cp == 0x3000, "U+%04X", (unsigned)cp);
    }
    CHECK(n == 29, "%zu kinds of white space, Python has 29", n);
}

// Where and what, in words.
static void test_json_messages(mrc_ctx *ctx) {
    static const struct { const char *text, *message; } cases[] = {
        { "", "t:1:1: expected a value, found the end" },
        { "{\"a\":\n  tru}", "t:2:3: unexpected 't'" },
        { "[1 2]", "t:1:4: expected ',' or ']', found a number" },
        { "{\"\xED\x95\x9C\": }", "t:1:7: expected a value, found '}'" },
        { "[\"\xED\x95\x9C\\q\"]", "t:1:4: not an escape" },
        { "[\"\xED\x95\x9C\x80\"]", "t:1:4: ill-formed UTF-8, byte 0x80" },
        { "[\"a\tb\"]", "t:1:4: control character 0x09 in a string" },
        { "\n\n[\"a", "t:3:2: the string that begins here has no end" },
        { "{1:2}", "t:1:2: expected a member's name in quotes, found a number" },
        { "[01]", "t:1:2: a number with a leading zero" },
        { "1e400", "t:1:1: a number too large for a double" },
        { "\"\\udc00\"", "t:1:2: half of a surrogate pair alone" },
        { "\xFF\xFE[", "t:1:1: this is UTF-16: save it as UTF-8" },
        { "\xEF\xBB\xBF\xEF\xBB\xBF[]", "t:1:1: unexpected byte 0xef" },
        { "[] []", "t:1:4: expected the end, found '['" },
        { "[1,]", "t:1:4: expected a value, found ']'" },
    };
    mrc_json *root;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mrc_status s = text_parse(ctx, &root, cases[i].text, strlen(cases[i].text));
        CHECK(s == MRC_ERR_FORMAT && !root, "%s", cases[i].text);
        CHECK(!strcmp(mrc_ctx_message(ctx), cases[i].message), "got %s, expected %s",
              mrc_ctx_message(ctx), cases[i].message);
        mrc_ctx_clear_error(ctx);
    }
    // Other encodings, by their marks and by their zeros.
    static const struct { const char *text; size_t bytes; const char *name; } encodings[] = {
        { "[\0\0\0", 4, "UTF-32" }, { "\0\0\0[", 4, "UTF-32" }, { "\0\0\xFE\xFF", 4, "UTF-32" },
        { "\xFF\xFE\0\0", 4, "UTF-32" }, { "\xFE\xFF\0[", 4, "UTF-16" }, { "[\0", 2, "UTF-16" },
        { "\xFF\xFE[\0", 4, "UTF-16" }, { "\0[\0]", 4, "UTF-16" }, { "[\0]\0", 4, "UTF-16" },
    };
    for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++) {
        CHECK(text_parse(ctx, &root, encodings[i].text, encodings[i].bytes) == MRC_ERR_FORMAT
              && strstr(mrc_ctx_message(ctx), encodings[i].name), "%s, row %zu: %s",
              encodings[i].name, i, mrc_ctx_message(ctx));
        mrc_ctx_clear_error(ctx);
    }
    CHECK(text_parse(ctx, &root, "\xb0\xa1", 2) == MRC_ERR_FORMAT
          && strstr(mrc_ctx_message(ctx), "0xb0 (if it is CP949: iconv"), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
}

// Depth is counted, and costs no stack: the limit that a caller gives may be large.
static void test_json_depth(mrc_ctx *ctx) {
    enum { DEEP = 1000000 };
    char *text = malloc(2 * DEEP);
    mrc_json *root;
    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    CHECK(mrc_json_parse(ctx, &root, "t", text + DEEP - 512, 1024, 0) == MRC_OK, "512 deep");
    mrc_json_free(root);
    CHECK(mrc_json_parse(ctx, &root, "t", text + DEEP - 513, 1026, 0) == MRC_ERR_FORMAT, "513");
    CHECK(strstr(mrc_ctx_message(ctx), "t:1:513: nested deeper than 512"), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_json_parse(ctx, &root, "t", text, 2 * DEEP, DEEP) == MRC_OK, "a million deep");
    mrc_json_free(root);
    free(text);
}

static void test_json_line(mrc_ctx *ctx) {
    mrc_json *root;
    CHECK(mrc__json_parse_at(ctx, &root, "t", 7, "[nul]", 5, 0) == MRC_ERR_FORMAT, "line 7");
    CHECK(!strcmp(mrc_ctx_message(ctx), "t:7:2: unexpected 'n'"), "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
}

// Whatever allocation fails: MRC_ERR_MEM, and nothing stays.
static void test_json_memory(void) {
    mrc_text t;
    mrc_ctx *ctx = text_ctx();
    mrc_text_init(&t, ctx);
    mrc_text_add(&t, "[", 1);
    for (int i = 0; i < 500; i++) {
        mrc_text_printf(&t, "{\"k\": %d, \"a long text\": [\"%d\"]},", i, i);
    }
    mrc_text_add(&t, "0]", 2);
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        mrc_status s = MRC_ERR_MEM;
        long k = 0;
        for (; s == MRC_ERR_MEM && k < 1000; k++) {
            failing f = { .fail_at = k + 1, .from_then_on = from_then_on };
            mrc_ctx *failing_ctx;
            mrc_json *root;
            mrc_ctx_new(&failing_ctx, &(mrc_ctx_desc){ .allocator = failing_hooks(&f) });
            s = mrc_json_parse(failing_ctx, &root, "t", t.data, t.bytes, 0);
            CHECK((s == MRC_OK) == (root != NULL), "result %ld", k);
            if (s == MRC_OK) s = mrc_json_unique_keys(failing_ctx, root->child, "t");
            CHECK(mrc_ctx_status(failing_ctx) == s, "status %ld", k);
            mrc_json_free(root);
            mrc_ctx_free(failing_ctx);
            CHECK(f.live == 0, "%ld allocations left after failure %ld", f.live, k);
        }
        CHECK(s == MRC_OK && k > 5, "%s after %ld failures", mrc_status_string(s), k);
    }
    mrc_text_free(&t);
    mrc_ctx_free(ctx);
}

//==============================================================================
// Numbers and text
//==============================================================================
static void test_text_number(mrc_ctx *ctx) {
    static const struct { double x; const char *text; } cases[] = {
        { 0, "0.0" }, { -0.0, "-0.0" }, { 1, "1.0" }, { 2, "2.0" }, { 0.1, "0.1" }, { 10, "10.0" },
        { 58.333333333333336, "58.333333333333336" }, { 66.89433020683022, "66.89433020683022" },
        { 1e-05, "1e-05" }, { 0.0001, "0.0001" }, { 0.00012345, "0.00012345" },
        { 1e16, "1e+16" }, { 1e15, "1000000000000000.0" },
        { 123456789012345680, "1.2345678901234568e+17" },
        { 9999999999999998, "9999999999999998.0" }, { 1e22, "1e+22" }, { 1e23, "1e+23" },
        { 5e-324, "5e-324" }, { 2.2250738585072014e-308, "2.2250738585072014e-308" },
        { 2.225073858507201e-308, "2.225073858507201e-308" }, { 1.5e-323, "1.5e-323" },
        { 1.7976931348623157e308, "1.7976931348623157e+308" }, { 1e100, "1e+100" },
        { 5.684341886080802e-14, "5.684341886080802e-14" },     // 2^-44: nearest 16 digits fail
        { 9007199254740992, "9007199254740992.0" }, { 0.3, "0.3" },
        { 2.0 / 3, "0.6666666666666666" },
        { -1.5e-7, "-1.5e-07" }, { 123456.75, "123456.75" }, { HUGE_VAL, "Infinity" },
        { -HUGE_VAL, "-Infinity" }, { NAN, "NaN" },
    };
    mrc_text t;
    mrc_text_init(&t, ctx);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        t.bytes = 0;
        mrc_text_number(&t, cases[i].x);
        CHECK(!strcmp(t.data, cases[i].text), "%s, expected %s", t.data, cases[i].text);
    }
    mrc_text_free(&t);
}

static uint64_t text_bits(void) {
    uint64_t bits = 0;
    for (int i = 0; i < 4; i++) bits = bits << 16 | (uint64_t)((test_random() + 1) * 32767.99);
    return bits;
}

// Random bit patterns and powers of two, through text and JSON, to the bit.
static void test_number_round_trip(mrc_ctx *ctx) {
    size_t bad = 0, tried = 0;
    mrc_text t;
    mrc_json *root;
    mrc_text_init(&t, ctx);
    for (int i = 0; i < 100000 + 2098; i++) {
        uint64_t bits = text_bits();
        double x;
        memcpy(&x, &bits, sizeof x);
        if (i >= 100000) x = ldexp(1, i - 100000 - 1074);
        if (!isfinite(x)) continue;
        t.bytes = 0;
        mrc_text_number(&t, x);
        tried++;
        if (mrc_json_parse(ctx, &root, "t", t.data, t.bytes, 0) != MRC_OK) bad++;
        else bad += memcmp(&root->number, &x, sizeof x) != 0;
        mrc_json_free(root);
    }
    CHECK(bad == 0 && tried > 90000, "%zu of %zu doubles changed", bad, tried);
    mrc_text_free(&t);
}

// Against the system's strtod, whose point is '.' in this locale: the middles between neighbours,
// and a little beside them, are where a wrong rounding shows.
static void test_number_rounding(void) {
    static const char *const hard[] = {
        "2.2250738585072011e-308", "2.2250738585072012e-308", "4.9406564584124654e-324",
        "2.4703282292062327e-324", "2.4703282292062328e-324", "1e-325",
        "1.7976931348623158e308", "1.7976931348623159e308", "9007199254740993",
        "9007199254740992.9999999999999999",
        "9007199254740993.00000000000000000000000000000000000000000000000000001",
        "0.500000000000000166", "1.00000000000000011102230246251565404236316680908203125",
        "6.9294956446009195e15", "0e999999999999",
        "1.00000000000000011102230246251565404236316680908203124",
        "123456789012345678901234567890",
        "1.00000000000000011102230246251565404236316680908203126", "1e-99999999999999999999",
        "0.000e+5", "100000000000000000000000000000000000000000000000000e-50",
        "0.00000000000000000000000000001e29",
    };
    size_t bad = 0;
    char text[1200];
    for (size_t i = 0; i < sizeof hard / sizeof hard[0]; i++) {
        double x = mrc__decimal_parse(hard[i], strlen(hard[i])), y = strtod(hard[i], NULL);
        CHECK(!memcmp(&x, &y, sizeof x), "%s: %.17g, not %.17g", hard[i], x, y);
    }
    for (int i = 0; i < 60000; i++) {
        uint64_t bits = text_bits() & 0x7fffffffffffffffu;
        double x, y;
        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x)) continue;
        snprintf(text, sizeof text, "%.*e", 14 + i % 12, x);
        if (i % 20 == 0) {          // the exact middle to the next double, or a little above
            if (fabs(x) < 1e-290 || fabs(x) > 1e290) continue;
            int e, n;
            double m = frexp(x, &e);
            n = snprintf(text, sizeof text, "%.800Le", ldexpl((long double)m + 0x1p-54L, e));
            char *exponent = memchr(text, 'e', (size_t)n);
            if (i % 40 == 0) exponent[-1] = '1';
        }
        y = strtod(text, NULL);
        x = mrc__decimal_parse(text, strlen(text));
        bad += memcmp(&x, &y, sizeof x) != 0;
    }
    CHECK(bad == 0, "%zu texts rounded wrongly", bad);
}

static void test_number_locale(mrc_ctx *ctx) {
    static const char *const names[] = { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "ru_RU.UTF-8",
                                         "de_DE", "pt_BR.UTF-8" };
    size_t i = 0;
    while (i < 6 && !setlocale(LC_ALL, names[i])) i++;
    if (i == 6 || localeconv()->decimal_point[0] == '.') {
        printf("SKIP: no locale with a decimal comma is installed\n");
        test_skipped++;
    } else {
        test_text_number(ctx);
        test_number_round_trip(ctx);
    }
    setlocale(LC_ALL, "C");
}

static void test_text_string(mrc_ctx *ctx) {
    static const char in[] = "\"\\/\b\f\n\r\t\0\x1f\x7f a\xED\x95\x9C\xF0\x9F\x98\x80\xE2\x80\xA8";
    static const char ascii[] = "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\\u007f a\\ud55c\\ud83d"
                                "\\ude00\\u2028\"";
    static const char utf8[] = "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f a\xED\x95\x9C"
                               "\xF0\x9F\x98\x80\xE2\x80\xA8\"";
    mrc_text t;
    mrc_text_init(&t, ctx);
    mrc_text_json_string(&t, in, sizeof in - 1, 1);
    CHECK(!strcmp(t.data, ascii), "%s", t.data);
    t.bytes = 0;
    mrc_text_json_string(&t, in, sizeof in - 1, 0);
    CHECK(!strcmp(t.data, utf8), "%s", t.data);
    t.bytes = 0;
    mrc_text_json_string(&t, "12345678\x7f", 9, 1);
    CHECK(!strcmp(t.data, "\"12345678\\u007f\""), "%s", t.data);
    t.bytes = 0;
    mrc_text_json_string(&t, "abcdefg\x7fh\xE2\x82", 11, 0);
    CHECK(!strcmp(t.data, "\"abcdefg\x7fh\xEF\xBF\xBD\""), "ill-formed: %s", t.data);
    t.bytes = 0;
    mrc_text_json_string(&t, NULL, 0, 0);
    CHECK(!strcmp(t.data, "\"\""), "empty: %s", t.data);
    mrc_text_free(&t);
    failing f = { .fail_at = 1, .from_then_on = 1 };
    mrc_ctx *failing_ctx;
    mrc_ctx_new(&failing_ctx, &(mrc_ctx_desc){ .allocator = failing_hooks(&f) });
    mrc_text_init(&t, failing_ctx);
    mrc_text_json_string(&t, in, sizeof in - 1, 1);
    mrc_text_number(&t, 0.1);
    CHECK(t.failed && !t.data, "no memory for text");
    mrc_text_free(&t);
    mrc_ctx_free(failing_ctx);
    CHECK(f.live == 0, "%ld left", f.live);
}

//==============================================================================
// Files
//==============================================================================
static mrc_status collect(mrc_ctx *ctx, void *user, const char *name) {
    (void)ctx;
    mrc_text_printf(user, "%s ", name);
    return MRC_OK;
}

static void check_listing(mrc_ctx *ctx, const char *folder, const char *expected) {
    mrc_text t;
    mrc_text_init(&t, ctx);
    mrc_text_add(&t, "", 0);
    CHECK(mrc_dir_list(ctx, folder, collect, &t) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(!strcmp(t.data, expected), "found %s, expected %s", t.data, expected);
    mrc_text_free(&t);
}

static void test_files(mrc_ctx *ctx, const char *folder) {
    char path[600], big[4096], *back;
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof big; i++) big[i] = (char)(i * 7);
    snprintf(path, sizeof path, "%s/a/b//c", folder);
    CHECK(mrc_dir_new(ctx, path) == MRC_OK && mrc_dir_new(ctx, path) == MRC_OK, "folders");
    CHECK(mrc_path_kind(path) == MRC_PATH_DIR, "folder exists");
    snprintf(path, sizeof path, "%s/a/f", folder);
    CHECK(mrc_path_kind(path) == MRC_PATH_NONE, "no file yet");
    CHECK(mrc_file_write(ctx, path, big, sizeof big) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_path_kind(path) == MRC_PATH_FILE, "file exists");
    CHECK(mrc_file_read(ctx, &back, &bytes, path) == MRC_OK && bytes == sizeof big
          && !memcmp(back, big, bytes) && !back[bytes], "read back %zu", bytes);
    mrc_file_free(ctx, back);
    CHECK(mrc_file_write(ctx, path, NULL, 0) == MRC_OK, "empty file");
    CHECK(mrc_file_read(ctx, &back, &bytes, path) == MRC_OK && bytes == 0 && !back[0], "empty");
    mrc_file_free(ctx, back);
    snprintf(path, sizeof path, "%s/a/B", folder);
    CHECK(mrc_file_write(ctx, path, "x", 1) == MRC_OK, "second file");
    snprintf(path, sizeof path, "%s/a", folder);
    check_listing(ctx, path, "B b f ");
    CHECK(mrc_dir_sync(ctx, path) == MRC_OK, "sync");
}

static void test_file_errors(mrc_ctx *ctx, const char *folder) {
    char path[600], expected[700], *back;
    size_t bytes;
    uint32_t crc;
    uint64_t length;
    snprintf(path, sizeof path, "%s/none", folder);
    snprintf(expected, sizeof expected, "%s: cannot open it: No such file or directory", path);
    CHECK(mrc_file_read(ctx, &back, &bytes, path) == MRC_ERR_ARG && !back, "missing file");
    CHECK(!strcmp(mrc_ctx_message(ctx), expected), "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_file_crc32c(ctx, path, &crc, &length) == MRC_ERR_ARG, "missing file");
    CHECK(mrc_dir_list(ctx, path, collect, NULL) == MRC_ERR_ARG, "missing folder");
    CHECK(mrc_dir_remove(ctx, path) == MRC_OK, "removing what is absent");
    CHECK(mrc_file_read(ctx, &back, &bytes, folder) == MRC_ERR_ARG, "a folder is no file");
    snprintf(path, sizeof path, "%s/none/f", folder);
    CHECK(mrc_file_write(ctx, path, "x", 1) == MRC_ERR_IO, "no folder to write in");
    snprintf(path, sizeof path, "%s/a", folder);
    CHECK(mrc_file_write(ctx, path, "x", 1) == MRC_ERR_IO, "a folder is not replaced");
    snprintf(path, sizeof path, "%s/a/f/g", folder);
    CHECK(mrc_dir_new(ctx, path) == MRC_ERR_IO, "a folder below a file");
    mrc_ctx_clear_error(ctx);
}

// Links are removed, not followed.  A writer removes its own temporary file; one that is there when
// it begins may be another's and stays.
static void test_file_leftovers(mrc_ctx *ctx, const char *folder) {
    char path[600], tmp[700], link[600];
    mrc_file_writer *w = NULL;
    uint32_t crc = 0;
    uint64_t bytes = 0;
    snprintf(path, sizeof path, "%s/a/f", folder);
    snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid());
    CHECK(symlink("B", tmp) == 0, "a link where the temporary file goes");
    CHECK(mrc_file_writer_new(ctx, &w, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_file_writer_add(w, "abc", 3) == MRC_OK && mrc_file_writer_add(w, "d", 1) == MRC_OK,
          "%s", mrc_ctx_message(ctx));
    size_t bytes_of_tmp = strlen(tmp);
    snprintf(tmp + bytes_of_tmp, sizeof tmp - bytes_of_tmp, ".1");
    CHECK(mrc_path_kind(tmp) == MRC_PATH_FILE, "written beside its target, under a free name");
    CHECK(mrc_file_writer_commit(w) == MRC_OK && !mrc_path_kind(tmp), "committed");
    tmp[bytes_of_tmp] = 0;
    CHECK(unlink(tmp) == 0, "the link that was there is there still");
    CHECK(mrc_file_crc32c(ctx, path, &crc, &bytes) == MRC_OK && bytes == 4
          && crc == mrc_crc32c(0, "abcd", 4), "%u of %u bytes", (unsigned)crc, (unsigned)bytes);
    CHECK(mrc_file_writer_new(ctx, &w, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_file_writer_add(w, "zzz", 3) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_file_writer_abort(w);
    mrc_file_writer_abort(NULL);
    CHECK(mrc_file_crc32c(ctx, path, &crc, &bytes) == MRC_OK && bytes == 4, "target as before");
    snprintf(path, sizeof path, "%s/a", folder);
    check_listing(ctx, path, "B b f ");
    snprintf(link, sizeof link, "%s/link", folder);
    CHECK(symlink("a", link) == 0 && mrc_dir_remove(ctx, link) == MRC_OK, "remove a link");
    CHECK(mrc_path_kind(path) == MRC_PATH_DIR, "what it pointed to stays");
    snprintf(link, sizeof link, "%s/d", folder);
    CHECK(mrc_dir_new(ctx, link) == MRC_OK, "folder");
    snprintf(link, sizeof link, "%s/d/link", folder);
    CHECK(symlink("../a", link) == 0, "link");
    snprintf(link, sizeof link, "%s/d", folder);
    CHECK(mrc_dir_remove(ctx, link) == MRC_OK && !mrc_path_kind(link), "folder with a link");
    check_listing(ctx, path, "B b f ");
}

// What is no regular file is written to, not replaced: a pipe, and an open file that /proc names.
static void test_file_streams(mrc_ctx *ctx, const char *folder) {
    char path[600], back[16] = "";
    struct stat info;
    snprintf(path, sizeof path, "%s/a/pipe", folder);
    CHECK(mkfifo(path, 0600) == 0, "mkfifo");
    const int pipe = open(path, O_RDONLY | O_NONBLOCK);
    CHECK(mrc_file_write(ctx, path, "abcd", 4) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(read(pipe, back, sizeof back) == 4 && !memcmp(back, "abcd", 4), "%s", back);
    CHECK(stat(path, &info) == 0 && S_ISFIFO(info.st_mode), "a pipe stays a pipe");
    close(pipe);
    CHECK(unlink(path) == 0, "the pipe");
    snprintf(path, sizeof path, "%s/a/f", folder);
    const int file = open(path, O_RDWR);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    if (access(path, F_OK) == 0) {
        const off_t end = lseek(file, 0, SEEK_END);
        CHECK(mrc_file_write(ctx, path, "more", 4) == MRC_OK, "%s", mrc_ctx_message(ctx));
        CHECK(pread(file, back, sizeof back, end) == 4 && !memcmp(back, "more", 4), "appended");
        CHECK(ftruncate(file, end) == 0, "as before");
    } else test_skip("no /proc/self/fd: an open file by its number");
    close(file);
    snprintf(path, sizeof path, "%s/a", folder);
    check_listing(ctx, path, "B b f ");
}

// A disk that fills up: the old file stays, no temporary file does.  In a child, for the limit.
static void test_file_full(mrc_ctx *ctx, const char *folder) {
    char path[600], big[8192];
    memset(big, 'x', sizeof big);
    snprintf(path, sizeof path, "%s/a/f", folder);
    CHECK(mrc_file_write(ctx, path, "old", 3) == MRC_OK, "%s", mrc_ctx_message(ctx));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        mrc_file_writer *w;
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit was;
        int limits = getrlimit(RLIMIT_FSIZE, &was) == 0
                  && setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 4096, was.rlim_max }) == 0;
        int ok = limits && mrc_file_write(ctx, path, big, sizeof big) == MRC_ERR_IO;
        ok = ok && strstr(mrc_ctx_message(ctx), "a/f: cannot ") != NULL;
        ok = ok && mrc_file_writer_new(ctx, &w, path) == MRC_OK;
        ok = ok && mrc_file_writer_add(w, big, sizeof big) == MRC_ERR_IO;
        ok = ok && mrc_file_writer_add(w, big, 1) == MRC_ERR_IO;
        ok = ok && mrc_file_writer_commit(w) == MRC_ERR_IO;
        setrlimit(RLIMIT_FSIZE, &was);          // what counts coverage writes a file
        test_leave(ok ? 0 : 1);
    }
    int state = -1;
    waitpid(child, &state, 0);
    CHECK(WIFEXITED(state) && WEXITSTATUS(state) == 0, "full disk: %d", state);
    snprintf(path, sizeof path, "%s/a", folder);
    check_listing(ctx, path, "B b f ");
    uint32_t crc;
    uint64_t bytes;
    snprintf(path, sizeof path, "%s/a/f", folder);
    CHECK(mrc_file_crc32c(ctx, path, &crc, &bytes) == MRC_OK && bytes == 3
          && crc == mrc_crc32c(0, "old", 3), "the old file stays");
}

// Values of RFC 3720, appendix B.4, and every cut of a text.
static void test_crc(void) {
    unsigned char buffer[97];
    memset(buffer, 0, 32);
    CHECK(mrc_crc32c(0, buffer, 32) == 0x8A9136AAu, "zeros");
    memset(buffer, 0xFF, 32);
    CHECK(mrc_crc32c(0, buffer, 32) == 0x62A8AB43u, "ones");
    for (unsigned i = 0; i < 32; i++) buffer[i] = (unsigned char)i;
    CHECK(mrc_crc32c(0, buffer, 32) == 0x46DD794Eu, "rising");
    CHECK(mrc_crc32c(0, "123456789", 9) == 0xE3069283u, "digits");
    for (size_t i = 0; i < sizeof buffer; i++) buffer[i] = (unsigned char)(i * i + 3);
    uint32_t whole = mrc_crc32c(0, buffer, sizeof buffer);
    for (size_t i = 0; i <= sizeof buffer; i++) {
        uint32_t part = mrc_crc32c(0, buffer, i);
        CHECK(mrc_crc32c(part, buffer + i, sizeof buffer - i) == whole, "cut at %zu", i);
    }
    // Whatever this machine computes it with: as by the tables.
    unsigned char data[100];
    for (size_t k = 0; k < sizeof data; k++) data[k] = (unsigned char)(k * 37 + 11);
    for (size_t n = 0; n <= 80; n++) {
        const uint32_t want = mrc__crc(mrc__crc32c_table, 7, data + n % 9, n);
        CHECK(mrc_crc32c(7, data + n % 9, n) == want, "%zu bytes", n);
    }
}

static int number_order(const void *a, const void *b) {
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

static void test_sort(void) {
    int values[200];
    const void *list[200];
    for (size_t n = 0; n <= 200; n++) {
        for (size_t i = 0; i < n; i++) {
            values[i] = (int)(test_random() * 50);
            list[i] = &values[i];
        }
        mrc__sort(list, n, number_order);
        int bad = 0;
        for (size_t i = 1; i < n; i++) bad += number_order(list[i - 1], list[i]) > 0;
        CHECK(bad == 0, "%zu values", n);
    }
}

// FTZ and DAZ, each alone, are said when a context is to compute; without them nothing is.
static void note_text(void *user, mrc_status status, const char *message) {
    snprintf(user, 64, "%d %.50s", (int)status, message);
}
static void test_subnormals(void) {
#if defined(__SSE2__)
    static const unsigned bits[] = { 0, 0x8000, 0x0040, 0x8040 };
    const unsigned old = __builtin_ia32_stmxcsr();
    mrc_backend *be = NULL;
    CHECK(mrc_backend_naive_new(&be, NULL) == MRC_OK, "backend");
    for (int i = 0; i < 4; i++) {
        mrc_ctx *ctx = NULL;
        char text[64] = "";
        __builtin_ia32_ldmxcsr(old | bits[i]);
        mrc_status s = mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .log = note_text,
                                                          .log_user = text });
        __builtin_ia32_ldmxcsr(old);
        CHECK(s == MRC_OK && !strncmp(text, i ? "0 this thread takes subnormal numbers for 0" : "",
                                      43), "MXCSR %x: %s", bits[i], text);
        mrc_ctx_free(ctx);
    }
    mrc_backend_free(be);
#endif
}

static void run(void) {
    char folder[64] = "/tmp/mrc_test_text.XXXXXX";
    mrc_ctx *ctx = text_ctx();
    test_utf8_exhaustive();
    test_utf8_code_points();
    test_utf8_positions();
    test_utf8_kuhn(ctx);
    test_utf8_project(ctx);
    test_json_suite(ctx);
    test_json_transform(ctx);
    test_json_tree(ctx);
    test_spaces();
    test_processors(ctx);
    test_json_messages(ctx);
    test_json_depth(ctx);
    test_json_line(ctx);
    test_json_memory();
    test_text_number(ctx);
    test_number_round_trip(ctx);
    test_number_rounding();
    test_number_locale(ctx);
    test_text_string(ctx);
    test_crc();
    test_subnormals();
    test_sort();
    if (CHECK(mkdtemp(folder) != NULL, "a folder for files")) {
        test_files(ctx, folder);
        test_file_errors(ctx, folder);
        test_file_streams(ctx, folder);
        test_file_leftovers(ctx, folder);
        test_file_full(ctx, folder);
        CHECK(mrc_dir_remove(ctx, folder) == MRC_OK && !mrc_path_kind(folder), "clean up");
    }
    mrc_ctx_free(ctx);
}

int main(void) {
    cases_on_small_stack(run);
    return test_end();
}
