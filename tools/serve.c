// serve: answers questions over HTTP, and shows a page to ask them on.
//
// libmicrohttpd's thread reads requests, checks them and puts them into a queue; its connections
// sleep meanwhile.  The main thread takes what waits, from all connections together, reads it in
// one pass of the model, writes the answers and wakes the connections.  Each thread has a context
// of its own; what they share is under one lock.  A search cluster is the main thread's: where it
// does not answer, questions that need it get 502 or 504, and the service goes on.
#include "answers.h"
#include "engine_search.h"
#include "page.h"                       // page_html: tools/page.html, by build.sh
#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <strings.h>
#include <sys/socket.h>
#ifdef __linux__
#include <linux/tcp.h>                  // how much of a request has come
#endif

typedef struct serve_args {
    const char *model, *index, *host;
    int         method, version_2_with_negative, log;
    size_t      port, top_k, n_best_size, max_answer_length, max_seq_length, doc_stride, batch_size;
    size_t      max_body, max_question, max_context, max_batch, max_queue, max_connections, timeout;
    double      retrieval_weight, null_score_diff_threshold, temperature;
    tool_precision precision;
} serve_args;
enum { LOG_REQUESTS, LOG_ERRORS };

// One of a request's; its texts are the body's.
typedef struct question {
    const mrc_json *id, *text, *context;    // id, context: may be NULL
    size_t          top_k, n_best, reads;   // reads: passages
    int             scores;
} question;

// A TCP connection.
typedef struct peer {
    struct peer *next, **link;
    int          fd, waits, told;       // waits: for the reader, not for the other side
    int          ended;                 // for so many looks the other side has had its last word
    double       since;                 // when it was last its turn
    uint64_t     sent, received;        // bytes at that time
} peer;

typedef enum route { ROUTE_NONE, ROUTE_PAGE, ROUTE_HEALTH, ROUTE_METRICS, ROUTE_ANSWER, ROUTES }
    route;
static const char *const route_names[ROUTES] = { "other", "/", "/healthz", "/metrics",
                                                 "/v1/answer" };

// From the request line to the last byte of the response.
typedef struct request {
    struct request *next;               // in the queue
    struct MHD_Connection *connection;
    peer           *from;
    route           route;
    int             begun, answered, closes, late, status;    // late: the service was ending
    double          at;                 // when it came
    size_t          received;           // bytes of the body
    char            raw_path[128];      // as it was written, before the query
    char            method[16];
    mrc_text        body, reply;
    mrc_json       *root;
    question       *questions;
    size_t          n, reads;
    int             is_array;
} request;

static const int      counted_codes[] = { 200, 400, 404, 405, 408, 411, 413, 415, 421, 429, 500,
                                          502, 503, 504 };
static const double   seconds_buckets[] = { .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5,
                                            5, 10 };
static const double   batch_buckets[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024 };
enum { CODES = sizeof counted_codes / sizeof *counted_codes, BUCKETS = 13 };
typedef struct histogram { uint64_t counts[BUCKETS + 1]; double sum; } histogram;

static struct service {
    serve_args    a;
    mrc_ctx      *ctx, *http_ctx;       // of the main thread; of libmicrohttpd's
    mrc_backend  *be;
    mrc_reader   *reader;
    retrieval     stages;
    retrieval_options o;                // of --index
    cluster       cluster;              // of --engine
    struct MHD_Daemon *http;
    int           is_loopback;
    // Of the main thread: one pass over at most max_batch passages.
    mrc_example  *passages;
    mrc_text     *rooms;
    mrc_hit      *hits;
    stage_hit    *found;                // the same with what each stage said
    mrc_reply    *replies;
    candidate    *list;
    // Under the lock:
    pthread_mutex_t lock;
    pthread_cond_t  wake;
    request      *first, **last;
    size_t        waiting, active, connections;     // passages, requests, connections
    int           draining;
    int           cluster_away, cluster_asked;  // asked: its health was, since it was looked at
    double        cluster_seen;                 // when it was last asked something
    peer         *peers;
    uint64_t      requests[ROUTES][CODES], questions, cut;
    histogram     seconds, batches;
    double        reading;              // seconds in the model
} s = { .a = { .doc_stride = SIZE_MAX } };

static void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void log_line(const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&s.lock);
    tool_note("%s", text);
    pthread_mutex_unlock(&s.lock);
}

static void histogram_add(histogram *h, const double *buckets, size_t n, double x) {
    size_t i = 0;
    while (i < n && x > buckets[i]) i++;
    h->counts[i]++;
    h->sum += x;
}

//==============================================================================
// Refusals: a JSON object that names what was wrong
//==============================================================================
__attribute__((format(printf, 4, 0)))
static void write_error(mrc_text *t, int status, const char *field, const char *fmt, va_list ap) {
    char message[1024];
    vsnprintf(message, sizeof message, fmt, ap);
    for (size_t n = strlen(message); mrc_utf8_valid(message, n) != n;) message[--n] = 0;
    t->bytes = 0;
    mrc_text_printf(t, "{\"error\": {");
    tool_json_integer(t, "code", status);
    tool_json_string(t, "field", field);
    tool_json_key(t, "message");
    char *line = message;
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < 0x20) *c = ' ';
    }
    mrc_text_json_string(t, line, strlen(line), 0);
    mrc_text_add(t, "}}\n", 3);
}

// The first refusal stands.  Returns 0.
__attribute__((format(printf, 4, 5)))
static int refuse(request *q, int status, const char *field, const char *fmt, ...) {
    va_list ap;
    if (q->status) return 0;
    va_start(ap, fmt);
    write_error(&q->reply, status, field, fmt, ap);
    va_end(ap);
    q->status = status;
    return 0;
}

// Bytes that went out on a connection and came in, those still in its buffers too; 0 where the
// system does not say.  Returns whether the other side will send no more.
static int peer_bytes(const peer *p, uint64_t *sent, uint64_t *received) {
    *sent = *received = 0;
#ifdef __linux__
    enum { CLOSE_WAIT = 8 };            // of another header that does not go with this one
    struct tcp_info info;
    socklen_t bytes = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(p->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return 0;
    *sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
    *received = info.tcpi_bytes_received;
    return info.tcpi_state == CLOSE_WAIT;
#else
    (void)p;
    return 0;
#endif
}

// It is the other side's turn from now on.
static void peer_turn(peer *p) {
    p->waits = 0;
    p->since = tool_seconds();
    (void)peer_bytes(p, &p->sent, &p->received);
}

#define ENDS_EARLY "the request ends in its middle (found its beginning, expected a whole one)"
// Half a request came, and no more will: the library closes such a connection without a word.
// ended: the other side's end of sending counts as a byte.  Under the lock.
__attribute__((format(printf, 4, 5)))
static void peer_refuse(peer *p, int ended, int status, const char *fmt, ...) {
    uint64_t sent, received;
    char head[256], rest[4096];
    va_list ap;
    mrc_text t;
    (void)peer_bytes(p, &sent, &received);
    if (p->told || p->waits || sent != p->sent || received <= p->received + (uint64_t)ended) return;
    p->told = 1;
    s.cut++;
    mrc_text_init(&t, s.http_ctx);
    va_start(ap, fmt);
    write_error(&t, status, "request", fmt, ap);
    va_end(ap);
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n", status,
                     status == 408 ? "Request Timeout" : "Bad Request", t.bytes);
    if (!t.failed && send(p->fd, head, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n) {
        // Where that cannot be sent at once nobody is there to read it.
        if (send(p->fd, t.data, t.bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) errno = 0;
    }
    shutdown(p->fd, SHUT_WR);
    for (int i = 0; i < 64 && recv(p->fd, rest, sizeof rest, MSG_DONTWAIT) > 0;) i++;
    mrc_text_free(&t);
}

//==============================================================================
// A request's JSON, field by field
//==============================================================================
enum { FIELD_ID, FIELD_QUESTION, FIELD_CONTEXT, FIELD_TOP_K, FIELD_N_BEST, FIELD_SCORES, FIELDS };
static const char *const field_names[FIELDS] = { "id", "question", "context", "top_k", "n_best",
                                                 "scores" };
#define FIELD_LIST "id, question, context, top_k, n_best or scores"

// What stands there, for messages.
static const char *found(const mrc_json *v, char out[64]) {
    static const char *const words[] = { "null", "false", "true", "a number", "text", "an array",
                                         "an object" };
    if (v->type != MRC_JSON_NUMBER) return words[v->type];
    if (v->is_int) snprintf(out, 64, "%lld", (long long)v->integer);
    else snprintf(out, 64, "%.17g", v->number);
    return out;
}

// "question", or "[3].question" in an array.
static const char *field_name(const request *q, size_t index, const char *name, char out[64]) {
    if (!q->is_array) return name;
    snprintf(out, 64, *name ? "[%zu].%.40s" : "[%zu]", index, name);
    return out;
}

static int read_text(request *q, const char *field, const mrc_json *v, size_t most) {
    char room[64];
    if (v->type != MRC_JSON_STRING) {
        return refuse(q, 400, field, "%s is not text (found %s, expected text)", field,
                      found(v, room));
    }
    size_t n = mrc_utf8_length(v->string, v->bytes);
    if (n > most) {
        return refuse(q, 413, field, "%s is too long (found %zu characters, expected at most %zu)",
                      field, n, most);
    }
    for (size_t i = 0; i < v->bytes; i++) {
        if (v->string[i] && !strchr(" \t\r\n", v->string[i])) return 1;
    }
    return refuse(q, 400, field, "%s is blank (found %zu characters of space, expected text)",
                  field, n);
}

static int read_size(request *q, const char *field, const mrc_json *v, size_t most, size_t *out) {
    char room[64];
    if (v->type != MRC_JSON_NUMBER || !v->is_int || v->integer < 1
        || (uint64_t)v->integer > most) {
        return refuse(q, 400, field, "%s is out of range (found %s, expected an integer from 1 to "
                      "%zu)", field, found(v, room), most);
    }
    *out = (size_t)v->integer;
    return 1;
}

static int read_field(request *q, const char *field, int which, const mrc_json *v, question *out) {
    char room[64];
    switch (which) {
    case FIELD_ID:
        out->id = v;
        return read_text(q, field, v, 256);
    case FIELD_QUESTION:
        out->text = v;
        return read_text(q, field, v, s.a.max_question);
    case FIELD_CONTEXT:
        out->context = v;
        return read_text(q, field, v, s.a.max_context);
    case FIELD_TOP_K:
        if (s.o.index) return read_size(q, field, v, s.a.max_batch, &out->top_k);
        return refuse(q, 400, field, "%s: there is no index to look passages up in (found %s, "
                      "expected a context)", field, found(v, room));
    case FIELD_N_BEST:
        return read_size(q, field, v, s.a.n_best_size, &out->n_best);
    default:
        out->scores = v->type == MRC_JSON_TRUE;
        if (v->type == MRC_JSON_TRUE || v->type == MRC_JSON_FALSE) return 1;
        return refuse(q, 400, field, "%s is neither true nor false (found %s, expected one of "
                      "them)", field, found(v, room));
    }
}

static int read_question(request *q, size_t index, const mrc_json *v, question *out) {
    char name[64], room[64];
    unsigned seen = 0;
    *out = (question){ .n_best = s.a.n_best_size < 5 ? s.a.n_best_size : 5 };
    if (v->type != MRC_JSON_OBJECT) {
        const char *field = field_name(q, index, q->is_array ? "" : "body", name);
        return refuse(q, 400, field, "%s is no question (found %s, expected an object)", field,
                      found(v, room));
    }
    for (const mrc_json *m = v->child; m; m = m->next) {
        int which = 0;
        while (which < FIELDS && (strlen(field_names[which]) != m->key_bytes
                                  || memcmp(field_names[which], m->key, m->key_bytes))) which++;
        const char *field = field_name(q, index, which < FIELDS ? field_names[which] : m->key,
                                       name);
        if (which == FIELDS) {
            return refuse(q, 400, field, "unknown field (found %s, expected " FIELD_LIST ")",
                          field);
        }
        if (seen >> which & 1) {
            return refuse(q, 400, field, "%s stands twice (found two, expected one)", field);
        }
        seen |= 1u << which;
        if (!read_field(q, field, which, m, out)) return 0;
    }
    const char *missing = !out->text ? "question"
                        : !out->context && !s.o.index ? "context" : NULL;
    if (missing) {
        const char *field = field_name(q, index, missing, name);
        return refuse(q, 400, field, "%s is missing (found nothing, expected text)", field);
    }
    if (out->context && out->top_k) {
        const char *field = field_name(q, index, "top_k", name);
        return refuse(q, 400, field, "%s counts passages to look up (found it beside context, "
                      "expected one of them)", field);
    }
    if (!out->top_k) out->top_k = s.a.top_k;
    out->reads = out->context ? 1 : out->top_k;
    return 1;
}

// The body into questions; 0 with a refusal.
static int read_body(request *q) {
    char room[64];
    if (q->body.failed) return refuse(q, 503, "body", "no memory for the body");
    mrc_status status = mrc_json_parse(s.http_ctx, &q->root, "body",
                                       q->body.data ? q->body.data : "", q->body.bytes, 8);
    if (status != MRC_OK) {
        refuse(q, status == MRC_ERR_MEM ? 503 : 400, "body", "%s", mrc_ctx_message(s.http_ctx));
        mrc_ctx_clear_error(s.http_ctx);
        return 0;
    }
    q->is_array = q->root->type == MRC_JSON_ARRAY;
    q->n = q->is_array ? q->root->n : 1;
    if (q->is_array && !q->n) {
        return refuse(q, 400, "body", "body asks nothing (found an empty array, expected at least "
                      "1 question)");
    }
    if (!q->is_array && q->root->type != MRC_JSON_OBJECT) {
        return refuse(q, 400, "body", "body is no question (found %s, expected an object or an "
                      "array of them)", found(q->root, room));
    }
    if (q->n > s.a.max_batch) {
        return refuse(q, 413, "body", "too many questions in one request (found %zu, expected at "
                      "most %zu)", q->n, s.a.max_batch);
    }
    q->questions = calloc(q->n, sizeof *q->questions);
    if (!q->questions) return refuse(q, 503, "body", "no memory for %zu questions", q->n);
    const mrc_json *v = q->is_array ? q->root->child : q->root;
    for (size_t i = 0; i < q->n; i++, v = v->next) {
        if (!read_question(q, i, v, &q->questions[i])) return 0;
        q->reads += q->questions[i].reads;
    }
    if (q->reads <= s.a.max_batch) return 1;
    return refuse(q, 413, "top_k", "too many passages for one request (found %zu in all, expected "
                  "at most %zu)", q->reads, s.a.max_batch);
}

//==============================================================================
// Answers as JSON
//==============================================================================
// One entry of the n-best list.
typedef struct entry {
    const mrc_span    *span;
    const mrc_example *x;
    size_t             place;           // of its passage
    double             score, probability;
} entry;

static void json_real(mrc_text *t, const char *key, double x) {
    tool_json_key(t, key);
    if (isfinite(x)) mrc_text_number(t, x);
    else mrc_text_add(t, "null", 4);
}

static void json_null(mrc_text *t, const char *key) {
    tool_json_key(t, key);
    mrc_text_add(t, "null", 4);
}

// start and end count code points, start_bytes and end_bytes bytes of the passage.
static void add_entry(mrc_text *t, const entry *e, const char *text_key) {
    static const char *const keys[] = { "start", "end", "start_bytes", "end_bytes" };
    size_t bytes = 0;
    mrc_span shown = e->span ? mrc_span_trimmed(e->span, e->x) : (mrc_span){ 0 };
    const char *text = e->span ? mrc_span_text(&shown, e->x, NULL, &bytes) : "";
    tool_json_key(t, text_key);
    mrc_text_json_string(t, text, bytes, 0);
    if (e->span && e->span->kind == MRC_SPAN_TEXT) {
        int64_t begin = text - e->x->context;
        int64_t values[] = { shown.begin, shown.end, begin, begin + (int64_t)bytes };
        for (int i = 0; i < 4; i++) tool_json_integer(t, keys[i], values[i]);
    } else {
        for (int i = 0; i < 4; i++) json_null(t, keys[i]);
    }
    if (e->span) {
        if (s.o.index && e->x->id) tool_json_integer(t, "passage", (int64_t)e->place);
        json_real(t, "start_logit", (double)e->span->start_logit);
        json_real(t, "end_logit", (double)e->span->end_logit);
        json_real(t, "score", e->score);
        json_real(t, "probability", e->probability);
    } else {
        json_null(t, "score");
        json_null(t, "probability");
    }
}

// The passage's words in a window: p has the probabilities of n starts, then of n ends.
static void add_words(mrc_text *t, const mrc_feature *f, const double *p, const mrc_example *x) {
    size_t n = (size_t)f->length, from = 0, at = 0;     // the same place, in bytes and code points
    mrc_text_add(t, "[", 1);
    for (size_t i = 0, next, first = 1; i < n; i = next) {
        double start = 0, end = 0;
        for (next = i; next < n && f->word_ids[next] == f->word_ids[i]; next++) {
            start += p[next];
            end += p[n + next];
        }
        if (f->offset_mapping[i][0] < 0) continue;
        size_t begin = (size_t)f->offset_mapping[i][0];
        size_t stop = (size_t)f->offset_mapping[next - 1][1];
        from += mrc_utf8_offset(x->context + from, x->context_bytes - from, begin - at);
        at = begin;
        size_t bytes = mrc_utf8_offset(x->context + from, x->context_bytes - from, stop - begin);
        mrc_text_printf(t, first ? "{" : ", {");
        tool_json_key(t, "text");
        mrc_text_json_string(t, x->context + from, bytes, 0);
        tool_json_integer(t, "start", (int64_t)begin);
        tool_json_integer(t, "end", (int64_t)stop);
        json_real(t, "start_probability", start);
        json_real(t, "end_probability", end);
        mrc_text_add(t, "}", 1);
        first = 0;
    }
    mrc_text_add(t, "]", 1);
}

// Probabilities of start and end over the words of the window that a span is in.
static void add_scores(mrc_text *t, const entry *e, const mrc_reply *reply) {
    tool_json_key(t, "scores");
    const size_t w = e->span ? window_of(reply->windows, reply->n_windows, e->span) : 0;
    const mrc_window_logits *window = &reply->windows[w];
    size_t n = reply->n_windows ? (size_t)window->feature->length : 0;
    double *p = n ? malloc(2 * n * sizeof *p) : NULL;
    if (n && !p) t->failed = 1;
    if (!p) {
        mrc_text_add(t, "null", 4);
        return;
    }
    window_softmax(window->start, n, p);
    window_softmax(window->end, n, p + n);
    mrc_text_add(t, "{", 1);
    tool_json_integer(t, "window", (int64_t)w);
    tool_json_integer(t, "windows", (int64_t)reply->n_windows);
    json_real(t, "no_answer_start", p[0]);
    json_real(t, "no_answer_end", p[n]);
    tool_json_key(t, "words");
    add_words(t, window->feature, p, e->x);
    mrc_text_add(t, "}", 1);
    free(p);
}

static void add_passages(mrc_text *t, size_t first, size_t n) {
    tool_json_key(t, "passages");
    mrc_text_add(t, "[", 1);
    for (size_t i = first; i < first + n; i++) {
        const mrc_example *x = &s.passages[i];
        mrc_text_printf(t, i > first ? ", {" : "{");
        tool_json_string(t, "id", x->id);
        tool_json_string(t, "title", x->title);
        tool_json_key(t, "text");
        mrc_text_json_string(t, x->context, x->context_bytes, 0);
        json_real(t, "retrieval_score", s.hits[i].score);
        if (!stages_are_words(&s.o)) retrieval_json(t, &s.found[i]);
        mrc_text_add(t, "}", 1);
    }
    mrc_text_add(t, "]", 1);
}

// The n_best entries of a question, whose n passages are those from `first` on; one more is the
// answer, at the end.  How many there are beside that.
static size_t find_entries(const question *k, size_t first, size_t n, entry *out, entry *answer) {
    size_t count = 0;
    if (k->context) {
        const mrc_reply *reply = &s.replies[first];
        const mrc_example *x = &s.passages[first];
        *answer = (entry){ reply->answer, x, 0, 0, 0 };
        for (; count < k->n_best && count < reply->n_spans; count++) {
            out[count] = (entry){ &reply->spans[count], x, 0, 0, 0 };
        }
        for (size_t i = count; i < reply->n_spans; i++) {       // "no answer" is always told
            if (reply->spans[i].kind != MRC_SPAN_NULL) continue;
            out[count++] = (entry){ &reply->spans[i], x, 0, 0, 0 };
        }
        for (size_t i = 0; i <= count; i++) {
            entry *e = i < count ? &out[i] : answer;
            e->score = (double)(e->span->start_logit + e->span->end_logit);
            e->probability = e->span->probability;
        }
        return count;
    }
    size_t all = candidates_find(s.list, s.passages + first, s.replies + first, s.hits + first, n,
                                 s.a.retrieval_weight, s.a.temperature);
    for (; count < k->n_best && count < all; count++) {
        const candidate *c = &s.list[count];
        out[count] = (entry){ c->span, c->passage, c->place, c->score, c->confidence };
    }
    *answer = count ? out[0] : (entry){ .x = n ? &s.passages[first] : NULL };
    return count;
}

static void add_answer(mrc_text *t, const question *k, size_t first, size_t n, entry *room) {
    entry answer;
    size_t count = find_entries(k, first, n, room, &answer);
    mrc_text_add(t, "{", 1);
    if (k->id) {
        tool_json_key(t, "id");
        mrc_text_json_string(t, k->id->string, k->id->bytes, 0);
    }
    add_entry(t, &answer, "answer");
    if (k->context && s.a.version_2_with_negative) {
        json_real(t, "null_score_diff", s.replies[first].null_score_diff);
    }
    tool_json_key(t, "n_best");
    mrc_text_add(t, "[", 1);
    for (size_t i = 0; i < count; i++) {
        mrc_text_printf(t, i ? ", {" : "{");
        add_entry(t, &room[i], "text");
        mrc_text_add(t, "}", 1);
    }
    mrc_text_add(t, "]", 1);
    if (!k->context) add_passages(t, first, n);
    if (k->scores && n) add_scores(t, &answer, &s.replies[first + answer.place]);
    mrc_text_add(t, "}", 1);
}

//==============================================================================
// The reader's side: passes over what waits
//==============================================================================
// The passages to read for a question, from `first` on: how many, or -1 with the context's error.
static ptrdiff_t find_passages(const question *k, size_t first) {
    const mrc_passage query = { "", "", k->text->string, k->text->bytes };
    size_t n = 1;
    s.passages[first] = (mrc_example){ .context = "" };
    if (k->context) {
        s.passages[first].context = k->context->string;
        s.passages[first].context_bytes = k->context->bytes;
    } else if (retrieval_run(&s.stages, &query, 1, k->top_k, s.found + first, &n) != MRC_OK) {
        return -1;
    }
    for (size_t i = first; i < first + n && !k->context; i++) {
        s.hits[i] = (mrc_hit){ s.found[i].passage, s.found[i].score };
        if (retrieval_example(&s.stages, s.hits[i].passage, &s.rooms[i], &s.passages[i])
            != MRC_OK) return -1;
    }
    for (size_t i = first; i < first + n; i++) {
        s.passages[i].question = query.text;
        s.passages[i].question_bytes = query.text_bytes;
    }
    return (ptrdiff_t)n;
}

// Answers a list of requests in one pass of the model.  0: that failed, and none is answered.
static int read_pass(request *list) {
    size_t n = 0, at = 0;
    cluster_begin(&s.cluster);
    entry *room = malloc((s.a.n_best_size + 1) * sizeof *room);
    int ok = room != NULL;
    for (request *q = list; q && ok; q = q->next) {
        for (size_t i = 0; i < q->n && ok; i++) {
            ptrdiff_t reads = find_passages(&q->questions[i], n);
            ok = reads >= 0;
            if (ok) n += q->questions[i].reads = (size_t)reads;
        }
    }
    double begun = tool_seconds();
    ok = ok && mrc_reader_answer(s.reader, s.passages, n, s.replies) == MRC_OK;
    double seconds = tool_seconds() - begun;
    for (request *q = list; q && ok; q = q->next) {
        mrc_text *t = &q->reply;
        if (q->is_array) mrc_text_add(t, "[", 1);
        for (size_t i = 0; i < q->n; i++) {
            if (i) mrc_text_add(t, ",\n ", 3);
            add_answer(t, &q->questions[i], at, q->questions[i].reads, room);
            at += q->questions[i].reads;
        }
        mrc_text_add(t, q->is_array ? "]\n" : "\n", q->is_array ? 2 : 1);
        if (q->reply.failed) refuse(q, 503, "body", "no memory for the answers");
        else q->status = 200;
    }
    free(room);
    pthread_mutex_lock(&s.lock);
    histogram_add(&s.batches, batch_buckets, sizeof batch_buckets / sizeof *batch_buckets,
                  (double)n);
    s.reading += seconds;
    pthread_mutex_unlock(&s.lock);
    return ok;
}

// What waits, as much as one pass takes; NULL: nothing.  Under the lock.
static request *take_requests(void) {
    request *list = s.first, **end = &s.first;
    size_t reads = 0;
    while (*end && (reads == 0 || reads + (*end)->reads <= s.a.max_batch)) {
        reads += (*end)->reads;
        end = &(*end)->next;
    }
    s.first = *end;
    if (!s.first) s.last = &s.first;
    *end = NULL;
    s.waiting -= reads;
    return reads ? list : NULL;
}

// What the last pass has learnt of the cluster.
static void note_cluster(int away) {
    pthread_mutex_lock(&s.lock);
    s.cluster_away = away;
    s.cluster_asked = 0;
    s.cluster_seen = tool_seconds();
    pthread_mutex_unlock(&s.lock);
}

// The last pass was of this request alone and has failed.
static void refuse_pass(request *q) {
    mrc_status status = mrc_ctx_status(s.ctx);
    log_line("%s", status ? mrc_ctx_message(s.ctx) : "no memory");
    if (status == MRC_ERR_MEM || status == MRC_OK || !cluster_failed(&s.cluster)) {
        int code = status == MRC_ERR_MEM || status == MRC_OK ? 503 : 500;
        refuse(q, code, "service", "reading has failed: %s (the service's log says more)",
               mrc_status_string(status));
        return;
    }
    note_cluster(cluster_is_away(&s.cluster));
    if (cluster_is_late(&s.cluster)) {
        refuse(q, 504, "cluster", "the search cluster did not answer in time (the service's log "
               "says more)");
    }
    refuse(q, 502, "cluster", "the search cluster %s (the service's log says more)",
           cluster_is_away(&s.cluster) ? "does not answer" : "cannot answer this");
}

// Answers them; where a pass fails each request has one of its own, so that none pays for another.
static void answer_requests(request *list) {
    if (!read_pass(list)) {
        for (request *q = list, *next; q; q = next) {
            next = q->next;
            q->next = NULL;
            mrc_ctx_clear_error(s.ctx);
            if (!read_pass(q)) refuse_pass(q);
            q->next = next;
        }
    } else if (cluster_was_asked(&s.cluster)) {
        note_cluster(0);
    }
    mrc_ctx_clear_error(s.ctx);
    for (request *q = list, *next; q; q = next) {
        next = q->next;                 // once it is awake it may be gone
        MHD_resume_connection(q->connection);
    }
}

//==============================================================================
// Responses
//==============================================================================
static const char *type_of(route r) {
    return r == ROUTE_PAGE ? "text/html; charset=utf-8"
         : r == ROUTE_METRICS ? "text/plain; version=0.0.4; charset=utf-8"
         : "application/json";
}

// The page's own script and style run by a number that nobody can guess; nothing else does.
static int page_policy(char nonce[33], char *out, size_t bytes) {
    unsigned char random[16];
    FILE *f = fopen("/dev/urandom", "rb");
    int ok = f && fread(random, 1, sizeof random, f) == sizeof random;
    if (f) fclose(f);
    for (size_t i = 0; i < sizeof random && ok; i++) snprintf(nonce + 2 * i, 3, "%02x", random[i]);
    snprintf(out, bytes, "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; "
             "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
             "frame-ancestors 'none'", nonce, nonce);
    return ok;
}

// tools/page.html with its NONCEs filled in.
static void put_page(mrc_text *t, const char *nonce) {
    static const char mark[] = "@NONCE@";
    const char *at = (const char *)page_html, *end = at + sizeof page_html;
    while (at < end) {
        const char *stop = at;
        while (stop < end && ((size_t)(end - stop) < sizeof mark - 1
                              || memcmp(stop, mark, sizeof mark - 1))) stop++;
        mrc_text_add(t, at, (size_t)(stop - at));
        if (stop < end) {
            mrc_text_add(t, nonce, strlen(nonce));
            stop += sizeof mark - 1;
        }
        at = stop;
    }
}

static void put_health(mrc_text *t, int draining) {
    pthread_mutex_lock(&s.lock);
    const int away = s.cluster_away;
    s.cluster_asked = 1;
    pthread_mutex_unlock(&s.lock);
    mrc_text_add(t, "{", 1);
    tool_json_string(t, "status", draining ? "draining" : "ok");
    if (s.o.index) tool_json_integer(t, "passages", (int64_t)retrieval_size(&s.stages));
    else json_null(t, "passages");
    if (s.o.source) tool_json_string(t, "cluster", away ? "away" : "ok");
    tool_json_integer(t, "max_body_bytes", (int64_t)s.a.max_body);
    tool_json_integer(t, "max_question_chars", (int64_t)s.a.max_question);
    tool_json_integer(t, "max_context_chars", (int64_t)s.a.max_context);
    tool_json_integer(t, "max_batch", (int64_t)s.a.max_batch);
    tool_json_integer(t, "top_k", (int64_t)s.a.top_k);
    tool_json_integer(t, "n_best_size", (int64_t)s.a.n_best_size);
    mrc_text_add(t, "}\n", 2);
}

static void put_metric(mrc_text *t, const char *name, const char *type, const char *help) {
    mrc_text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}
static void put_value(mrc_text *t, const char *name, const char *type, const char *help, double x) {
    put_metric(t, name, type, help);
    mrc_text_printf(t, "%s %.17g\n", name, x);
}
static void put_histogram(mrc_text *t, const char *name, const char *help, const histogram *h,
                          const double *buckets, size_t n) {
    uint64_t count = 0;
    put_metric(t, name, "histogram", help);
    for (size_t i = 0; i <= n; i++) {
        count += h->counts[i];
        if (i < n) mrc_text_printf(t, "%s_bucket{le=\"%g\"} ", name, buckets[i]);
        else mrc_text_printf(t, "%s_bucket{le=\"+Inf\"} ", name);
        mrc_text_printf(t, "%llu\n", (unsigned long long)count);
    }
    mrc_text_printf(t, "%s_sum %.17g\n%s_count %llu\n", name, h->sum, name,
                    (unsigned long long)count);
}

static double resident_bytes(void) {    // now; 0 where the system does not say
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%*s %lu", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void put_metrics(mrc_text *t) {
    pthread_mutex_lock(&s.lock);
    put_metric(t, "mrc_requests_total", "counter", "Requests answered, by path and status code.");
    for (size_t r = 0; r < ROUTES; r++) {
        for (size_t c = 0; c < CODES; c++) {
            if (!s.requests[r][c]) continue;
            mrc_text_printf(t, "mrc_requests_total{path=\"%s\",code=\"%d\"} %llu\n", route_names[r],
                            counted_codes[c], (unsigned long long)s.requests[r][c]);
        }
    }
    put_value(t, "mrc_requests_cut_total", "counter", "Requests that never came whole.",
              (double)s.cut);
    put_value(t, "mrc_questions_total", "counter", "Questions answered.", (double)s.questions);
    put_histogram(t, "mrc_request_seconds", "Seconds from request to response of /v1/answer.",
                  &s.seconds, seconds_buckets, sizeof seconds_buckets / sizeof *seconds_buckets);
    put_histogram(t, "mrc_batch_passages", "Passages read in one pass of the model.", &s.batches,
                  batch_buckets, sizeof batch_buckets / sizeof *batch_buckets);
    put_value(t, "mrc_model_seconds_total", "counter", "Seconds that the model has run.",
              s.reading);
    put_value(t, "mrc_queue_passages", "gauge", "Passages waiting to be read.",
              (double)s.waiting);
    put_value(t, "mrc_requests_active", "gauge", "Requests without a complete response yet.",
              (double)s.active);
    put_value(t, "mrc_connections", "gauge", "Open connections.", (double)s.connections);
    put_value(t, "process_resident_memory_bytes", "gauge", "Memory in use.", resident_bytes());
    pthread_mutex_unlock(&s.lock);
}

static enum MHD_Result respond(request *q) {
    static const char *const headers[][2] = {
        { "X-Content-Type-Options", "nosniff" }, { "X-Frame-Options", "DENY" },
        { "Referrer-Policy", "no-referrer" }, { "Cache-Control", "no-store" },
        { "Cross-Origin-Resource-Policy", "same-origin" }
    };
    char nonce[33] = "", policy[400];
    const int ok = q->status == 200;
    if (ok && q->route == ROUTE_PAGE) {
        if (!page_policy(nonce, policy, sizeof policy)) return MHD_NO;
        put_page(&q->reply, nonce);
    } else {
        snprintf(policy, sizeof policy, "default-src 'none'; frame-ancestors 'none'");
    }
    if (q->reply.failed) return MHD_NO;
    struct MHD_Response *r = MHD_create_response_from_buffer(q->reply.bytes, q->reply.data,
                                                             MHD_RESPMEM_MUST_COPY);
    if (!r) return MHD_NO;
    MHD_add_response_header(r, "Content-Type", ok ? type_of(q->route) : "application/json");
    MHD_add_response_header(r, "Content-Security-Policy", policy);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        MHD_add_response_header(r, headers[i][0], headers[i][1]);
    }
    if (q->status == 405) {
        MHD_add_response_header(r, "Allow", q->route == ROUTE_ANSWER ? "POST" : "GET, HEAD");
    }
    if (q->status == 429 || q->status == 503) MHD_add_response_header(r, "Retry-After", "1");
    pthread_mutex_lock(&s.lock);
    if (q->closes || s.draining) MHD_add_response_header(r, "Connection", "close");
    peer_turn(q->from);
    q->answered = 1;
    pthread_mutex_unlock(&s.lock);
    enum MHD_Result result = MHD_queue_response(q->connection, (unsigned)q->status, r);
    MHD_destroy_response(r);
    return result;
}

//==============================================================================
// Requests
//==============================================================================
static void *on_path(void *user, const char *path, struct MHD_Connection *connection) {
    request *q = calloc(1, sizeof *q);
    (void)user;
    if (!q) return NULL;
    size_t n = strcspn(path, "?");
    q->connection = connection;
    q->at = tool_seconds();
    if (n >= sizeof q->raw_path) n = sizeof q->raw_path - 1;
    memcpy(q->raw_path, path, n);
    mrc_text_init(&q->body, s.http_ctx);
    mrc_text_init(&q->reply, s.http_ctx);
    pthread_mutex_lock(&s.lock);
    q->late = s.draining;
    s.active++;
    pthread_mutex_unlock(&s.lock);
    return q;
}

// What the headers say, once each has been seen.
typedef struct heads {
    request    *q;
    const char *host, *length, *encoding, *type, *coding;
    int         hosts, lengths;
} heads;

static enum MHD_Result on_header(void *user, enum MHD_ValueKind kind, const char *name,
                                 const char *value) {
    heads *h = user;
    (void)kind;
    if (!value) value = "";
    if (!*name || strcspn(name, " \t") != strlen(name)) {
        h->q->closes = 1;
        refuse(h->q, 400, "header", "a header's name is malformed (found \"%.100s\", expected a "
               "name without spaces)", name);
    }
    if (!strcasecmp(name, "Host")) h->hosts++, h->host = value;
    if (!strcasecmp(name, "Content-Length")) h->lengths++, h->length = value;
    if (!strcasecmp(name, "Transfer-Encoding")) h->encoding = value;
    if (!strcasecmp(name, "Content-Type")) h->type = value;
    if (!strcasecmp(name, "Content-Encoding")) h->coding = value;
    return MHD_YES;
}

// A page elsewhere whose name was made to point here must not read along: a service for this
// machine alone answers to this machine's names alone.
static int is_own_host(const char *host) {
    char name[256];
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (!s.is_loopback) return 1;
    snprintf(name, sizeof name, "%.*s", (int)(n < 255 ? n : 255), host);
    struct in_addr v4;
    return !strcasecmp(name, "localhost") || !strcmp(name, "[::1]")
        || !strcasecmp(name, s.a.host)
        || (inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

static void check_framing(request *q, const heads *h) {
    if (h->hosts != 1 || !is_own_host(h->host)) {
        refuse(q, h->hosts == 1 ? 421 : 400, "Host", "Host is not this service's (found %s, "
               "expected one, %s)", h->hosts == 1 ? h->host : h->hosts ? "several" : "none",
               s.is_loopback ? "of this machine: localhost" : "any");
    }
    if (h->lengths > 1 || (h->lengths && h->encoding)) {
        q->closes = 1;
        refuse(q, 400, "Content-Length", "the body's length stands twice (found %s, expected one "
               "Content-Length or Transfer-Encoding)",
               h->lengths > 1 ? "several Content-Lengths" : "Content-Length and Transfer-Encoding");
    }
    if (h->encoding && strcasecmp(h->encoding, "chunked") != 0) {
        q->closes = 1;
        refuse(q, 400, "Transfer-Encoding", "Transfer-Encoding is not known (found %.100s, "
               "expected chunked)", h->encoding);
    }
}

static void check_route(request *q, const heads *h) {
    const int reads = !strcmp(q->method, "GET") || !strcmp(q->method, "HEAD");
    if (q->route == ROUTE_NONE) {
        refuse(q, 404, "path", "nothing is here (found %s, expected /, /healthz, /metrics or "
               "/v1/answer)", q->raw_path);
    } else if (q->route == ROUTE_ANSWER ? strcmp(q->method, "POST") != 0 : !reads) {
        refuse(q, 405, "method", "%s does not take this method (found %s, expected %s)",
               route_names[q->route], q->method, q->route == ROUTE_ANSWER ? "POST" : "GET");
    }
    if (q->route != ROUTE_ANSWER) return;
    if (MHD_get_connection_values(q->connection, MHD_GET_ARGUMENT_KIND, NULL, NULL) > 0) {
        refuse(q, 400, "query", "the path has a query (found one behind /v1/answer, expected all "
               "fields in the body)");
    }
    size_t n = h->type ? strcspn(h->type, "; \t") : 0;
    const char *rest = h->type ? h->type + n + strspn(h->type + n, "; \t") : "";
    if (n != 16 || strncasecmp(h->type, "application/json", n)
        || (*rest && strcasecmp(rest, "charset=utf-8") && strcasecmp(rest, "charset=\"utf-8\""))) {
        refuse(q, 415, "Content-Type", "the body is not JSON (found %.100s, expected "
               "application/json)", h->type ? h->type : "no Content-Type");
    }
    if (h->coding && strcasecmp(h->coding, "identity") != 0) {
        refuse(q, 415, "Content-Encoding", "the body is encoded (found %.100s, expected none)",
               h->coding);
    }
    if (!h->length && !h->encoding) {
        refuse(q, 411, "Content-Length", "the body's length is missing (found neither, expected "
               "Content-Length or Transfer-Encoding: chunked)");
    }
}

// The head is complete, the body is to come.  What cannot be read through is refused at once.
static enum MHD_Result on_head(request *q, const char *method) {
    heads h = { .q = q };
    q->begun = 1;
    q->from = MHD_get_connection_info(q->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
                  ->socket_context;
    if (!q->from) return MHD_NO;        // there was no memory for it
    snprintf(q->method, sizeof q->method, "%s", method);
    for (int i = ROUTE_PAGE; i < ROUTES; i++) {
        if (!strcmp(q->raw_path, route_names[i])) q->route = (route)i;
    }
    MHD_get_connection_values(q->connection, MHD_HEADER_KIND, on_header, &h);
    check_framing(q, &h);
    check_route(q, &h);
    // The library lets no length by that is not one.
    unsigned long long length = h.length ? strtoull(h.length, NULL, 10) : 0;
    if (length > s.a.max_body) {
        refuse(q, 413, "body", "body is too long (found %llu bytes, expected at most %zu)", length,
               s.a.max_body);
    }
    if (!q->status) return MHD_YES;
    if (q->closes || length / 8 > s.a.max_body) {
        q->closes = 1;
        return respond(q);
    }
    return MHD_YES;
}

static enum MHD_Result on_body(request *q, const char *data, size_t bytes) {
    q->received += bytes;
    if (q->received / 8 > s.a.max_body) return MHD_NO;
    if (q->received > s.a.max_body) {
        refuse(q, 413, "body", "body is too long (found more, expected at most %zu bytes)",
               s.a.max_body);
    }
    if (!q->status) mrc_text_add(&q->body, data, bytes);
    return MHD_YES;
}

// Into the queue, with the connection asleep; 0 with a refusal.
static int enqueue(request *q) {
    size_t waiting;
    pthread_mutex_lock(&s.lock);
    waiting = s.waiting;
    int ok = !q->late && q->reads <= s.a.max_queue - waiting;
    if (ok) {
        q->from->waits = 1;
        MHD_suspend_connection(q->connection);
        *s.last = q;
        s.last = &q->next;
        s.waiting += q->reads;
        pthread_cond_signal(&s.wake);
    }
    pthread_mutex_unlock(&s.lock);
    if (ok) return 1;
    if (q->late) return refuse(q, 503, "service", "the service is about to end");
    return refuse(q, 429, "queue", "too many passages wait (found %zu and %zu of this request, "
                  "expected at most %zu)", waiting, q->reads, s.a.max_queue);
}

// The request is complete.
static enum MHD_Result on_end(request *q) {
    if (q->status) return respond(q);
    if (q->route == ROUTE_ANSWER) {
        if (read_body(q) && enqueue(q)) return MHD_YES;
        return respond(q);
    }
    q->status = q->route == ROUTE_HEALTH && q->late ? 503 : 200;
    if (q->route == ROUTE_HEALTH) put_health(&q->reply, q->late);
    if (q->route == ROUTE_METRICS) put_metrics(&q->reply);
    return respond(q);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *bytes, void **state) {
    request *q = *state;
    (void)user; (void)connection; (void)url; (void)version;
    if (!q) return MHD_NO;              // there was no memory for it
    if (!q->begun) return on_head(q, method);
    if (!*bytes) return on_end(q);
    enum MHD_Result result = on_body(q, data, *bytes);
    *bytes = 0;
    return result;
}

static void on_completed(void *user, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode how) {
    request *q = *state;
    size_t code = 0;
    double seconds;
    (void)user; (void)connection;
    if (!q) return;
    *state = NULL;
    seconds = tool_seconds() - q->at;
    while (code < CODES && counted_codes[code] != q->status) code++;
    pthread_mutex_lock(&s.lock);
    s.active--;
    if (q->answered) {
        peer_turn(q->from);
        if (code < CODES) s.requests[q->route][code]++;
        if (q->route == ROUTE_ANSWER) {
            histogram_add(&s.seconds, seconds_buckets,
                          sizeof seconds_buckets / sizeof *seconds_buckets, seconds);
        }
        if (q->route == ROUTE_ANSWER && q->status == 200) s.questions += q->n;
    }
    pthread_mutex_unlock(&s.lock);
    if (q->begun && (s.a.log == LOG_REQUESTS || q->status >= 500)) {
        log_line("%s %s %d, %zu questions, %.1f ms%s", q->method, q->raw_path, q->status, q->n,
                 1e3 * seconds, how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : ", cut off");
    }
    mrc_json_free(q->root);
    mrc_text_free(&q->body);
    mrc_text_free(&q->reply);
    free(q->questions);
    free(q);
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code) {
    peer *p = *context;
    (void)user;
    pthread_mutex_lock(&s.lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        p = calloc(1, sizeof *p);
        if (p) {
            p->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
                        ->connect_fd;
            p->since = tool_seconds();
            p->link = &s.peers;
            p->next = s.peers;
            if (p->next) p->next->link = &p->next;
            s.peers = p;
            s.connections++;
        }
        *context = p;
    } else if (p) {
        peer_refuse(p, 1, 400, ENDS_EARLY);
        *p->link = p->next;
        if (p->next) p->next->link = p->link;
        s.connections--;
        free(p);
        *context = NULL;
    }
    pthread_mutex_unlock(&s.lock);
}

// Connections whose turn it has been for too long, or will be for ever: the library may miss an end
// that comes together with data.
static void cut_slow(void) {
    double now = tool_seconds();
    uint64_t sent, received;
    pthread_mutex_lock(&s.lock);
    for (peer *p = s.peers; p; p = p->next) {
        p->ended = !p->waits && peer_bytes(p, &sent, &received) ? p->ended + 1 : 0;
        if (p->ended > 2) {
            peer_refuse(p, 1, 400, ENDS_EARLY);
            p->told = 1;
            shutdown(p->fd, SHUT_RDWR);
        }
        if (p->waits || now - p->since < (double)s.a.timeout) continue;
        peer_refuse(p, 0, 408, "the request took too long (found %.0f s, expected at most %zu)",
                    now - p->since, s.a.timeout);
        p->told = 1;
        shutdown(p->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&s.lock);
}

//==============================================================================
// Start and end
//==============================================================================
static void load_reader(void) {
    serve_args *a = &s.a;
    mrc_decode_config decode = mrc_decode_config_default();
    decode.n_best_size = a->n_best_size;
    decode.max_answer_length = a->max_answer_length;
    decode.version_2_with_negative = a->version_2_with_negative;
    decode.null_score_diff_threshold = a->null_score_diff_threshold;
    mrc_features_config features = tool_reader_features(s.ctx, a->model, &a->max_seq_length,
                                                        &a->doc_stride);
    mrc_reader_desc desc = { .features = &features, .batch_size = a->batch_size,
                             .decode = &decode, .dtype = tool_precision_dtype(&a->precision),
                             .int8_keep = tool_precision_keep(&a->precision) };
    s.o.k1 = s.o.b = s.o.delta = NAN;
    s.o.index = a->index;
    s.o.method = a->method;
    s.o.threads = tool_pool_threads();
    if (s.o.index) {
        cluster_open(&s.cluster, s.ctx, &s.o, a->top_k, 1, 1);
        tool_check(s.ctx, retrieval_open(s.ctx, &s.stages, &s.o));
    }
    tool_check(s.ctx, mrc_reader_new(s.ctx, &s.reader, a->model, &desc));
    s.passages = tool_allocate(a->max_batch, sizeof *s.passages);
    s.rooms = tool_allocate(a->max_batch, sizeof *s.rooms);
    s.hits = tool_allocate(a->max_batch, sizeof *s.hits);
    s.found = tool_allocate(a->max_batch, sizeof *s.found);
    s.replies = tool_allocate(a->max_batch, sizeof *s.replies);
    s.list = tool_allocate(a->max_batch * (a->n_best_size + 1), sizeof *s.list);
    for (size_t i = 0; i < a->max_batch; i++) mrc_text_init(&s.rooms[i], s.ctx);
}

// A socket that listens at --host and --port; where that is goes to name, its port to *port.
static int listen_at(char name[INET6_ADDRSTRLEN], unsigned *port) {
    char service[16];
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *list = NULL;
    union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; } at;
    socklen_t bytes = sizeof at;
    const int on = 1;
    snprintf(service, sizeof service, "%zu", s.a.port);
    int wrong = getaddrinfo(s.a.host, service, &hints, &list);
    if (wrong) {
        tool_fail(TOOL_BAD_INPUT, "--host: %s (found %s, expected an address of this machine)",
                  gai_strerror(wrong), s.a.host);
    }
    int fd = socket(list->ai_family, list->ai_socktype, list->ai_protocol);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0
        || bind(fd, list->ai_addr, list->ai_addrlen) != 0 || listen(fd, 511) != 0
        || getsockname(fd, &at.any, &bytes) != 0) {
        tool_fail(TOOL_IO, "--port: cannot listen at %s port %zu: %s", s.a.host, s.a.port,
                  strerror(errno));
    }
    freeaddrinfo(list);
    const int v6 = at.any.sa_family == AF_INET6;
    *port = ntohs(v6 ? at.v6.sin6_port : at.v4.sin_port);
    if (v6) inet_ntop(AF_INET6, &at.v6.sin6_addr, name, INET6_ADDRSTRLEN);
    else inet_ntop(AF_INET, &at.v4.sin_addr, name, INET6_ADDRSTRLEN);
    s.is_loopback = v6 ? IN6_IS_ADDR_LOOPBACK(&at.v6.sin6_addr)
                       : ntohl(at.v4.sin_addr.s_addr) >> 24 == 127;
    return fd;
}

static void start_http(void) {
    char name[INET6_ADDRSTRLEN] = "";
    unsigned port = 0;
    int fd = listen_at(name, &port);
    s.http = MHD_start_daemon(
        MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO,
        0, NULL, NULL, on_request, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_URI_LOG_CALLBACK, on_path, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)s.a.max_connections, MHD_OPTION_END);
    if (!s.http) tool_fail(TOOL_IO, "the HTTP service cannot be started: %s", strerror(errno));
    const int v6 = strchr(name, ':') != NULL;
    tool_print("{\"url\": \"http://%s%s%s:%u/\", \"host\": \"%s\", \"port\": %u}\n", v6 ? "[" : "",
               name, v6 ? "]" : "", port, name, port);
    tool_flush();
}

// The queue's next requests, or NULL after a tenth of a second without any.
static request *wait_for_requests(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 100000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&s.lock);
    if (!s.first) pthread_cond_timedwait(&s.wake, &s.lock, &until);
    request *list = s.first ? take_requests() : NULL;
    pthread_mutex_unlock(&s.lock);
    return list;
}

// Nobody is let in any more; what was accepted is finished.
static void begin_drain(void) {
    int fd = MHD_quiesce_daemon(s.http);
    if (fd >= 0) close(fd);
    pthread_mutex_lock(&s.lock);
    s.draining = 1;
    size_t active = s.active;
    pthread_mutex_unlock(&s.lock);
    log_line("ending: %zu requests to finish", active);
}

// Health is told at once, as the cluster was last seen; where it was asked for and that is 5
// seconds ago the cluster is asked anew.
static void look_at_cluster(double now) {
    pthread_mutex_lock(&s.lock);
    const int due = s.cluster_asked && now - s.cluster_seen >= 5;
    const int was_away = s.cluster_away;
    pthread_mutex_unlock(&s.lock);
    if (!due || !s.o.source) return;
    const int away = cluster_look(&s.cluster) != MRC_OK;
    if (away != was_away) {
        log_line("%s", away ? mrc_ctx_message(s.ctx) : "the cluster answers again");
    }
    note_cluster(away);
    mrc_ctx_clear_error(s.ctx);
}

static void run_service(void) {
    double checked = tool_seconds(), since = 0;
    for (;;) {
        request *list = wait_for_requests();
        double now = tool_seconds();
        if (list) answer_requests(list);
        else if (!tool_signal) look_at_cluster(now);
        if (now - checked > 0.2) {
            cut_slow();
            checked = now;
        }
        if (!tool_signal) continue;
        if (since <= 0) {
            since = now;
            begin_drain();
        }
        pthread_mutex_lock(&s.lock);
        const int done = !s.first && (!s.active || now - since > (double)s.a.timeout);
        pthread_mutex_unlock(&s.lock);
        if (done) break;
    }
    MHD_stop_daemon(s.http);
}

static int run(tool_program *p) {
    (void)p;
    if (engine_a.kind != ENGINE_NONE && !s.a.index) {
        tool_fail(TOOL_USAGE, "--engine: of which index? (found no --index, expected the alias)");
    }
    if (s.a.max_queue < s.a.max_batch) {
        tool_fail(TOOL_USAGE, "--max_queue: a request may have more (found %zu, expected at least "
                  "the %zu of --max_batch)", s.a.max_queue, s.a.max_batch);
    }
    if (s.a.index && s.a.top_k > s.a.max_batch) {
        tool_fail(TOOL_USAGE, "--top_k: more than a request may have (found %zu, expected at most "
                  "the %zu of --max_batch)", s.a.top_k, s.a.max_batch);
    }
    tool_want_model(s.a.model);
    s.be = tool_backend_new_for(tool_precision_dtype(&s.a.precision));
    s.ctx = tool_ctx_new(s.be, 0);
    mrc_status status = mrc_ctx_new(&s.http_ctx, NULL);
    if (status) tool_fail(tool_exit_code(status), "%s", mrc_status_string(status));
    load_reader();
    if (pthread_mutex_init(&s.lock, NULL) || pthread_cond_init(&s.wake, NULL)) {
        tool_fail(TOOL_NO_MEMORY, "no memory for a lock");
    }
    s.last = &s.first;
    tool_catch_signals();
    start_http();
    run_service();
    for (size_t i = 0; i < s.a.max_batch; i++) mrc_text_free(&s.rooms[i]);
    mrc_reader_free(s.reader);
    if (s.o.index) retrieval_close(&s.stages);
    cluster_close(&s.cluster);
    mrc_ctx_free(s.http_ctx);
    mrc_ctx_free(s.ctx);
    mrc_backend_free(s.be);
    void *parts[] = { s.passages, s.rooms, s.hits, s.found, s.replies, s.list };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) free(parts[i]);
    return tool_finish();
}

static tool_flag the_flags[] = {
    { .name = "model_name_or_path", .group = "model",
      .string = &s.a.model, .value = "DIR", .required = 1,
      .help = "a model directory with its vocabulary" },
    { .name = "host", .group = "service",
      .string = &s.a.host, .value = "ADDRESS", .preset = "127.0.0.1",
      .help = "where to listen; at an address of this machine's only, only its own names are "
              "answered to" },
    { .name = "port", .size = &s.a.port, .preset = "8080", .min = 0, .max = 65535,
      .help = "0: one that is free; the first line of stdout says which" },
    READER_INDEX_FLAGS(s.a, 1024),
    RETRIEVAL_FLAGS(s.o),
    { .name = "n_best_size", .group = "answers",
      .size = &s.a.n_best_size, .preset = "20", .min = 1, .max = 1000,
      .help = "candidates kept for a question" },
    READER_ANSWER_FLAGS(s.a),
    READER_WINDOW_FLAGS(s.a),
    TOOL_PRECISION_FLAGS(s.a.precision),
    { .name = "max_body_bytes", .group = "limits",
      .size = &s.a.max_body, .preset = "1048576", .min = 1024,
      .max = 1073741824, .unit = "bytes", .help = "of a request; longer ones get 413" },
    { .name = "max_question_chars", .size = &s.a.max_question, .preset = "1000", .min = 1,
      .max = 1e6, .unit = "characters", .help = "of a question; longer ones get 413" },
    { .name = "max_context_chars", .size = &s.a.max_context, .preset = "100000", .min = 1,
      .max = 1e9, .unit = "characters", .help = "of a passage; longer ones get 413" },
    { .name = "max_batch", .size = &s.a.max_batch, .preset = "64", .min = 1, .max = 1024,
      .help = "passages read at a time, and the most for one request; more get 413" },
    { .name = "max_queue", .size = &s.a.max_queue, .preset = "1024", .min = 1, .max = 1e6,
      .help = "passages that may wait; a request that has no room gets 429" },
    { .name = "max_connections", .size = &s.a.max_connections, .preset = "1000", .min = 1,
      .max = 1e6, .help = "open at a time" },
    { .name = "timeout", .size = &s.a.timeout, .preset = "10", .min = 1, .max = 3600,
      .unit = "seconds", .help = "for a client to send a request or to take an answer, and for "
                                 "what is under way when the service is told to end" },
    { .name = "log", .group = "service",
      .choice = &s.a.log, .preset = "requests", .choices = "requests|errors",
      .help = "what to say on stderr; questions and passages never are" },
    ENGINE_FLAGS("5"),
    ENGINE_QUERY_FLAGS,
    { 0 }
};

static tool_program program = {
    .name = "serve", .group = "answer and score", .run = run, .flags = the_flags,
    .purpose = "Answers questions over HTTP: POST /v1/answer, GET /healthz, GET /metrics, and "
               "at / a page to ask them on.  SIGTERM and Ctrl-C end it once what it has "
               "accepted is answered.",
    .usage = "--model_name_or_path DIR [--index DIR] [--port N] [flags]",
    .examples = { "serve --model_name_or_path out --port 8080",
                  "serve --model_name_or_path out --index wiki --top_k 20 --port 0" }
};
TOOL_PROGRAM(serve, program)
