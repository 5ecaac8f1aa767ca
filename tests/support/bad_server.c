// A search cluster that misbehaves as it is told: bad_server PORT_FILE MODE [PORT].  Prints
// nothing, writes its port to PORT_FILE, answers one connection after the other until it is killed.
//
// In the modes es7, es8 and os2 it behaves: it keeps the passages that it is sent, and ranks them
// by BM25 and by inner products, if it is asked as that version's documentation has it; else it
// says 400.  So what a program finds there is what it finds in a folder.
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char request[1 << 22], answer[1 << 22];
static const char *mode;
static int accepted, bulks, port;

static int is(const char *name) { return !strcmp(mode, name); }

//==============================================================================
// A small cluster: passages, BM25, inner products
//==============================================================================
enum { DOCS = 256, WIDTH = 128, TERMS = 512 };
typedef struct doc {
    char  *id, *title, *text, *terms;   // as JSON has them, escapes and all
    long   ord;
    float  vector[WIDTH];
    double score;
} doc;
static doc docs[DOCS];
static int n_docs;
static char meta[4096] = "{\"analyzer\": \"whitespace\", \"passages\": 3}";

static int is_small(void) { return is("es7") || is("es8") || is("os2"); }

// The string behind "key": in the line from s to end, a copy without its quotes; "" for none.
static char *text_of(const char *s, const char *end, const char *key) {
    const char *at = strstr(s, key), *stop;
    if (!at || at >= end) return strdup("");
    at += strlen(key);
    for (stop = at; *stop != '"'; stop++) stop += *stop == '\\';
    return strndup(at, (size_t)(stop - at));
}

static int vector_of(const char *s, const char *end, float *out) {
    static const char *const keys[] = { "\"query_value\": [", "\"query_vector\": [",
                                        "\"vector\": [" };
    for (int k = 0; k < 3; k++) {
        const char *at = strstr(s, keys[k]);
        if (!at || at >= end) continue;
        at += strlen(keys[k]);
        for (int i = 0; i < WIDTH; i++) {
            char *stop;
            out[i] = strtof(at, &stop);
            if (stop == at || *stop != ',') return i + 1;
            at = stop + 1;
        }
    }
    return 0;
}

// Two lines of _bulk.
static void keep(const char *action, const char *id) {
    const char *line = strchr(action, '\n') + 1, *end = strchr(line, '\n');
    int i = 0;
    while (i < n_docs && strcmp(docs[i].id, id)) i++;
    if (i == DOCS) return;
    if (i == n_docs) n_docs++;
    docs[i] = (doc){ .id = strdup(id), .title = text_of(line, end, "\"title\": \""),
                     .text = text_of(line, end, "\"text\": \""),
                     .terms = text_of(line, end, "\"terms\": \""),
                     .ord = strtol(strstr(line, "\"ord\": ") + 7, NULL, 10) };
    (void)vector_of(line, end, docs[i].vector);
}

// How often a term stands in a text of terms; all: how many terms there are.
static int count(const char *text, const char *term, size_t bytes, int *all) {
    int n = 0;
    *all = 0;
    for (size_t k; *text; text += k + (text[k] == ' ')) {
        k = strcspn(text, " ");
        *all += 1;
        n += k == bytes && !memcmp(text, term, k);
    }
    return n;
}

// A length as Lucene's index keeps it: above 24, four bits of what is more.
static double kept_length(int n) {
    int more = n - 24, shift = 0;
    if (n < 24) return n;
    while (more >> shift > 15) shift++;
    return 24 + (more >> shift << shift);
}

static void score_words(const char *terms) {
    double total = 0;
    int all;
    for (int i = 0; i < n_docs; i++) {
        docs[i].score = 0;
        (void)count(docs[i].terms, "", 0, &all);
        total += all;
    }
    for (size_t k; *terms; terms += k + (terms[k] == ' ')) {
        double with = 0;
        k = strcspn(terms, " ");
        for (int i = 0; i < n_docs; i++) with += count(docs[i].terms, terms, k, &all) > 0;
        for (int i = 0; i < n_docs; i++) {
            double n = count(docs[i].terms, terms, k, &all);
            double idf = log(1 + (n_docs - with + 0.5) / (with + 0.5));
            double length = kept_length(all) * n_docs / total;
            docs[i].score += 2.2 * idf * n / (n + 1.2 * (0.25 + 0.75 * length));
        }
    }
}

static void score_vectors(const float *v) {
    for (int i = 0; i < n_docs; i++) {
        double d = 0;
        for (int k = 0; k < WIDTH; k++) d += (double)v[k] * (double)docs[i].vector[k];
        docs[i].score = d < 0 ? 1 / (1 - d) : d + 1;
    }
}

static int by_score(const void *a, const void *b) {
    const doc *x = a, *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    return (x->ord > y->ord) - (x->ord < y->ord);
}

// Whether vectors are asked for as this version has it.
static int asks_well(const char *line, const char *end) {
    static const char *const es7[] = { "\"script_score\"",
                                       "dotProduct(params.query_value, 'vector')" };
    static const char *const es8[] = { "\"knn\": {\"field\": \"vector\"", "\"num_candidates\": " };
    static const char *const os2[] = { "\"knn\": {\"vector\": {\"k\": ", "\"vector\": [" };
    static const char *const exact[] = { "\"knn_score\", \"lang\": \"knn\"", "\"innerproduct\"" };
    const char *const *const kinds[] = { es7, es8, os2, exact };
    for (int k = 0; k < 4; k++) {
        const char *x = strstr(line, kinds[k][0]), *y = strstr(line, kinds[k][1]);
        if (!x || !y || x >= end || y >= end) continue;
        return k == 0 ? !is("os2") : k == 1 ? is("es8") : is("os2");
    }
    return strstr(line, "\"id\": \"mine\"") != NULL;          // the template is free
}

static void add(const char *text);

// One query's line of _msearch.
static void answer_query(const char *line, const char *end) {
    const char *size = strstr(line, "\"size\": "), *k = strstr(line, "\"k\": ");
    long most = strtol(size && size < end ? size + 8 : k + 5, NULL, 10);
    const char *source = strstr(line, "\"_source\": false");
    float vector[WIDTH] = { 0 };
    int by_vectors = vector_of(line, end, vector), n = 0;
    if (by_vectors && !asks_well(line, end)) {
        add("{\"status\": 400, \"error\": {\"type\": \"parsing_exception\", \"reason\": \"x\"}}");
        return;
    }
    char *terms = text_of(line, end, "\"terms\": \"");
    if (by_vectors) score_vectors(vector);
    else score_words(terms);
    free(terms);
    qsort(docs, (size_t)n_docs, sizeof *docs, by_score);
    add("{\"hits\": {\"hits\": [");
    for (int i = 0; i < n_docs && n < most && docs[i].score > 0; i++) {
        char start[300], sort[100];
        snprintf(start, sizeof start, "%s{\"_id\": \"%.200s\", ", n++ ? ", " : "", docs[i].id);
        add(start);
        if (!source || source > end) {
            add("\"_source\": {\"title\": \"");
            add(docs[i].title);
            add("\", \"text\": \"");
            add(docs[i].text);
            add("\"}, ");
        }
        snprintf(sort, sizeof sort, "\"sort\": [%.17g, %ld]}", docs[i].score, docs[i].ord);
        add(sort);
    }
    add("]}}");
}

// The numbers behind one, in order.
static int answer_numbers(void) {
    const char *gt = strstr(request, "\"gt\": ");
    long last = gt ? strtol(gt + 6, NULL, 10) : -1;
    int n = 0;
    for (int i = 0; i < n_docs; i++) docs[i].score = 0;
    qsort(docs, (size_t)n_docs, sizeof *docs, by_score);
    add("{\"hits\": {\"hits\": [");
    for (int i = 0; i < n_docs; i++) {
        char hit[300];
        if (docs[i].ord <= last) continue;
        snprintf(hit, sizeof hit, "%s{\"_id\": \"%.200s\", \"sort\": [%ld]}", n++ ? ", " : "",
                 docs[i].id, docs[i].ord);
        add(hit);
    }
    add("]}}");
    return 200;
}

// A new index: its _meta, and whether its vectors are mapped as this version has it.
static int create(void) {
    const char *at = strstr(request, "\"_meta\": {\"mrc\": "), *end = at ? strchr(at, '}') : NULL;
    const char *want = is("os2") ? "\"knn_vector\", \"dimension\": "
                     : "\"dense_vector\", \"dims\": ";
    if (!end) return 400;
    snprintf(meta, sizeof meta, "%.*s", (int)(end + 1 - at - 17), at + 17);
    if (strstr(request, "\"vector\": {") && !strstr(request, want)) return 400;
    if (is("es7") && strstr(request, "\"index_options\"")) return 400;
    return 200;
}

//==============================================================================
// HTTP
//==============================================================================
// The whole request: head and body.
static size_t receive(int fd) {
    size_t n = 0, want = sizeof request - 1;
    while (n < want) {
        ssize_t got = read(fd, request + n, want - n);
        if (got <= 0) break;
        n += (size_t)got;
        request[n] = 0;
        char *end = strstr(request, "\r\n\r\n"), *length = strstr(request, "Content-Length: ");
        if (end) {
            want = (size_t)(end + 4 - request) + (length ? strtoul(length + 16, NULL, 10) : 0);
        }
        if (want > sizeof request - 1) want = sizeof request - 1;
    }
    return n;
}

static void add(const char *text) {
    static size_t n;
    n = answer[0] ? n : 0;
    n += (size_t)snprintf(answer + n, sizeof answer - n, "%s", text);
    if (n >= sizeof answer) n = sizeof answer - 1;
}

// An item for each action, as _bulk has them.
static int bulk(void) {
    const char *at = strstr(request, "\r\n\r\n");
    int n = 0;
    bulks++;
    if (is("413") && bulks == 1) return 413;
    add("{\"items\": [");
    while (at && (at = strstr(at, "{\"create\": {\"_id\": \"")) != NULL) {
        char item[300], id[100];
        at += 20;
        snprintf(id, sizeof id, "%.*s", (int)strcspn(at, "\""), at);
        int status = is("items_400") && n == 1 ? 400 : is("items_429") && bulks < 3 && n % 2 ? 429
                   : is("items_storm") ? 429 : is("items_409") && n == 1 ? 409 : 201;
        if (is("items_short") && n == 1) break;
        snprintf(item, sizeof item, "%s{\"create\": {\"_id\": \"%s\", \"status\": %d%s}}",
                 n ? ", " : "", is("items_other") ? "z" : id, status,
                 status == 400 ? ", \"error\": {\"type\": "
                 "\"mapper_parsing_exception\", \"reason\": \"bad\\u0007field\"}" : "");
        add(item);
        if (status == 201 && is_small()) keep(at, id);
        accepted += status == 201 || status == 409;
        n++;
    }
    add("]}");
    return 200;
}

static int search(void) {
    const char *at = strstr(request, "\r\n\r\n"), *end;
    int n = 0;
    add("{\"responses\": [");
    at = at ? strchr(at + 4, '\n') : NULL;          // of each two lines the second
    for (; at && (end = strchr(++at, '\n')) != NULL; at = strchr(end + 1, '\n')) {
        if (n++) add(", ");
        if (is_small()) {
            answer_query(at, end);
            continue;
        }
        add(is("late") ? "{\"timed_out\": true, \"hits\": {\"hits\": []}}"
            : is("shards") ? "{\"_shards\": {\"failed\": 1}, \"hits\": {\"hits\": []}}"
            : is("clauses") ? "{\"status\": 400, \"error\": {\"type\": \"too_many_clauses\", "
                              "\"reason\": \"maxClauseCount is set to 1024\"}}"
            : is("no_score") ? "{\"hits\": {\"hits\": [{\"_id\": \"a\", \"sort\": [null, 0]}]}}"
            : is("no_text") ? "{\"hits\": {\"hits\": [{\"_id\": \"a\", \"sort\": [1.5, 0]}]}}"
            : "{\"hits\": {\"hits\": [{\"_id\": \"a\", \"_source\": {\"title\": \"T\", \"text\": "
              "\"Anna lives in Oslo.\"}, \"sort\": [1.5, 0]}]}}");
    }
    add("]}");
    return 200;
}

// The status of the answer to this request, whose body is in `answer`.
static int handle(const char *path) {
    char text[64];
    if (is("401")) return 401;
    if (is("429")) return 429;
    if (is("html")) {
        add("<html>hello</html>");
        return 200;
    }
    if (is("redirect")) return 302;
    if (strstr(path, "_bulk")) return bulk();
    if (strstr(path, "_msearch")) return is("500") ? 500 : search();
    if (strstr(path, "_search") && is_small()) return answer_numbers();
    if (!strncmp(path, "/ ", 2) && is("uuid")) {
        snprintf(answer, sizeof answer, "{\"cluster_uuid\": \"u%d\", \"version\": {\"number\": "
                 "\"7.0.0\"}}", port);
        return 200;
    }
    if (!strncmp(path, "/ ", 2)) {
        add(is("opensearch") ? "{\"version\": {\"distribution\": \"opensearch\", \"number\": "
                               "\"2.1.0\"}}"
            : is("old") ? "{\"version\": {\"number\": \"6.8.0\"}}"
            : is("other") ? "{\"hello\": 1}"
            : is("os2") ? "{\"version\": {\"distribution\": \"opensearch\", \"number\": "
                          "\"2.11.0\"}}"
            : is("es7") ? "{\"version\": {\"number\": \"7.17.0\"}}"
            : is("es8") ? "{\"version\": {\"number\": \"8.11.0\"}}"
            : "{\"version\": {\"number\": \"7.0.0\"}}");
        return 200;
    }
    if (strstr(path, "_alias/") || (is("missing") && strstr(path, "_mapping"))) {
        add("{}");
        return 404;
    }
    if (strstr(path, "_mapping")) {
        add(is("stranger") ? "{\"k\": {\"mappings\": {}}}" : "{\"k\": {\"mappings\": {\"_meta\": {"
            "\"mrc\": ");
        if (is("stranger")) return 200;
        add(meta);
        add("}}}}");
        return 200;
    }
    if (is("no_nori") && !strncmp(request, "PUT", 3)) {
        add("{\"error\": {\"type\": \"illegal_argument_exception\", \"reason\": \"failed to find "
            "tokenizer under name [nori_tokenizer]\"}}");
        return 400;
    }
    if (is_small() && !strncmp(request, "PUT", 3) && !strstr(path, "_settings")) {
        add("{}");
        return create();
    }
    if (is("mapping") && !strncmp(request, "PUT", 3)) {
        add("{\"error\": {\"type\": \"mapper_parsing_exception\", \"reason\": \"no analyzer\"}}");
        return 400;
    }
    snprintf(text, sizeof text, "{\"count\": %d}", is_small() ? n_docs : accepted + is("count"));
    add(strstr(path, "_count") ? text : "{}");
    return 200;
}

static void serve(int fd) {
    char head[200];
    if (!receive(fd)) return;
    char *path = strchr(request, ' ');
    answer[0] = 0;
    int status = path ? handle(path + 1) : 400;
    size_t n = strlen(answer), more = is("cut") ? 100 : 0;
    if (is("long")) more = (size_t)80 << 20;
    snprintf(head, sizeof head, "HTTP/1.1 %d X\r\n%sContent-Length: %zu\r\n"
             "Connection: close\r\n\r\n", status,
             status == 302 ? "Location: http://127.0.0.2:1/\r\n" : "", n + more);
    if (write(fd, head, strlen(head)) < 0 || write(fd, answer, n) < 0) return;
    if (is("long")) memset(answer, ' ', sizeof answer);
    for (size_t sent = 0; is("long") && sent < more; sent += sizeof answer) {
        if (write(fd, answer, sizeof answer) < 0) return;
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t bytes = sizeof at;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (argc < 3 || s < 0) return 2;
    mode = argv[2];
    signal(SIGPIPE, SIG_IGN);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (argc > 3) at.sin_port = htons((unsigned short)atoi(argv[3]));
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
    if (bind(s, (struct sockaddr *)&at, sizeof at) || listen(s, 16)
        || getsockname(s, (struct sockaddr *)&at, &bytes)) return 3;
    FILE *f = fopen(argv[1], "w");
    port = ntohs(at.sin_port);
    if (!f || fprintf(f, "%d\n", port) < 0 || fclose(f)) return 4;
    for (;;) {
        int fd = accept(s, NULL, NULL);
        if (fd < 0) continue;
        serve(fd);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
}
