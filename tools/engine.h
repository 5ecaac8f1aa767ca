// A search cluster in place of an index folder: Elasticsearch 7 to 9 and OpenSearch 1 to 3, by HTTP
// through libcurl.  This file is who is asked and how; engine_load.h fills an index for index,
// engine_search.h asks one for search, ask and serve.
//
// The text is analysed here and sent as terms with spaces between them, which the server's own
// whitespace analyzer parts again: one definition of a term for the local index and the cluster,
// no plug-in.  Or it goes as it is to an analyzer of the cluster's own.  A new index NAME-xxxxxxxx
// is filled, then the alias NAME moves to it in one call: it appears whole or not at all.  A
// passage's _id is its id and it is created only once, so sending it twice is harmless, and what is
// missing after a crash is asked of the server (--resume), not kept here.
//
// Credentials come from a file or the environment, never from a flag or a URL; they go over plain
// HTTP to this machine only, and stand in no message.
//
// What is wrong with the flags ends the program; what the cluster does is a status with the
// context's text, for a service goes on after it.
#ifndef ENGINE_H
#define ENGINE_H
#include "tool.h"
#ifdef MRC_CURL
#include <curl/curl.h>
#endif

enum { ENGINE_NONE, ENGINE_ELASTICSEARCH, ENGINE_OPENSEARCH };
#define ENGINE_BATCH_BYTES ((size_t)5 << 20)
#define ENGINE_BATCH       1000
#define ENGINE_ANSWER_MOST ((size_t)64 << 20)
#define ENGINE_DECOMPOUND  "discard|none|mixed"

typedef struct engine_args {
    int         kind, overwrite, resume, global_statistics;
    const char *url, *auth_file, *ca_cert, *client_cert, *client_key, *name, *tokenizer;
    const char *template_id;
    int         decompound;             // of nori: one of ENGINE_DECOMPOUND
    double      k1, b;
    size_t      shards, replicas, retry_seconds;
} engine_args;

static engine_args engine_a = { .k1 = 1.2, .b = 0.75, .global_statistics = 1, .shards = 1,
                                .retry_seconds = 300 };

// The flags of all that go to a cluster.
#define ENGINE_FLAGS(seconds) \
    { .name = "engine", .choice = &engine_a.kind, .choices = "none|elasticsearch|opensearch", \
      .preset = "none", .group = "search cluster", \
      .help = "a cluster in place of a folder; needs a build with libcurl" }, \
    { .name = "url", .string = &engine_a.url, .value = "URL", .group = "search cluster", \
      .help = "of the cluster, as http://127.0.0.1:9200; several with commas" }, \
    { .name = "auth_file", .string = &engine_a.auth_file, .value = "FILE", \
      .otherwise = "MRC_SEARCH_AUTH, or none", .group = "search cluster", \
      .help = "one line, ApiKey KEY, Bearer TOKEN or Basic USER:PASSWORD, mode 0600" }, \
    { .name = "ca_cert", .string = &engine_a.ca_cert, .value = "FILE", \
      .otherwise = "the system's", .group = "search cluster", \
      .help = "certificates that the cluster's is checked against" }, \
    { .name = "client_cert", .string = &engine_a.client_cert, .value = "FILE", \
      .group = "search cluster", \
      .help = "the certificate that this program shows, PEM, where the cluster asks for one" }, \
    { .name = "client_key", .string = &engine_a.client_key, .value = "FILE", \
      .otherwise = "in --client_cert", .group = "search cluster", \
      .help = "its private key, PEM, mode 0600" }, \
    { .name = "retry_seconds", .size = &engine_a.retry_seconds, .preset = seconds, .min = 0, \
      .max = 86400, .group = "search cluster", \
      .help = "how long an overloaded or absent cluster is asked again" }
// Of those that ask it.
#define ENGINE_QUERY_FLAGS \
    { .name = "tokenizer_name", .string = &engine_a.tokenizer, .value = "DIR", \
      .group = "search cluster", .help = "of an index by word pieces: what it was made with" }, \
    { .name = "global_statistics", .flag = &engine_a.global_statistics, .preset = "true", \
      .group = "search cluster", \
      .help = "count terms over all parts of the index, not in each: the local ranking" }, \
    { .name = "search_template", .string = &engine_a.template_id, .value = "ID", \
      .group = "search cluster", .help = "a template that the cluster keeps, in place of this " \
      "program's query; its parameters are question, terms, vector and k" }

// How terms are made: one of mrc_analyzer, or behind those an analyzer of the cluster's own.
enum { ENGINE_STANDARD = MRC_ANALYZER_COUNT, ENGINE_CJK, ENGINE_NORI, ENGINE_ANALYZERS };
TOOL_DEF const char *engine_analyzer_name(int analyzer) {
    static const char *const own[] = { "standard", "cjk", "nori" };
    return analyzer < MRC_ANALYZER_COUNT ? mrc_analyzer_name((mrc_analyzer)analyzer)
         : own[analyzer - MRC_ANALYZER_COUNT];
}

// Without --engine, what only a cluster reads is a mistake.
TOOL_DEF void engine_check_none(void) {
    const char *found = engine_a.url ? "url" : engine_a.auth_file ? "auth_file"
                      : engine_a.template_id ? "search_template" : NULL;
    if (engine_a.kind != ENGINE_NONE || !found) return;
    tool_fail(TOOL_USAGE, "--%s is of a cluster (found no --engine, expected --engine "
              "elasticsearch or opensearch)", found);
}

#ifndef MRC_CURL
_Noreturn TOOL_DEF void engine_missing(void) {
    tool_fail(TOOL_USAGE, "--engine: this build has no libcurl (install libcurl4-openssl-dev, then "
              "./build.sh)");
}
#else

typedef struct engine {
    mrc_ctx    *ctx;
    CURL       *curl;
    char        urls[8][512];
    size_t      n_urls, at;
    int         major, minor;           // its version
    struct curl_slist *headers;
    mrc_text    answer;
    int         too_long;
    char        reason[CURL_ERROR_SIZE];
    mrc_tokenizer *tok;
    int         analyzer;
    long        patience;               // milliseconds for a request, its answer included
    // Of the last failure: it was the cluster's, not a request's; it was one of time.
    int         away, late;
    double      rest, rests_until;      // rest: for so many seconds after that nothing is asked
    char        said[1024];             // but this is said again
} engine;

//==============================================================================
// HTTP
//==============================================================================
TOOL_DEF const char *engine_url(const engine *e) { return e->urls[e->at % e->n_urls]; }

// An error with the context's text, in the place of one that is there.
__attribute__((format(printf, 3, 4)))
TOOL_DEF mrc_status engine_fail(engine *e, mrc_status status, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    mrc_ctx_clear_error(e->ctx);
    return mrc_ctx_fail(e->ctx, status, "%s", text);
}
#define ENGINE_TRY(expression) \
    do { \
        mrc_status engine_try_ = (expression); \
        if (engine_try_ != MRC_OK) return engine_try_; \
    } while (0)

TOOL_DEF mrc_status engine_text_status(engine *e, const mrc_text *t) {
    return t->failed ? engine_fail(e, MRC_ERR_MEM, "no memory for a request") : MRC_OK;
}

TOOL_DEF size_t engine_receive(char *data, size_t size, size_t n, void *user) {
    engine *e = user;
    (void)size;
    if (e->answer.bytes + n > ENGINE_ANSWER_MOST) {
        e->too_long = 1;
        return 0;
    }
    mrc_text_add(&e->answer, data, n);
    return e->answer.failed ? 0 : n;
}

// The whole name: http://localhost.example.com is another machine.
TOOL_DEF int engine_is_loopback(const char *url) {
    static const char *const names[] = { "http://127.0.0.1", "http://localhost", "http://[::1]" };
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(names[i]);
        if (!strncmp(url, names[i], n) && strchr(":/", url[n])) return 1;      // or the end
    }
    return 0;
}

// A file with a secret: only its owner may read it.
TOOL_DEF FILE *engine_secret(const char *path) {
    struct stat info;
    FILE *f = fopen(path, "r");
    if (!f) tool_fail(TOOL_BAD_INPUT, "%s: %s", path, strerror(errno));
    if (fstat(fileno(f), &info) != 0 || info.st_mode & 077) {
        tool_fail(TOOL_USAGE, "%s: others may read it (expected mode 0600)", path);
    }
    return f;
}

// Who is who: the cluster's certificate is always checked, and its name.
TOOL_DEF void engine_certificates(engine *e) {
    const char *key = engine_a.client_key ? engine_a.client_key : engine_a.client_cert;
    if (engine_a.ca_cert) curl_easy_setopt(e->curl, CURLOPT_CAINFO, engine_a.ca_cert);
    if (engine_a.client_key && !engine_a.client_cert) {
        tool_fail(TOOL_USAGE, "--client_key: of no certificate (found no --client_cert, expected "
                  "both)");
    }
    if (!key) return;
    fclose(engine_secret(key));
    curl_easy_setopt(e->curl, CURLOPT_SSLCERT, engine_a.client_cert);
    curl_easy_setopt(e->curl, CURLOPT_SSLKEY, key);
}

// The credentials' header; the line is wiped.
TOOL_DEF void engine_authorize(engine *e) {
    char line[2048] = "", header[4096], *secret;
    const char *given = getenv("MRC_SEARCH_AUTH");
    if (engine_a.auth_file) {
        FILE *f = engine_secret(engine_a.auth_file);
        if (!fgets(line, sizeof line, f)) line[0] = 0;
        fclose(f);
    } else if (given) {
        snprintf(line, sizeof line, "%s", given);
    } else return;
    line[strcspn(line, "\r\n")] = 0;
    secret = strchr(line, ' ');
    int basic = !strncmp(line, "Basic ", 6);
    if (!secret || (!basic && strncmp(line, "ApiKey ", 7) && strncmp(line, "Bearer ", 7))) {
        tool_fail(TOOL_USAGE, "credentials: unknown form (expected ApiKey KEY, Bearer TOKEN or "
                  "Basic USER:PASSWORD)");
    }
    for (size_t i = 0; i < e->n_urls; i++) {
        if (!strncmp(e->urls[i], "http://", 7) && !engine_is_loopback(e->urls[i])) {
            tool_fail(TOOL_USAGE, "%s: credentials go over https only (or to this machine)",
                      e->urls[i]);
        }
    }
    if (basic) {
        curl_easy_setopt(e->curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
        curl_easy_setopt(e->curl, CURLOPT_USERPWD, secret + 1);
    } else {
        snprintf(header, sizeof header, "Authorization: %s", line);
        e->headers = curl_slist_append(e->headers, header);
    }
    memset(line, 0, sizeof line);
    memset(header, 0, sizeof header);
}

TOOL_DEF void engine_open(engine *e, mrc_ctx *ctx) {
    memset(e, 0, sizeof *e);
    e->ctx = ctx;
    e->patience = 30000;
    if (!engine_a.url) {
        tool_fail(TOOL_USAGE, "--url is missing (found nothing, expected the cluster's address)");
    }
    for (const char *p = engine_a.url; *p; ) {
        size_t n = strcspn(p, ",");
        const size_t scheme = !strncmp(p, "http://", 7) ? 7 : !strncmp(p, "https://", 8) ? 8 : 0;
        if (e->n_urls == 8 || n >= sizeof e->urls[0] - 1 || !scheme || n == scheme
            || strchr("/:?#", p[scheme]) || memchr(p, '@', n) || memchr(p, ' ', n)) {
            tool_fail(TOOL_USAGE, "--url: entry %zu cannot be used (expected http:// or https:// "
                      "and a host, no name or password in it, at most 8)", e->n_urls + 1);
        }
        memcpy(e->urls[e->n_urls], p, n);
        while (n && e->urls[e->n_urls][n - 1] == '/') n--;
        e->urls[e->n_urls++][n] = 0;
        p += strcspn(p, ",");
        if (*p) p++;
    }
    mrc_text_init(&e->answer, ctx);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    e->curl = curl_easy_init();
    if (!e->curl || !e->n_urls) tool_no_memory("a connection to --url");
    curl_easy_setopt(e->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e->curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e->curl, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    curl_easy_setopt(e->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(e->curl, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(e->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(e->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    engine_certificates(e);
    curl_easy_setopt(e->curl, CURLOPT_ERRORBUFFER, e->reason);
    curl_easy_setopt(e->curl, CURLOPT_WRITEFUNCTION, engine_receive);
    curl_easy_setopt(e->curl, CURLOPT_WRITEDATA, e);
    e->headers = curl_slist_append(e->headers, "Expect:");
    engine_authorize(e);
}

TOOL_DEF void engine_close(engine *e) {
    curl_slist_free_all(e->headers);
    curl_easy_cleanup(e->curl);
    curl_global_cleanup();
    mrc_text_free(&e->answer);
    mrc_tokenizer_free(e->tok);
}

// One request to one of the addresses; *http: the answer's status, 0 where there was none.
TOOL_DEF mrc_status engine_once(engine *e, const char *method, const char *path,
                                const mrc_text *body, int lines, long *http) {
    char url[2048];
    struct curl_slist type = { (char *)(uintptr_t)(lines ? "Content-Type: application/x-ndjson"
                               : "Content-Type: application/json"), e->headers };
    snprintf(url, sizeof url, "%s%s", engine_url(e), path);
    e->answer.bytes = 0;
    e->answer.failed = e->too_long = e->late = 0;
    e->reason[0] = 0;
    *http = 0;
    curl_easy_setopt(e->curl, CURLOPT_URL, url);
    curl_easy_setopt(e->curl, CURLOPT_HTTPHEADER, &type);
    curl_easy_setopt(e->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(e->curl, CURLOPT_TIMEOUT_MS, e->patience);
    curl_easy_setopt(e->curl, CURLOPT_POSTFIELDS, body ? body->data : NULL);
    curl_easy_setopt(e->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(body ? body->bytes : 0));
    if (!body) curl_easy_setopt(e->curl, CURLOPT_HTTPGET, 1L);
    CURLcode code = curl_easy_perform(e->curl);
    if (e->too_long) {
        return engine_fail(e, MRC_ERR_FORMAT, "%s: an answer of more than %zu bytes",
                           engine_url(e), ENGINE_ANSWER_MOST);
    }
    if (code == CURLE_OK) curl_easy_getinfo(e->curl, CURLINFO_RESPONSE_CODE, http);
    if (!*e->reason && code != CURLE_OK) {
        snprintf(e->reason, sizeof e->reason, "%s", curl_easy_strerror(code));
    }
    if (code == CURLE_OUT_OF_MEMORY || e->answer.failed) {
        return engine_fail(e, MRC_ERR_MEM, "no memory for a request");
    }
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE
        || code == CURLE_SSL_CERTPROBLEM) {         // which no waiting changes
        e->away = 1;
        return engine_fail(e, MRC_ERR_IO, "%s: %s", engine_url(e), e->reason);
    }
    e->late = code == CURLE_OPERATION_TIMEDOUT || *http == 504;
    mrc_text_add(&e->answer, "", 0);
    return MRC_OK;
}

// What an answer says went wrong: error.type and error.reason, without control characters.
TOOL_DEF void engine_explain(engine *e, char *to, size_t room) {
    mrc_ctx *quiet;
    mrc_json *root = NULL;
    to[0] = 0;
    if (mrc_ctx_new(&quiet, NULL) != MRC_OK) return;
    if (e->answer.data && mrc_json_parse(quiet, &root, "answer", e->answer.data, e->answer.bytes, 0)
        == MRC_OK) {
        const mrc_json *error = mrc_json_get(root, "error"), *type = mrc_json_get(error, "type");
        const mrc_json *reason = mrc_json_get(error, "reason");
        if (type && type->string && reason && reason->string) {
            snprintf(to, room < 400 ? room : 400, "%s: %s", type->string, reason->string);
        } else if (error && error->string) {
            snprintf(to, room < 400 ? room : 400, "%s", error->string);
        }
        mrc_json_free(root);
    }
    mrc_ctx_free(quiet);
    for (; *to; to++) if ((unsigned char)*to < 0x20 || *to == 0x7f) *to = ' ';
}

TOOL_DEF void engine_wait(double seconds) {
    struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };
    nanosleep(&t, NULL);
}

// An answer that is neither good nor worth another try.
TOOL_DEF mrc_status engine_refused(engine *e, const char *path, long http) {
    char why[512];
    engine_explain(e, why, sizeof why);
    e->away = http == 401 || http == 403 || http >= 500;
    if (http == 401 || http == 403) {
        return engine_fail(e, MRC_ERR_IO, "%s: refuses the credentials (%ld%s%s)", engine_url(e),
                           http, *why ? ", " : "", why);
    }
    return engine_fail(e, http < 400 ? MRC_ERR_FORMAT : MRC_ERR_IO, "%s%s: status %ld %s",
                       engine_url(e), path, http, why);
}

TOOL_DEF mrc_status engine_try(engine *e, const char *method, const char *path,
                               const mrc_text *body, int lines, long *http) {
    double begun = tool_seconds(), wait = 0.5;
    if (body) ENGINE_TRY(engine_text_status(e, body));
    for (;;) {
        ENGINE_TRY(engine_once(e, method, path, body, lines, http));
        if ((*http >= 200 && *http < 300) || *http == 404 || *http == 400 || *http == 413) {
            return MRC_OK;
        }
        if (*http >= 300 && *http != 429 && (*http < 502 || *http > 504)) {
            return engine_refused(e, path, *http);
        }
        double left = (double)engine_a.retry_seconds - (tool_seconds() - begun);
        if (left <= 0 || tool_signal) {
            e->away = 1;
            return engine_fail(e, tool_signal ? MRC_ERR_INTERRUPTED : MRC_ERR_IO, "%s: %s",
                               engine_url(e), *http ? "is overloaded" : e->reason);
        }
        e->at++;
        if (e->at % e->n_urls == 0) {
            engine_wait(wait < left ? wait : left);
            wait = wait < 30 ? wait * 2 : 60;
        }
    }
}

// A request, again while the cluster is overloaded or away.  *http: a status that means something
// to the caller (2xx, 404, 400, 413); others are errors.
TOOL_DEF mrc_status engine_ask(engine *e, const char *method, const char *path,
                               const mrc_text *body, int lines, long *http) {
    if (tool_seconds() < e->rests_until) return engine_fail(e, MRC_ERR_IO, "%s", e->said);
    e->away = 0;
    mrc_status status = engine_try(e, method, path, body, lines, http);
    if (status != MRC_OK && e->away) {
        snprintf(e->said, sizeof e->said, "%s", mrc_ctx_message(e->ctx));
        e->rests_until = tool_seconds() + e->rest;
    }
    return status;
}

// The answer as JSON; what is none is not the server we think.
TOOL_DEF mrc_status engine_json(engine *e, mrc_json **root) {
    char why[512];
    const char *text = e->answer.data ? e->answer.data : "";
    if (mrc_json_parse(e->ctx, root, engine_url(e), text, e->answer.bytes, 0) == MRC_OK) {
        return MRC_OK;
    }
    snprintf(why, sizeof why, "%s", mrc_ctx_message(e->ctx));
    return engine_fail(e, MRC_ERR_FORMAT, "%s (is this a search cluster?)", why);
}

TOOL_DEF const char *engine_text(const mrc_json *object, const char *key) {
    const mrc_json *v = mrc_json_get(object, key);
    return v && v->type == MRC_JSON_STRING ? v->string : "";
}

// A request that must be accepted.
TOOL_DEF mrc_status engine_must(engine *e, const char *method, const char *path,
                                const mrc_text *body, mrc_json **root) {
    char why[512];
    long http;
    ENGINE_TRY(engine_ask(e, method, path, body, 0, &http));
    if (http >= 200 && http < 300) return engine_json(e, root);
    engine_explain(e, why, sizeof why);
    return engine_fail(e, http == 404 ? MRC_ERR_IO : MRC_ERR_FORMAT, "%s%s: status %ld %s",
                       engine_url(e), path, http, why);
}

TOOL_DEF void engine_check_name(const char *name) {
    size_t n = strlen(name);
    int bad = n == 0 || n > 240 || strchr("-_+.", name[0]) != NULL;
    for (size_t i = 0; i < n; i++) {
        bad |= (name[i] >= 'A' && name[i] <= 'Z') || (unsigned char)name[i] <= ' '
               || strchr("\\/*?\"<>|,#:%", name[i]) != NULL;
    }
    if (!bad) return;
    tool_fail(TOOL_USAGE, "the index's name cannot be used (found %.60s, expected lower case, none "
              "of \\/*?\"<>| ,#:%%, not beginning with - _ + .)", name);
}

// All addresses that answer must be of one cluster, whose uuid this is.
TOOL_DEF mrc_status engine_is_one(engine *e, const char *uuid) {
    const size_t first = e->at % e->n_urls;
    mrc_status status = MRC_OK;
    for (size_t i = 0; i < e->n_urls && *uuid && status == MRC_OK; i++) {
        mrc_json *root = NULL;
        long http = 0;
        e->at = i;
        if (i != first) status = engine_once(e, "GET", "/", NULL, 0, &http);
        if (status != MRC_OK || http != 200) continue;
        status = engine_json(e, &root);
        const char *other = status == MRC_OK ? engine_text(root, "cluster_uuid") : "";
        if (*other && strcmp(other, uuid)) {
            status = engine_fail(e, MRC_ERR_FORMAT, "%s: is another cluster than %s (found "
                                 "cluster_uuid %.40s, expected %.40s)", e->urls[i], e->urls[first],
                                 other, uuid);
        }
        mrc_json_free(root);
    }
    e->at = first;
    return status;
}

// The cluster is what --engine says, of a version that is known.
TOOL_DEF mrc_status engine_hello(engine *e) {
    mrc_json *root;
    mrc_status status = MRC_OK;
    ENGINE_TRY(engine_must(e, "GET", "/", NULL, &root));
    const mrc_json *version = mrc_json_get(root, "version");
    const char *number = engine_text(version, "number"), *dot = strchr(number, '.');
    int open = !strcmp(engine_text(version, "distribution"), "opensearch");
    int wants_open = engine_a.kind == ENGINE_OPENSEARCH;
    e->major = (int)strtol(number, NULL, 10);
    e->minor = dot ? (int)strtol(dot + 1, NULL, 10) : 0;
    if (!*number || open != wants_open) {
        status = engine_fail(e, MRC_ERR_FORMAT, "%s: is another engine (found %s %.20s, expected "
                             "%s)", e->urls[0], open ? "opensearch" : *number ? "elasticsearch"
                             : "neither", number, wants_open ? "opensearch" : "elasticsearch");
    } else if (open ? e->major < 1 || e->major > 3 : e->major < 7 || e->major > 9) {
        status = engine_fail(e, MRC_ERR_FORMAT, "%s: version %.20s (expected %s)", e->urls[0],
                             number, open ? "1 to 3" : "7 to 9");
    } else {
        status = engine_is_one(e, engine_text(root, "cluster_uuid"));
    }
    mrc_json_free(root);
    return status;
}

// The terms of a text as the index's analyzer makes them; for one of the cluster's the text itself.
TOOL_DEF mrc_status engine_terms(engine *e, const char *text, size_t bytes, mrc_text *terms) {
    if (e->analyzer < MRC_ANALYZER_COUNT) {
        return mrc_analyze(e->ctx, (mrc_analyzer)e->analyzer, e->tok, text, bytes, terms);
    }
    terms->bytes = 0;
    mrc_text_add(terms, text, bytes);
    return engine_text_status(e, terms);
}

// ", \"key\": [..]": a row of a vector, divided by its length where `unit`.
TOOL_DEF void engine_add_vector(mrc_text *t, const char *key, const float *row, size_t width,
                                int unit) {
    double square = 0, scale = 1;
    for (size_t i = 0; i < width; i++) square += (double)row[i] * (double)row[i];
    if (unit && fabs(sqrt(square) - 1) > 1e-6) scale = 1 / fmax(sqrt(square), 1e-12);
    mrc_text_printf(t, "\"%s\": [", key);
    for (size_t i = 0; i < width; i++) {
        mrc_text_printf(t, "%s%.9g", i ? ", " : "", (double)(float)((double)row[i] * scale));
    }
    mrc_text_add(t, "]", 1);
}
#endif
#endif
