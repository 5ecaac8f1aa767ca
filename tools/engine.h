// A search cluster in place of an index folder: Elasticsearch 7 to 9 and OpenSearch 1 to 3, by HTTP
// through libcurl.  index --engine .. fills it, search and ask --engine .. ask it.
//
// The text is analysed here and sent as terms with spaces between them, which the server's own
// whitespace analyzer parts again: one definition of a term for the local index and the cluster,
// no plug-in.  A new index NAME-xxxxxxxx is filled, then the alias NAME moves to it in one call:
// it appears whole or not at all.  A passage's _id is its id, so sending it twice is harmless, and
// what is missing after a crash is asked of the server (--resume), not kept here.
//
// Credentials come from a file or the environment, never from a flag or a URL; they go over plain
// HTTP to this machine only, and stand in no message.
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

typedef struct engine_args {
    int         kind, overwrite, resume, global_statistics;
    const char *url, *auth_file, *ca_cert, *client_cert, *client_key, *name, *tokenizer;
    double      k1, b;
    size_t      shards, replicas, retry_seconds;
} engine_args;

static engine_args engine_a = { .k1 = 1.2, .b = 0.75, .global_statistics = 1, .shards = 1,
                                .retry_seconds = 300 };

// The flags of all that go to a cluster.
#define ENGINE_FLAGS \
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
    { .name = "retry_seconds", .size = &engine_a.retry_seconds, .preset = "300", .min = 0, \
      .max = 86400, .group = "search cluster", \
      .help = "how long an overloaded or absent cluster is asked again" }
// Of those that ask it.
#define ENGINE_QUERY_FLAGS \
    { .name = "tokenizer_name", .string = &engine_a.tokenizer, .value = "DIR", \
      .group = "search cluster", .help = "of an index by word pieces: what it was made with" }, \
    { .name = "global_statistics", .flag = &engine_a.global_statistics, .preset = "true", \
      .group = "search cluster", \
      .help = "count terms over all parts of the index, not in each: the local ranking" }

// Called for each hit of query `query`; title and text are "" unless they were asked for; all of it
// lives until fn returns.
typedef void (*engine_hit_fn)(void *user, size_t query, size_t rank, const mrc_passage *p,
                              double score);

// A cluster is asked by words; words: whether that is all that was asked for.
TOOL_DEF void engine_check_stages(int words) {
    if (engine_a.kind == ENGINE_NONE || words) return;
    tool_fail(TOOL_USAGE, "--engine: a cluster is searched by words (found --retriever or "
              "--reranker, expected neither)");
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
    struct curl_slist *headers;
    mrc_text    answer;
    int         too_long;
    char        reason[CURL_ERROR_SIZE];
    mrc_tokenizer *tok;
    mrc_analyzer   analyzer;
} engine;

//==============================================================================
// HTTP
//==============================================================================
TOOL_DEF const char *engine_url(const engine *e) { return e->urls[e->at % e->n_urls]; }

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
    if (!engine_a.url) {
        tool_fail(TOOL_USAGE, "--url is missing (found nothing, expected the cluster's address)");
    }
    for (const char *p = engine_a.url; *p; ) {
        size_t n = strcspn(p, ",");
        if (e->n_urls == 8 || n >= sizeof e->urls[0] - 1 || (strncmp(p, "http://", 7)
            && strncmp(p, "https://", 8)) || memchr(p, '@', n) || memchr(p, ' ', n)) {
            tool_fail(TOOL_USAGE, "--url: entry %zu cannot be used (expected http:// or https://, "
                      "no name or password in it, at most 8)", e->n_urls + 1);
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

// One request to one of the addresses; the HTTP status, 0 where there was no answer.
TOOL_DEF long engine_once(engine *e, const char *method, const char *path, const char *body,
                        size_t bytes, int lines) {
    char url[2048];
    long status = 0;
    struct curl_slist type = { (char *)(uintptr_t)(lines ? "Content-Type: application/x-ndjson"
                               : "Content-Type: application/json"), e->headers };
    snprintf(url, sizeof url, "%s%s", engine_url(e), path);
    e->answer.bytes = 0;
    e->too_long = 0;
    e->reason[0] = 0;
    curl_easy_setopt(e->curl, CURLOPT_URL, url);
    curl_easy_setopt(e->curl, CURLOPT_HTTPHEADER, &type);
    curl_easy_setopt(e->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(e->curl, CURLOPT_NOBODY, strcmp(method, "HEAD") ? 0L : 1L);
    curl_easy_setopt(e->curl, CURLOPT_TIMEOUT_MS, lines ? 120000L : 30000L);
    curl_easy_setopt(e->curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(e->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)bytes);
    if (!body) curl_easy_setopt(e->curl, CURLOPT_HTTPGET, 1L);
    CURLcode code = curl_easy_perform(e->curl);
    if (e->too_long) {
        tool_fail(TOOL_BAD_INPUT, "%s: an answer of more than %zu bytes", engine_url(e),
                  ENGINE_ANSWER_MOST);
    }
    if (code == CURLE_OK) curl_easy_getinfo(e->curl, CURLINFO_RESPONSE_CODE, &status);
    if (!*e->reason && code != CURLE_OK) {
        snprintf(e->reason, sizeof e->reason, "%s", curl_easy_strerror(code));
    }
    if (code == CURLE_OUT_OF_MEMORY) tool_no_memory("a request");
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE
        || code == CURLE_SSL_CERTPROBLEM) {         // which no waiting changes
        tool_fail(TOOL_IO, "%s: %s", engine_url(e), e->reason);
    }
    mrc_text_add(&e->answer, "", 0);
    return status;
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

// A request, again while the cluster is overloaded or away; statuses that mean something to the
// caller come back (2xx, 404, 400, 413), others end the program.
TOOL_DEF long engine_ask(engine *e, const char *method, const char *path, const char *body,
                       size_t bytes, int lines) {
    double begun = tool_seconds(), wait = 0.5;
    char why[512];
    for (;;) {
        long status = engine_once(e, method, path, body, bytes, lines);
        const char *url = engine_url(e);
        if ((status >= 200 && status < 300) || status == 404 || status == 400 || status == 413) {
            return status;
        }
        engine_explain(e, why, sizeof why);
        if (status == 401 || status == 403) {
            tool_fail(TOOL_IO, "%s: refuses the credentials (%ld%s%s)", url, status,
                      *why ? ", " : "", why);
        }
        if (status >= 300 && status != 429 && (status < 502 || status > 504)) {
            tool_fail(status < 400 ? TOOL_BAD_INPUT : TOOL_IO, "%s%s: status %ld %s", url, path,
                      status, why);
        }
        double left = (double)engine_a.retry_seconds - (tool_seconds() - begun);
        if (left <= 0 || tool_signal) {
            tool_fail(tool_signal ? TOOL_INTERRUPTED : TOOL_IO, "%s: %s", url,
                      status ? "is overloaded" : e->reason);
        }
        e->at++;
        if (e->at % e->n_urls == 0) {
            if (wait > left) wait = left;
            struct timespec t = { (time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9) };
            nanosleep(&t, NULL);
            wait = wait < 30 ? wait * 2 : 60;
        }
    }
}

// The answer as JSON; what is none is not the server we think.
TOOL_DEF mrc_json *engine_json(engine *e) {
    mrc_json *root;
    const char *text = e->answer.data ? e->answer.data : "";
    if (mrc_json_parse(e->ctx, &root, engine_url(e), text, e->answer.bytes, 0) != MRC_OK) {
        tool_fail(TOOL_BAD_INPUT, "%s (is this a search cluster?)", mrc_ctx_message(e->ctx));
    }
    return root;
}

TOOL_DEF const char *engine_text(const mrc_json *object, const char *key) {
    const mrc_json *v = mrc_json_get(object, key);
    return v && v->type == MRC_JSON_STRING ? v->string : "";
}

// A request that must be accepted.
TOOL_DEF mrc_json *engine_must(engine *e, const char *method, const char *path,
                             const mrc_text *body) {
    char why[512];
    long status = engine_ask(e, method, path, body ? body->data : NULL, body ? body->bytes : 0, 0);
    if (status >= 200 && status < 300) return engine_json(e);
    engine_explain(e, why, sizeof why);
    tool_fail(status == 404 ? TOOL_IO : TOOL_BAD_INPUT, "%s%s: status %ld %s",
              engine_url(e), path, status, why);
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

// The cluster is what --engine says, of a version that is known.
TOOL_DEF void engine_hello(engine *e) {
    mrc_json *root = engine_must(e, "GET", "/", NULL);
    const mrc_json *version = mrc_json_get(root, "version");
    const char *number = engine_text(version, "number");
    int open = !strcmp(engine_text(version, "distribution"), "opensearch"), major = atoi(number);
    int wants_open = engine_a.kind == ENGINE_OPENSEARCH;
    if (!*number || open != wants_open) {
        tool_fail(TOOL_BAD_INPUT, "%s: is another engine (found %s %.20s, expected %s)", e->urls[0],
                  open ? "opensearch" : *number ? "elasticsearch" : "neither", number,
                  wants_open ? "opensearch" : "elasticsearch");
    }
    if (open ? major < 1 || major > 3 : major < 7 || major > 9) {
        tool_fail(TOOL_BAD_INPUT, "%s: version %.20s (expected %s)", e->urls[0], number,
                  open ? "1 to 3" : "7 to 9");
    }
    mrc_json_free(root);
}

//==============================================================================
// Filling an index
//==============================================================================
typedef struct engine_load {
    engine              *e;
    const mrc_passages  *passages;
    size_t               n, sent, bad, batch;       // batch: passages at a time, as it goes now
    unsigned char       *is_there;
    char                 index[300];
    mrc_text             body, terms;
    double               progress;                  // when an item was last accepted
} engine_load;

TOOL_DEF uint32_t engine_crc(const mrc_passages *p) {
    uint32_t crc = 0;
    for (size_t i = 0; i < mrc_passages_size(p); i++) {
        const mrc_passage *x = mrc_passages_at(p, i);
        crc = mrc_crc32c(crc, x->id, strlen(x->id) + 1);
        crc = mrc_crc32c(crc, x->text, x->text_bytes + 1);
    }
    return crc;
}

// What makes an index this one's: the analyzer, the passages, BM25's numbers.
TOOL_DEF void engine_meta(mrc_text *t, const engine_load *l) {
    mrc_text_printf(t, "{\"format\": 1, \"analyzer\": \"%s\", \"passages\": %zu, \"crc32c\": %lu, "
                    "\"k1\": %.17g, \"b\": %.17g}", mrc_analyzer_name(l->e->analyzer), l->n,
                    (unsigned long)engine_crc(l->passages), engine_a.k1, engine_a.b);
}

TOOL_DEF void engine_create(engine_load *l) {
    mrc_text t, meta;
    mrc_text_init(&t, l->e->ctx);
    mrc_text_init(&meta, l->e->ctx);
    engine_meta(&meta, l);
    mrc_text_printf(&t, "{\"settings\": {\"number_of_shards\": %zu, \"number_of_replicas\": 0, "
                    "\"refresh_interval\": \"-1\", \"similarity\": {\"default\": {\"type\": "
                    "\"BM25\", \"k1\": %.17g, \"b\": %.17g}}}, \"mappings\": {\"dynamic\": "
                    "\"strict\", \"_meta\": {\"mrc\": %s}, \"_source\": {\"excludes\": "
                    "[\"terms\"]}, \"properties\": {\"ord\": {\"type\": \"long\"}, \"title\": "
                    "{\"type\": \"text\", \"index\": false}, \"text\": {\"type\": \"text\", "
                    "\"index\": false}, \"terms\": {\"type\": \"text\", \"analyzer\": "
                    "\"whitespace\"}}}}", engine_a.shards, engine_a.k1, engine_a.b, meta.data);
    char path[320];
    snprintf(l->index, sizeof l->index, "%s-%08lx", engine_a.name,
             (unsigned long)(engine_crc(l->passages) ^ (uint32_t)time(NULL)));
    snprintf(path, sizeof path, "/%s", l->index);
    mrc_json_free(engine_must(l->e, "PUT", path, &t));
    mrc_text_free(&t);
    mrc_text_free(&meta);
}

// The unfinished or finished index of this name whose _meta is ours; 0: there is none.
TOOL_DEF int engine_find(engine_load *l) {
    char path[320];
    mrc_text meta;
    mrc_json *want;
    mrc_text_init(&meta, l->e->ctx);
    engine_meta(&meta, l);
    tool_check(l->e->ctx, mrc_json_parse(l->e->ctx, &want, "meta", meta.data, meta.bytes, 0));
    snprintf(path, sizeof path, "/%s-*/_mapping", engine_a.name);
    if (engine_ask(l->e, "GET", path, NULL, 0, 0) == 404) return 0;
    mrc_json *root = engine_json(l->e);
    for (const mrc_json *x = root->child; x; x = x->next) {
        const mrc_json *m = mrc_json_get(mrc_json_get(mrc_json_get(x, "mappings"), "_meta"), "mrc");
        int same = m && x->key_bytes < sizeof l->index;
        for (const mrc_json *w = want->child; same && w; w = w->next) {
            const mrc_json *v = mrc_json_get(m, w->key);
            same = v && v->type == w->type && v->number >= w->number && v->number <= w->number
                && (v->type != MRC_JSON_STRING || !strcmp(v->string, w->string));
        }
        if (same) snprintf(l->index, sizeof l->index, "%s", x->key);
    }
    mrc_json_free(root);
    mrc_json_free(want);
    mrc_text_free(&meta);
    return *l->index != 0;
}

// Which passages the index has: pages of their numbers, in order.
TOOL_DEF void engine_present(engine_load *l) {
    char path[320];
    long long last = -1;
    size_t found = 1, all = 0;
    snprintf(path, sizeof path, "/%s/_refresh", l->index);
    mrc_json_free(engine_must(l->e, "POST", path, NULL));
    snprintf(path, sizeof path, "/%s/_search", l->index);
    while (found) {
        l->body.bytes = found = 0;
        mrc_text_printf(&l->body, "{\"size\": 10000, \"_source\": false, \"sort\": [{\"ord\": "
                        "\"asc\"}], \"query\": {\"range\": {\"ord\": {\"gt\": %lld}}}}", last);
        mrc_json *root = engine_must(l->e, "POST", path, &l->body);
        const mrc_json *hits = mrc_json_get(mrc_json_get(root, "hits"), "hits");
        for (const mrc_json *h = hits ? hits->child : NULL; h; h = h->next) {
            const mrc_json *sort = mrc_json_get(h, "sort");
            const mrc_json *ord = sort ? sort->child : NULL;
            if (!ord || !ord->is_int || ord->integer <= last || (size_t)ord->integer >= l->n) {
                tool_fail(TOOL_BAD_INPUT, "%s: %s has numbers that are not ours", engine_url(l->e),
                          l->index);
            }
            last = ord->integer;
            all += !l->is_there[last];
            l->is_there[last] = 1;
            found++;
        }
        mrc_json_free(root);
    }
    tool_note("%s: %zu of %zu passages are there", l->index, all, l->n);
}

// A passage as two lines of _bulk.
TOOL_DEF void engine_add(engine_load *l, size_t i) {
    const mrc_passage *x = mrc_passages_at(l->passages, i);
    tool_check(l->e->ctx, mrc_analyze(l->e->ctx, l->e->analyzer, l->e->tok, x->text, x->text_bytes,
                                      &l->terms));
    mrc_text_printf(&l->body, "{\"index\": {\"_id\": ");
    mrc_text_json_string(&l->body, x->id, strlen(x->id), 0);
    mrc_text_printf(&l->body, "}}\n{\"ord\": %zu, \"title\": ", i);
    mrc_text_json_string(&l->body, x->title, strlen(x->title), 0);
    mrc_text_printf(&l->body, ", \"text\": ");
    mrc_text_json_string(&l->body, x->text, x->text_bytes, 0);
    mrc_text_printf(&l->body, ", \"terms\": ");
    mrc_text_json_string(&l->body, l->terms.data ? l->terms.data : "", l->terms.bytes, 0);
    mrc_text_printf(&l->body, "}\n");
    tool_check_text(&l->body);
}

// Walks the answer's items beside what was sent.  Accepted passages are marked; the others stay in
// list, or are bad.  Returns how many stay.
TOOL_DEF size_t engine_items(engine_load *l, size_t *list, size_t n) {
    mrc_json *root = engine_json(l->e);
    const mrc_json *items = mrc_json_get(root, "items");
    const mrc_json *item = items && items->type == MRC_JSON_ARRAY ? items->child : NULL;
    size_t left = 0;
    if (!items || items->n != n) {
        tool_fail(TOOL_BAD_INPUT, "%s: answers for %zu passages (expected %zu)", engine_url(l->e),
                  items ? items->n : 0, n);
    }
    for (size_t i = 0; i < n; i++, item = item->next) {
        const mrc_json *x = mrc_json_get(item, "index"), *status = mrc_json_get(x, "status");
        const char *id = mrc_passages_at(l->passages, list[i])->id;
        if (!status || !status->is_int || strcmp(engine_text(x, "_id"), id)) {
            tool_fail(TOOL_BAD_INPUT, "%s: answers for another passage (expected %.100s)",
                      engine_url(l->e), id);
        }
        if (status->integer == 200 || status->integer == 201) {
            l->is_there[list[i]] = 1;
            l->sent++;
            l->progress = tool_seconds();
        } else if (status->integer == 429 || status->integer == 503) {
            list[left++] = list[i];
        } else if (++l->bad <= 10) {
            const mrc_json *error = mrc_json_get(x, "error");
            tool_note("passage %.100s is refused: %.60s: %.200s", id, engine_text(error, "type"),
                      engine_text(error, "reason"));
        }
    }
    mrc_json_free(root);
    return left;
}

TOOL_DEF void engine_wait(double seconds) {
    struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };
    nanosleep(&t, NULL);
}

// Sends these passages until each is accepted or bad.
TOOL_DEF void engine_send(engine_load *l, size_t *list, size_t n) {
    char path[700];
    double wait = 0.5;
    snprintf(path, sizeof path, "/%s/_bulk?filter_path=took,errors,items.*._id,items.*.status,"
             "items.*.error.type,items.*.error.reason", l->index);
    while (n) {
        size_t take = n < l->batch ? n : l->batch, at = 0;
        l->body.bytes = 0;
        while (at < take && (at == 0 || l->body.bytes < ENGINE_BATCH_BYTES)) {
            engine_add(l, list[at++]);
        }
        long status = engine_ask(l->e, "POST", path, l->body.data, l->body.bytes, 1);
        if (tool_signal) tool_fail(TOOL_INTERRUPTED, "interrupted; --resume goes on");
        if (status == 413 && at > 1) {
            l->batch = at / 2;
            continue;
        }
        char why[512];
        engine_explain(l->e, why, sizeof why);
        if (status >= 300 && status != 413) {
            tool_fail(TOOL_BAD_INPUT, "%s: _bulk: status %ld %s", engine_url(l->e), status, why);
        }
        size_t left = at;
        if (status == 413) {
            l->bad++;
            left = 0;
            tool_note("passage %.100s is larger than the cluster takes", mrc_passages_at(
                      l->passages, list[0])->id);
        } else left = engine_items(l, list, at);
        memmove(list + left, list + at, (n - at) * sizeof *list);
        n -= at - left;
        if (!left) {
            l->batch += l->batch / 10 + 1;
            if (l->batch > ENGINE_BATCH) l->batch = ENGINE_BATCH;
            wait = 0.5;
            continue;
        }
        if (tool_seconds() - l->progress > (double)engine_a.retry_seconds) {
            tool_fail(TOOL_IO, "%s: accepted nothing for %zu s (its write queue is full)",
                      engine_url(l->e), engine_a.retry_seconds);
        }
        l->batch = l->batch > 1 ? l->batch / 2 : 1;
        engine_wait(wait);
        wait = wait < 30 ? wait * 2 : 60;
    }
}

TOOL_DEF size_t engine_count(engine *e, const char *index) {
    char path[320];
    snprintf(path, sizeof path, "/%s/_count", index);
    mrc_json *root = engine_must(e, "GET", path, NULL);
    const mrc_json *count = mrc_json_get(root, "count");
    size_t n = count && count->is_int && count->integer >= 0 ? (size_t)count->integer : SIZE_MAX;
    mrc_json_free(root);
    return n;
}

// The alias moves; with --overwrite_output_dir what it stood for goes.
TOOL_DEF void engine_publish(engine_load *l) {
    char path[320], old[8][256];
    size_t n_old = 0;
    snprintf(path, sizeof path, "/_alias/%s", engine_a.name);
    l->body.bytes = 0;
    mrc_text_printf(&l->body, "{\"actions\": [{\"add\": {\"index\": \"%s\", \"alias\": \"%s\"}}",
                    l->index, engine_a.name);
    if (engine_ask(l->e, "GET", path, NULL, 0, 0) == 200) {
        mrc_json *root = engine_json(l->e);
        for (const mrc_json *x = root->child; x && n_old < 8; x = x->next) {
            if (!strcmp(x->key, l->index) || x->key_bytes >= sizeof old[0]) continue;
            mrc_text_printf(&l->body, ", {\"remove\": {\"index\": \"%s\", \"alias\": \"%s\"}}",
                            x->key, engine_a.name);
            snprintf(old[n_old++], sizeof old[0], "%s", x->key);
        }
        mrc_json_free(root);
    }
    mrc_text_printf(&l->body, "]}");
    mrc_json_free(engine_must(l->e, "POST", "/_aliases", &l->body));
    for (size_t i = 0; i < n_old && engine_a.overwrite; i++) {
        snprintf(path, sizeof path, "/%.255s", old[i]);
        mrc_json_free(engine_must(l->e, "DELETE", path, NULL));
    }
}

TOOL_DEF void engine_finish(engine_load *l) {
    char path[320];
    snprintf(path, sizeof path, "/%s/_settings", l->index);
    l->body.bytes = 0;
    mrc_text_printf(&l->body, "{\"index\": {\"number_of_replicas\": %zu, "
                    "\"refresh_interval\": null}}", engine_a.replicas);
    mrc_json_free(engine_must(l->e, "PUT", path, &l->body));
    snprintf(path, sizeof path, "/%s/_refresh", l->index);
    mrc_json_free(engine_must(l->e, "POST", path, NULL));
    size_t count = engine_count(l->e, l->index);
    if (l->bad) {
        tool_fail(TOOL_BAD_INPUT, "%s: %zu passages were refused (found %zu, expected %zu)",
                  l->index, l->bad, count, l->n);
    }
    if (count != l->n) {
        tool_fail(TOOL_IO, "%s: has %zu passages (expected %zu; two with one id are one there)",
                  l->index, count, l->n);
    }
    engine_publish(l);
}

// index --engine: fills the cluster with these passages.
TOOL_DEF void engine_index(mrc_ctx *ctx, const mrc_passages *p, mrc_analyzer analyzer,
                           const char *tokenizer) {
    engine e;
    engine_load l = { .e = &e, .passages = p, .n = mrc_passages_size(p), .batch = ENGINE_BATCH };
    double begun = tool_seconds();
    engine_check_name(engine_a.name);
    tool_catch_signals();
    engine_open(&e, ctx);
    e.analyzer = analyzer;
    if (tokenizer) tool_check(ctx, mrc_tokenizer_load(ctx, &e.tok, tokenizer));
    for (size_t i = 0; i < l.n; i++) {
        size_t bytes = strlen(mrc_passages_at(p, i)->id);
        if (bytes < 1 || bytes > 512) {
            tool_fail(TOOL_BAD_INPUT, "passage %zu: its id has %zu bytes (expected 1 to 512)",
                      i + 1, bytes);
        }
    }
    mrc_text_init(&l.body, ctx);
    mrc_text_init(&l.terms, ctx);
    l.is_there = tool_allocate(l.n + 1, 1);
    size_t *list = tool_allocate(l.n + 1, sizeof *list), n = 0;
    engine_hello(&e);
    if (engine_a.resume && engine_find(&l)) engine_present(&l);
    else engine_create(&l);
    for (size_t i = 0; i < l.n; i++) if (!l.is_there[i]) list[n++] = i;
    l.progress = tool_seconds();
    engine_send(&l, list, n);
    engine_finish(&l);
    tool_note("%s: %zu passages in %s, %zu sent in %.1f s", engine_url(&e), l.n, l.index, l.sent,
              tool_seconds() - begun);
    free(list);
    free(l.is_there);
    mrc_text_free(&l.body);
    mrc_text_free(&l.terms);
    engine_close(&e);
}

//==============================================================================
// Searching
//==============================================================================
// Reads how the index was made; its analyzer is the queries'.
TOOL_DEF void engine_begin_search(engine *e, const char *index) {
    char path[320];
    engine_hello(e);
    snprintf(path, sizeof path, "/%s/_mapping", index);
    mrc_json *root = engine_must(e, "GET", path, NULL);
    const mrc_json *m = root->child;
    m = mrc_json_get(mrc_json_get(mrc_json_get(m, "mappings"), "_meta"), "mrc");
    const char *name = engine_text(m, "analyzer");
    int kind = 0;
    while (kind < MRC_ANALYZER_COUNT && strcmp(mrc_analyzer_name((mrc_analyzer)kind), name)) kind++;
    if (kind == MRC_ANALYZER_COUNT || root->n != 1) {
        tool_fail(TOOL_BAD_INPUT, "%s: was not made by index --engine (found no _meta.mrc with an "
                  "analyzer)", index);
    }
    e->analyzer = (mrc_analyzer)kind;
    if (kind == MRC_ANALYZER_WORDPIECE && !engine_a.tokenizer) {
        tool_fail(TOOL_USAGE, "--tokenizer_name is missing (found nothing, expected the tokenizer "
                  "that %s was made with)", index);
    }
    if (engine_a.tokenizer) {
        tool_check(e->ctx, mrc_tokenizer_load(e->ctx, &e->tok, engine_a.tokenizer));
    }
    mrc_json_free(root);
}

// One query's two lines of _msearch.
TOOL_DEF void engine_query(engine *e, mrc_text *body, mrc_text *terms, const char *index,
                           const mrc_query *q, size_t top_k, int texts) {
    tool_check(e->ctx, mrc_analyze(e->ctx, e->analyzer, e->tok, q->text, q->bytes, terms));
    mrc_text_printf(body, "{\"index\": \"%s\"%s}\n", index, engine_a.global_statistics
                    ? ", \"search_type\": \"dfs_query_then_fetch\"" : "");
    mrc_text_printf(body, "{\"size\": %zu, \"track_total_hits\": false, \"_source\": %s, "
                    "\"timeout\": \"30s\", \"query\": {\"match\": {\"terms\": ", top_k,
                    texts ? "[\"title\", \"text\"]" : "false");
    mrc_text_json_string(body, terms->data ? terms->data : "", terms->bytes, 0);
    mrc_text_printf(body, "}}, \"sort\": [{\"_score\": \"desc\"}, {\"ord\": \"asc\"}]}\n");
    tool_check_text(body);
}

// The hits of one response; fn is given each.
TOOL_DEF size_t engine_hits(engine *e, const mrc_json *response, size_t query, size_t top_k,
                            int texts, engine_hit_fn fn, void *user) {
    const mrc_json *hits = mrc_json_get(mrc_json_get(response, "hits"), "hits");
    const mrc_json *late = mrc_json_get(response, "timed_out");
    const mrc_json *failed = mrc_json_get(mrc_json_get(response, "_shards"), "failed");
    size_t n = 0;
    if (!hits || hits->type != MRC_JSON_ARRAY || hits->n > top_k) {
        const mrc_json *error = mrc_json_get(response, "error");
        tool_fail(TOOL_BAD_INPUT, "%s: query %zu: %.60s: %.300s", engine_url(e), query + 1,
                  error ? engine_text(error, "type") : "an answer",
                  error ? engine_text(error, "reason") : "without the hits that were asked for");
    }
    if ((late && late->type == MRC_JSON_TRUE) || (failed && failed->number > 0)) {
        tool_fail(TOOL_IO, "%s: query %zu: a part of the index did not answer", engine_url(e),
                  query + 1);
    }
    for (const mrc_json *h = hits->child; h; h = h->next) {
        const mrc_json *sort = mrc_json_get(h, "sort"), *score = sort ? sort->child : NULL;
        if (!*engine_text(h, "_id") || !score || score->type != MRC_JSON_NUMBER) {
            tool_fail(TOOL_BAD_INPUT, "%s: query %zu: a hit without id or score", engine_url(e),
                      query + 1);
        }
        const mrc_json *source = mrc_json_get(h, "_source"), *text = mrc_json_get(source, "text");
        if (texts && (!text || text->type != MRC_JSON_STRING)) {
            tool_fail(TOOL_BAD_INPUT, "%s: query %zu: passage %.100s without its text",
                      engine_url(e), query + 1, engine_text(h, "_id"));
        }
        mrc_passage p = { engine_text(h, "_id"), texts ? engine_text(source, "title") : "",
                          texts ? text->string : "", 0 };
        p.text_bytes = strlen(p.text);
        fn(user, query, n++, &p, score->number);
    }
    return n;
}

// Opens the alias `index` for queries of top_k passages.
TOOL_DEF void engine_search_open(engine *e, mrc_ctx *ctx, const char *index, size_t top_k) {
    engine_check_name(index);
    if (top_k > 10000) {
        tool_fail(TOOL_USAGE, "--top_k is out of range (found %zu, a cluster gives 10000 at most)",
                  top_k);
    }
    engine_open(e, ctx);
    engine_begin_search(e, index);
}

// The best passages of each query, as the cluster ranks them; texts: with title and text.
TOOL_DEF void engine_search(engine *e, const char *index, const mrc_query *queries, size_t n,
                            size_t top_k, int texts, size_t *n_hits, engine_hit_fn fn,
                            void *user) {
    mrc_text body, terms;
    mrc_text_init(&body, e->ctx);
    mrc_text_init(&terms, e->ctx);
    for (size_t at = 0; at < n; ) {
        size_t some = n - at < 64 ? n - at : 64;
        char why[512];
        body.bytes = 0;
        for (size_t i = 0; i < some; i++) {
            engine_query(e, &body, &terms, index, &queries[at + i], top_k, texts);
        }
        long status = engine_ask(e, "POST", "/_msearch", body.data, body.bytes, 1);
        engine_explain(e, why, sizeof why);
        if (status >= 300) {
            tool_fail(TOOL_BAD_INPUT, "%s: _msearch: status %ld %s", engine_url(e), status, why);
        }
        mrc_json *root = engine_json(e);
        const mrc_json *all = mrc_json_get(root, "responses");
        if (!all || all->type != MRC_JSON_ARRAY || all->n != some) {
            tool_fail(TOOL_BAD_INPUT, "%s: answers %zu queries (expected %zu)", engine_url(e),
                      all ? all->n : 0, some);
        }
        for (const mrc_json *r = all->child; r; r = r->next, at++) {
            n_hits[at] = engine_hits(e, r, at, top_k, texts, fn, user);
        }
        mrc_json_free(root);
    }
    mrc_text_free(&body);
    mrc_text_free(&terms);
}
#endif
#endif
