// A client for tests/cli/test_serve.sh, which starts the service: malformed requests over raw
// sockets, or many clients at once whose answers are held against predict's.  Loopback only.
#include "../../tools/tool.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>

static struct client_args {
    const char *questions, *answers, *asked, *holds, *path, *answer_of, *body;
    size_t      port, clients, requests, batch, code;
    double      seconds;
    int         malformed, slow, has_index, crowded;
} a;
static size_t passed, failed, refused;  // refused: for want of room in the queue
static mrc_ctx *ctx;

static int check(int ok, const char *what, const char *detail) {
    if (ok) passed++;
    else failed++;
    if (!ok) printf("FAIL %s: %.300s\n", what, detail);
    return ok;
}

//==============================================================================
// HTTP, as little as the tests need
//==============================================================================
enum { WAIT_SECONDS = 60 };
// A connection; -1, on which nothing comes, where there is none to be had.
static int dial(void) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)a.port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval limit = { WAIT_SECONDS, 0 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

// As much as the other side takes: a request that is refused early is not read to its end.
static void send_all(int fd, const char *data, size_t bytes) {
    while (bytes) {
        ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        data += n;
        bytes -= (size_t)n;
    }
}

typedef struct response { int status; mrc_text text; const char *body; size_t bytes; } response;

// One response into r, whose text is used again; status 0: none came.
static void receive(int fd, response *r) {
    char part[16384];
    size_t head = 0, wanted = SIZE_MAX;
    r->text.bytes = 0;
    r->status = 0;
    r->body = "";
    r->bytes = 0;
    while (r->text.bytes < wanted) {
        ssize_t n = recv(fd, part, sizeof part, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        mrc_text_add(&r->text, part, (size_t)n);
        const char *end = head ? NULL : strstr(r->text.data, "\r\n\r\n");
        if (!end) continue;
        head = (size_t)(end + 4 - r->text.data);
        for (const char *c = r->text.data; c < end; c++) {
            if (strncasecmp(c, "\r\nContent-Length:", 17)) continue;
            wanted = head + strtoul(c + 17, NULL, 10);
        }
    }
    if (!head || sscanf(r->text.data, "HTTP/1.%*d %d", &r->status) != 1) return;
    r->body = r->text.data + head;
    r->bytes = r->text.bytes - head;
}

static void get(const char *path, response *r) {
    char request[256];
    int fd = dial(), n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n"
                                  "Connection: close\r\n\r\n", path);
    send_all(fd, request, (size_t)n);
    receive(fd, r);
    close(fd);
}

static void post_head(mrc_text *t, size_t bytes) {
    mrc_text_printf(t, "POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                    "application/json\r\nContent-Length: %zu\r\n\r\n", bytes);
}

//==============================================================================
// Malformed requests: each gets its code, and a body that names the field
//==============================================================================
typedef struct body_case { int status; const char *field, *body; } body_case;
#define Q "\"question\": \"who?\""
#define C "\"context\": \"It was Ann.\""
static const body_case bodies[] = {
    { 400, "body", "" },
    { 400, "body", " " },
    { 400, "body", "{" },
    { 400, "body", "}" },
    { 400, "body", "{]" },
    { 400, "body", "[" },
    { 400, "body", "[]" },
    { 400, "body", "null" },
    { 400, "body", "true" },
    { 400, "body", "12" },
    { 400, "body", "\"who?\"" },
    { 400, "body", "nonsense" },
    { 400, "body", "{" Q ", " C "} trailing" },
    { 400, "body", "{" Q ", " C ",}" },
    { 400, "body", "{" Q " " C "}" },
    { 400, "body", "{'question': 'who?'}" },
    { 400, "body", "{question: \"who?\"}" },
    { 400, "body", "{\"question\": \"who?}" },
    { 400, "body", "{\"question\": \"who\n?\", " C "}" },
    { 400, "body", "{\"question\": \"\\x41\", " C "}" },
    { 400, "body", "{\"question\": \"\\ud800\", " C "}" },
    { 400, "body", "{\"question\": \"\\udc00\\ud800\", " C "}" },
    { 400, "body", "{\"question\": \"\xff\xfe\", " C "}" },
    { 400, "body", "{\"question\": \"\xc0\xaf\", " C "}" },
    { 400, "body", "{\"question\": \"\xed\xa0\x80\", " C "}" },
    { 400, "body", "{\"question\": \"\xf4\x90\x80\x80\", " C "}" },
    { 400, "body", "{\"question\": \"\xe2\x82\", " C "}" },
    { 400, "body", "\xff\xfe{\0}\0" },
    { 400, "body", "{" Q ", " C ", \"n_best\": 01}" },
    { 400, "body", "{" Q ", " C ", \"n_best\": NaN}" },
    { 400, "body", "{" Q ", " C ", \"n_best\": Infinity}" },
    { 400, "body", "{" Q ", " C ", \"n_best\": 1e999}" },
    { 400, "body", "{" Q ", " C ", \"n_best\": +1}" },
    { 400, "body", "{" Q ", " C ", \"n_best\": 0x10}" },
    { 400, "question", "{}" },
    { 400, "question", "{" C "}" },
    { 400, "question", "{\"question\": null, " C "}" },
    { 400, "question", "{\"question\": 5, " C "}" },
    { 400, "question", "{\"question\": true, " C "}" },
    { 400, "question", "{\"question\": [\"who?\"], " C "}" },
    { 400, "question", "{\"question\": {}, " C "}" },
    { 400, "question", "{\"question\": \"\", " C "}" },
    { 400, "question", "{\"question\": \" \\t\\n\", " C "}" },
    { 400, "question", "{" Q ", " Q ", " C "}" },
    { 400, "context", "{" Q ", \"context\": null}" },
    { 400, "context", "{" Q ", \"context\": -1}" },
    { 400, "context", "{" Q ", \"context\": []}" },
    { 400, "context", "{" Q ", \"context\": \"\"}" },
    { 400, "context", "{" Q ", \"context\": \"  \"}" },
    { 400, "context", "{" Q ", " C ", " C "}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": 0}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": -1}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": 1001}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": 1e308}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": -1e308}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": 1.5}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": 99999999999999999999}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": -9223372036854775808}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": \"1\"}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": null}" },
    { 400, "n_best", "{" Q ", " C ", \"n_best\": true}" },
    { 400, "top_k", "{" Q ", " C ", \"top_k\": 3}" },
    { 400, "top_k", "{" Q ", \"top_k\": 0}" },
    { 400, "top_k", "{" Q ", \"top_k\": -1}" },
    { 400, "top_k", "{" Q ", \"top_k\": 1e308}" },
    { 400, "top_k", "{" Q ", \"top_k\": \"1\"}" },
    { 400, "top_k", "{" Q ", \"top_k\": null}" },
    { 400, "top_k", "{" Q ", \"top_k\": 4294967297}" },
    { 400, "scores", "{" Q ", " C ", \"scores\": 1}" },
    { 400, "scores", "{" Q ", " C ", \"scores\": \"true\"}" },
    { 400, "scores", "{" Q ", " C ", \"scores\": null}" },
    { 400, "id", "{\"id\": 7, " Q ", " C "}" },
    { 400, "id", "{\"id\": {}, " Q ", " C "}" },
    { 400, "temperature", "{" Q ", " C ", \"temperature\": 1}" },
    { 400, "Question", "{\"Question\": \"who?\", " C "}" },
    { 400, "n_discard", "{" Q ", " C ", \"n_discard\": -1}" },
    { 400, "[0]", "[1]" },
    { 400, "[1]", "[{" Q ", " C "}, null]" },
    { 400, "[1].question", "[{" Q ", " C "}, {" C "}]" },
    { 400, "[2].context", "[{" Q ", " C "}, {" Q ", " C "}, {" Q ", \"context\": 0}]" },
};

// Whole requests.  ends: the client sends no more.
typedef struct head_case { int status, ends; const char *field, *text; } head_case;
#define HOST "Host: localhost\r\n"
#define POST "POST /v1/answer HTTP/1.1\r\n" HOST
#define JSON "Content-Type: application/json\r\n"
static const head_case heads[] = {
    { 404, 0, "path", "GET /nowhere HTTP/1.1\r\n" HOST "\r\n" },
    { 404, 0, "path", "GET /../../etc/passwd HTTP/1.1\r\n" HOST "\r\n" },
    { 404, 0, "path", "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" HOST "\r\n" },
    { 404, 0, "path", "GET /%00 HTTP/1.1\r\n" HOST "\r\n" },
    { 404, 0, "path", "GET /healthz%00 HTTP/1.1\r\n" HOST "\r\n" },
    { 404, 0, "path", "GET /%zz HTTP/1.1\r\n" HOST "\r\n" },
    { 404, 0, "path", "GET //healthz HTTP/1.1\r\n" HOST "\r\n" },
    { 404, 0, "path", "GET http://localhost/healthz HTTP/1.1\r\n" HOST "\r\n" },
    { 404, 0, "path", "POST /v1/answers HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\n\r\n{}" },
    { 404, 0, "path", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n" },
    { 405, 0, "method", "GET /v1/answer HTTP/1.1\r\n" HOST "\r\n" },
    { 405, 0, "method", "PUT /v1/answer HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\n\r\n{}" },
    { 405, 0, "method", "OPTIONS /v1/answer HTTP/1.1\r\n" HOST "\r\n" },
    { 405, 0, "method", "TRACE / HTTP/1.1\r\n" HOST "\r\n" },
    { 405, 0, "method", "BREW / HTTP/1.1\r\n" HOST "\r\n" },
    { 405, 0, "method", "get / HTTP/1.1\r\n" HOST "\r\n" },
    { 405, 0, "method", "POST /metrics HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n" },
    { 405, 0, "method", "DELETE /healthz HTTP/1.1\r\n" HOST "\r\n" },
    { 411, 0, "Content-Length", POST JSON "\r\n" },
    { 415, 0, "Content-Type", POST "Content-Length: 2\r\n\r\n{}" },
    { 415, 0, "Content-Type", POST "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}" },
    { 415, 0, "Content-Type", POST "Content-Type: application/jsonx\r\nContent-Length: 2\r\n\r\n"
      "{}" },
    { 415, 0, "Content-Type", POST "Content-Type: application/json; charset=euc-kr\r\n"
      "Content-Length: 2\r\n\r\n{}" },
    { 415, 0, "Content-Encoding", POST JSON "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n"
      "{}" },
    { 400, 0, "query", "POST /v1/answer?top_k=5 HTTP/1.1\r\n" HOST JSON "Content-Length: 2\r\n\r\n"
      "{}" },
    { 400, 0, "Host", "GET / HTTP/1.1\r\n\r\n" },
    { 400, 0, "Host", "GET / HTTP/1.1\r\n" HOST HOST "\r\n" },
    { 421, 0, "Host", "GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n" },
    { 421, 0, "Host", "GET / HTTP/1.1\r\nHost: localhost.elsewhere.example\r\n\r\n" },
    { 421, 0, "Host", "GET / HTTP/1.1\r\nHost: 127.elsewhere.example\r\n\r\n" },
    { 400, 0, "Content-Length", POST JSON "Content-Length: -5\r\n\r\nhello" },
    { 400, 0, "Content-Length", POST JSON "Content-Length: +5\r\n\r\nhello" },
    { 400, 0, "Content-Length", POST JSON "Content-Length: abc\r\n\r\nhello" },
    { 400, 0, "Content-Length", POST JSON "Content-Length: 0x5\r\n\r\nhello" },
    { 400, 0, "Content-Length", POST JSON "Content-Length: 5 5\r\n\r\nhello" },
    { 413, 0, "Content-Length", POST JSON "Content-Length: 99999999999999999999999\r\n\r\nhello" },
    { 413, 0, "body", POST JSON "Content-Length: 9999999999\r\n\r\nhello" },
    { 400, 0, "Content-Length", POST JSON "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" },
    { 400, 0, "Content-Length", POST JSON "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
      "0\r\n\r\n" },
    { 400, 0, "Transfer-Encoding", POST JSON "Transfer-Encoding: gzip\r\n\r\nhello" },
    { 400, 0, "Transfer-Encoding", POST JSON "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"
    },
    { 400, 0, "chunked", POST JSON "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n" },
    { 400, 0, "chunked", POST JSON "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n" },
    { 400, 0, "chunked", POST JSON "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n" },
    { 413, 0, "chunk", POST JSON "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\nx" },
    { 400, 0, "body", POST JSON "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n" },
    { 400, 0, "request", "GET /\r\n\r\n" },
    { 400, 0, "request", "GET / FOO/1.1\r\n" HOST "\r\n" },
    { 400, 0, "request", "GET  HTTP/1.1\r\n" HOST "\r\n" },
    { 400, 1, "request", "GET /a b HTTP/1.1\r\n" HOST "\r\n" },
    { 400, 0, "request", "GET / HTTP/1.1\r\n" HOST "no colon\r\n\r\n" },
    { 400, 0, "header", "GET / HTTP/1.1\r\n" HOST "Name : x\r\n\r\n" },
    { 400, 1, "request", POST JSON "Content-Length: 50\r\n\r\n{" },
    { 400, 1, "request", "POST /v1/ans" },
    { 400, 1, "request", POST JSON },
    { 400, 1, "request", POST JSON "Transfer-Encoding: chunked\r\n\r\n5\r\n{}" },
};

static void malformed(const char *text, size_t bytes, int ends, int status, const char *field) {
    char what[200], code[32];
    response r = { 0 };
    mrc_text_init(&r.text, ctx);
    int fd = dial();
    send_all(fd, text, bytes);
    if (ends == 1) shutdown(fd, SHUT_WR);
    receive(fd, &r);
    close(fd);
    snprintf(what, sizeof what, "%.60s", text);
    for (char *c = what; *c; c++) {
        if (*c == '\r' || *c == '\n') *c = '|';
    }
    snprintf(code, sizeof code, "%d, not %d", r.status, status);
    if (check(r.status == status, what, code)) {
        check(strstr(r.body, field) != NULL, what, r.body);
    }
    get("/healthz", &r);
    check(r.status == 200, what, "the service does not go on");
    mrc_text_free(&r.text);
}

static void malformed_body(const char *body, size_t bytes, int status, const char *field) {
    mrc_text t;
    char quoted[64];
    mrc_text_init(&t, ctx);
    post_head(&t, bytes);
    mrc_text_add(&t, body, bytes);
    snprintf(quoted, sizeof quoted, "\"field\": \"%s\"", field);
    malformed(t.data, t.bytes, 0, status, quoted);
    mrc_text_free(&t);
}

// Clients that begin a request and then wait: all at once, and no one else is kept waiting.
static void send_slow(void) {
    static const char *const parts[] = { "P", "POST /v1/ans", POST JSON "Content-Length: 50\r\n",
        POST JSON "Content-Length: 50\r\n\r\n{", POST JSON "Transfer-Encoding: chunked\r\n\r\n",
        POST JSON "Transfer-Encoding: chunked\r\n\r\n5\r\n{", "\x16\x03\x01\x02", "\r\n" };
    enum { EACH = 8, PARTS = sizeof parts / sizeof *parts };
    int fds[EACH * PARTS];
    response r = { 0 };
    mrc_text_init(&r.text, ctx);
    for (size_t i = 0; i < EACH * PARTS; i++) {
        fds[i] = dial();
        send_all(fds[i], parts[i % PARTS], strlen(parts[i % PARTS]));
    }
    get("/healthz", &r);
    check(r.status == 200, "slow clients", "the service does not go on");
    for (size_t i = 0; i < EACH * PARTS; i++) {
        receive(fds[i], &r);
        if (check(r.status == 408, parts[i % PARTS], "not 408")) {
            check(strstr(r.body, "\"field\": \"request\"") != NULL, parts[i % PARTS], r.body);
        }
        close(fds[i]);
    }
    mrc_text_free(&r.text);
}

// `n` times `piece` between two texts.
static void malformed_long(const char *before, const char *piece, size_t n, const char *after,
                           int is_body, int status, const char *field) {
    mrc_text t;
    mrc_text_init(&t, ctx);
    mrc_text_add(&t, before, strlen(before));
    for (size_t i = 0; i < n; i++) mrc_text_add(&t, piece, strlen(piece));
    mrc_text_add(&t, after, strlen(after));
    if (is_body) malformed_body(t.data, t.bytes, status, field);
    else malformed(t.data, t.bytes, 0, status, field);
    mrc_text_free(&t);
}

static void send_malformed(void) {
    static const char nuls[] = "{\"question\": \"a\0b\", " C "}", only_nuls[16] = { 0 };
    static const char two[] = "GET /healthz HTTP/1.1\r\n" HOST "\r\n"
                              "GET /healthz HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    static const char last[] = POST JSON "Content-Length: 46\r\n\r\n{" Q ", " C "}";
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        const body_case *c = &bodies[i];
        malformed_body(c->body, strlen(c->body), c->status, c->field);
    }
    malformed_body(nuls, sizeof nuls - 1, 400, "body");
    malformed_body(only_nuls, sizeof only_nuls, 400, "body");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        const head_case *c = &heads[i];
        malformed(c->text, strlen(c->text), c->ends, c->status, c->field);
    }
    malformed_long("[", "[", 100, "", 1, 400, "body");
    malformed_long("", "{\"a\":", 100000, "1", 1, 400, "body");
    malformed_long("[", "{" Q ", " C "},", 1100, "{" Q ", " C "}]", 1, 413, "body");
    malformed_long("{" C ", \"question\": \"", "long ", 5000, "\"}", 1, 413, "question");
    malformed_long("{" Q ", \"context\": \"", "long ", 50000, "\"}", 1, 413, "context");
    malformed_long("{" Q ", " C ", \"id\": \"", "long ", 100, "\"}", 1, 413, "id");
    malformed_long("{" Q ", " C ", \"", "long ", 100, "\": 1}", 1, 400, "long long long long long "
                   "long long long long long long long");
    malformed_long("{" Q ", \"context\": \"", "long ", 500000, "\"}", 1, 413, "body");
    malformed_long("{" Q ", \"context\": \"", "long ", 5000000, "\"}", 1, 413, "body");
    malformed_long("GET / HTTP/1.1\r\n" HOST "X: ", "long ", 200000, "\r\n\r\n", 0, 431, "header");
    malformed_long("GET / HTTP/1.1\r\n" HOST, "X: y\r\n", 20000, "\r\n", 0, 431, "header");
    malformed_long("GET /", "long", 100000, " HTTP/1.1\r\n" HOST "\r\n", 0, 414, "header");
    malformed_long("GET /", "long", 1000, " HTTP/1.1\r\n" HOST "\r\n", 0, 404, "path");
    malformed_long("", "long", 100000, "", 0, 414, "header");
    // Two good ones in one go are no mistake: both are answered; nor is one that ends the sending.
    response r = { 0 };
    mrc_text_init(&r.text, ctx);
    int fd = dial();
    send_all(fd, two, sizeof two - 1);
    receive(fd, &r);
    check(r.status == 200, "pipelining", "the first");
    if (r.bytes < 400) receive(fd, &r);
    check(strstr(r.text.data, "200 OK") != NULL, "pipelining", "the second");
    close(fd);
    fd = dial();
    send_all(fd, last, sizeof last - 1);
    shutdown(fd, SHUT_WR);
    receive(fd, &r);
    check(r.status == 200, "a good request before the end of sending", r.body);
    close(fd);
    mrc_text_free(&r.text);
    if (a.has_index) {
        malformed_long("{" Q ", \"top_k\": 10", "0", 3, "}", 1, 400, "top_k");
        malformed_long("[{" Q ", \"top_k\": 60}", ",{" Q ", \"top_k\": 60}", 20, "]", 1, 413,
                       "top_k");
    }
}

//==============================================================================
// Clients at once: every answer is predict's
//==============================================================================
static mrc_dataset *set;
static mrc_json *predictions, *n_best;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char **verified;                 // the response to the questions from here on, once checked
static size_t *verified_bytes, next_question;
static double deadline;

static int same_text(const mrc_json *x, const mrc_json *y) {
    return x && y && x->type == MRC_JSON_STRING && y->type == MRC_JSON_STRING
        && x->bytes == y->bytes && !memcmp(x->string, y->string, x->bytes);
}
static int same_number(const mrc_json *x, const mrc_json *y) {
    return x && y && x->type == MRC_JSON_NUMBER && y->type == MRC_JSON_NUMBER
        && !(x->number < y->number) && !(x->number > y->number);
}

// One answer against predict's files, and its offsets against its passage.
static void check_answer(const mrc_example *x, const mrc_json *answer) {
    const mrc_json *expected = mrc_json_get(n_best, x->id), *e, *f;
    const mrc_json *list = mrc_json_get(answer, "n_best"), *id = mrc_json_get(answer, "id");
    check(id && !strcmp(id->string, x->id), x->id, "another question's answer");
    check(same_text(mrc_json_get(answer, "answer"), mrc_json_get(predictions, x->id)), x->id,
          "the answer is not predict's");
    if (!check(list && expected && list->n == expected->n, x->id, "n_best has another length")) {
        return;
    }
    int same = 1, placed = 1;
    for (e = list->child, f = expected->child; e && f; e = e->next, f = f->next) {
        const mrc_json *text = mrc_json_get(e, "text"), *at = mrc_json_get(e, "start_bytes");
        const mrc_json *chars = mrc_json_get(e, "start");
        same = same && same_text(text, mrc_json_get(f, "text"))
            && same_number(mrc_json_get(e, "start_logit"), mrc_json_get(f, "start_logit"))
            && same_number(mrc_json_get(e, "end_logit"), mrc_json_get(f, "end_logit"))
            && same_number(mrc_json_get(e, "probability"), mrc_json_get(f, "probability"));
        if (!same || !at || at->type != MRC_JSON_NUMBER) continue;      // null: not in the passage
        placed = placed && !memcmp(x->context + at->integer, text->string, text->bytes) && chars
              && mrc_utf8_offset(x->context, x->context_bytes, (size_t)chars->integer)
                 == (size_t)at->integer;
    }
    check(same, x->id, "n_best is not predict's");
    check(placed, x->id, "a candidate does not stand where start and start_bytes say");
}

static void check_response(size_t first, const response *r) {
    mrc_json *root;
    if (verified[first]) {
        check(r->bytes == verified_bytes[first] && !memcmp(r->body, verified[first], r->bytes),
              "an answer differs from one time to another", r->body);
        return;
    }
    if (!check(mrc_json_parse(ctx, &root, "response", r->body, r->bytes, 0) == MRC_OK,
               "a response is no JSON", r->body)) {
        mrc_ctx_clear_error(ctx);
        return;
    }
    const mrc_json *v = a.batch > 1 ? root->child : root;
    for (size_t i = 0; i < a.batch && v; i++, v = v->next) {
        check_answer(mrc_dataset_at(set, first + i), v);
    }
    check(v == (a.batch > 1 ? NULL : root->next), "another number of answers", r->body);
    mrc_json_free(root);
    verified_bytes[first] = r->bytes;
    verified[first] = tool_allocate(r->bytes, 1);
    memcpy(verified[first], r->body, r->bytes);
}

// The questions from `first` on as a request.
static void put_request(mrc_text *t, mrc_text *body, size_t first) {
    body->bytes = t->bytes = 0;
    if (a.batch > 1) mrc_text_add(body, "[", 1);
    for (size_t i = first; i < first + a.batch; i++) {
        const mrc_example *x = mrc_dataset_at(set, i);
        mrc_text_printf(body, i > first ? ", {\"n_best\": 20" : "{\"n_best\": 20");
        tool_json_string(body, "id", x->id);
        tool_json_key(body, "question");
        mrc_text_json_string(body, x->question, x->question_bytes, 0);
        tool_json_key(body, "context");
        mrc_text_json_string(body, x->context, x->context_bytes, i % 2 == 0);
        mrc_text_add(body, "}", 1);
    }
    if (a.batch > 1) mrc_text_add(body, "]", 1);
    post_head(t, body->bytes);
    mrc_text_add(t, body->data, body->bytes);
}

typedef struct client { pthread_t thread; mrc_ctx *ctx; double *ms; size_t n, room; } client;

static void *run_client(void *user) {
    client *c = user;
    mrc_text t, body;
    response r = { 0 };
    mrc_text_init(&t, c->ctx);
    mrc_text_init(&body, c->ctx);
    mrc_text_init(&r.text, c->ctx);
    int fd = dial();
    while (c->n < c->room && tool_seconds() < deadline) {
        pthread_mutex_lock(&lock);
        size_t first = next_question;
        next_question += a.batch;
        if (next_question + a.batch > mrc_dataset_size(set)) next_question = 0;
        pthread_mutex_unlock(&lock);
        put_request(&t, &body, first);
        double begun = tool_seconds();
        send_all(fd, t.data, t.bytes);
        receive(fd, &r);
        c->ms[c->n++] = 1e3 * (tool_seconds() - begun);
        pthread_mutex_lock(&lock);
        if (a.crowded && r.status == 429) refused++;
        else if (check(r.status == 200, "a question is refused", r.body)) check_response(first, &r);
        pthread_mutex_unlock(&lock);
        if (!r.status) break;
    }
    close(fd);
    mrc_text_free(&t);
    mrc_text_free(&body);
    mrc_text_free(&r.text);
    return NULL;
}

static int by_size(const void *x, const void *y) {
    const double *p = x, *q = y;
    return *p < *q ? -1 : *p > *q;
}

static double resident(void) {          // MiB of the service
    response r = { 0 };
    double bytes = 0;
    mrc_text_init(&r.text, ctx);
    get("/metrics", &r);
    const char *at = strstr(r.body, "\nprocess_resident_memory_bytes ");
    if (at) bytes = strtod(at + 31, NULL);
    mrc_text_free(&r.text);
    return bytes / 1048576;
}

static void load_expected(void) {
    char path[TOOL_PATH_BYTES];
    tool_check(ctx, mrc_dataset_load_questions(ctx, &set, a.questions));
    tool_check(ctx, mrc_json_load(ctx, &predictions, tool_path(path, a.answers,
                                                               "predictions.json")));
    tool_check(ctx, mrc_json_load(ctx, &n_best, tool_path(path, a.answers,
                                                          "nbest_predictions.json")));
    if (mrc_dataset_size(set) < a.batch) {
        tool_fail(TOOL_BAD_INPUT, "%s: found %zu questions, expected at least %zu", a.questions,
                  mrc_dataset_size(set), a.batch);
    }
    verified = tool_allocate(mrc_dataset_size(set), sizeof *verified);
    verified_bytes = tool_allocate(mrc_dataset_size(set), sizeof *verified_bytes);
}

static void run_clients(void) {
    load_expected();
    client *list = tool_allocate(a.clients, sizeof *list);
    double *all, begun = tool_seconds(), before = resident();
    size_t n = 0;
    deadline = begun + a.seconds;
    for (size_t i = 0; i < a.clients; i++) {
        list[i].room = a.requests;
        list[i].ms = tool_allocate(a.requests, sizeof *list[i].ms);
        tool_check(NULL, mrc_ctx_new(&list[i].ctx, NULL));
        if (pthread_create(&list[i].thread, NULL, run_client, &list[i])) {
            tool_fail(TOOL_NO_MEMORY, "no memory for %zu clients", a.clients);
        }
    }
    for (size_t i = 0; i < a.clients; i++) pthread_join(list[i].thread, NULL);
    double seconds = tool_seconds() - begun, after = resident();
    for (size_t i = 0; i < a.clients; i++) n += list[i].n;
    all = tool_allocate(n, sizeof *all);
    n = 0;
    for (size_t i = 0; i < a.clients; i++) {
        for (size_t k = 0; k < list[i].n; k++) all[n++] = list[i].ms[k];
        mrc_ctx_free(list[i].ctx);
        free(list[i].ms);
    }
    if (!check(n > 0, "no requests", "")) return;
    if (a.crowded) check(refused > 0, "the queue has room for all", "");
    qsort(all, n, sizeof *all, by_size);
    printf("{\"clients\": %zu, \"requests\": %zu, \"seconds\": %.1f, "
           "\"requests_per_second\": %.1f, \"p50_ms\": %.2f, \"p99_ms\": %.2f, "
           "\"resident_mib\": [%.1f, %.1f]}\n", a.clients, n, seconds, (double)n / seconds,
           all[n / 2], all[n - 1 - n / 100], before, after);
    for (size_t i = 0; i < mrc_dataset_size(set); i++) free(verified[i]);
    free(verified);
    free(verified_bytes);
    free(all);
    free(list);
    mrc_json_free(predictions);
    mrc_json_free(n_best);
    mrc_dataset_free(set);
}

// Posts one body, which becomes a response.
static void post(const char *body, size_t bytes, response *r) {
    mrc_text t;
    int fd = dial();
    mrc_text_init(&t, ctx);
    post_head(&t, bytes);
    mrc_text_add(&t, body, bytes);
    send_all(fd, t.data, t.bytes);
    receive(fd, r);
    close(fd);
    mrc_text_free(&t);
}

//==============================================================================
// Answers from an index: ask's
//==============================================================================
static void check_asked(const mrc_json *asked) {
    static const char *const keys[][2] = {
        { "answer", "text" }, { "confidence", "probability" }, { "start", "start" },
        { "end", "end" }, { "score", "score" }, { "passage", "id" }, { "title", "title" },
        { "retrieval_score", "retrieval_score" }
    };
    const mrc_json *question = mrc_json_get(asked, "question"), *root = NULL;
    const mrc_json *list = mrc_json_get(asked, "answers"), *x = list->child;
    mrc_text body;
    response r = { 0 };
    mrc_json *tree = NULL;
    mrc_text_init(&body, ctx);
    mrc_text_init(&r.text, ctx);
    mrc_text_printf(&body, "{\"n_best\": %zu", list->n ? list->n : 1);
    tool_json_string(&body, "question", question->string);
    mrc_text_add(&body, "}", 1);
    post(body.data, body.bytes, &r);
    if (check(r.status == 200 && mrc_json_parse(ctx, &tree, "response", r.body, r.bytes, 0)
              == MRC_OK, question->string, r.body)) root = tree;
    const mrc_json *best = mrc_json_get(root, "n_best"), *passages = mrc_json_get(root, "passages");
    const mrc_json *e = best ? best->child : NULL;
    check(best && best->n == list->n, question->string, "another number of answers than ask's");
    for (; x && e; x = x->next, e = e->next) {
        const mrc_json *at = mrc_json_get(e, "passage"), *passage = passages->child;
        for (int64_t i = at->integer; i && passage; i--) passage = passage->next;
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            const mrc_json *ours = mrc_json_get(k < 5 ? e : passage, keys[k][1]);
            const mrc_json *theirs = mrc_json_get(x, keys[k][0]);
            check(same_text(ours, theirs) || same_number(ours, theirs), question->string,
                  keys[k][0]);
        }
    }
    mrc_json_free(tree);
    mrc_text_free(&body);
    mrc_text_free(&r.text);
}

static void check_all_asked(void) {     // a file of ask --json
    char *data, *line;
    size_t bytes;
    tool_check(ctx, mrc_file_read(ctx, &data, &bytes, a.asked));
    for (line = data; *line; line += strcspn(line, "\n") + 1) {
        mrc_json *asked;
        tool_check(ctx, mrc_json_parse(ctx, &asked, a.asked, line, strcspn(line, "\n"), 0));
        check_asked(asked);
        mrc_json_free(asked);
    }
    mrc_file_free(ctx, data);
}

int main(int argc, char **argv) {
    tool_flag flags[] = {
        { .name = "port", .size = &a.port, .required = 1, .min = 1, .max = 65535,
          .help = "where the service is" },
        { .name = "malformed", .flag = &a.malformed, .help = "send what must be refused" },
        { .name = "slow", .flag = &a.slow, .help = "begin requests and wait" },
        { .name = "index", .flag = &a.has_index, .help = "the service has an index" },
        { .name = "questions", .string = &a.questions, .value = "FILE", .help = "what to ask" },
        { .name = "answers", .string = &a.answers, .value = "DIR", .help = "what predict wrote" },
        { .name = "clients", .size = &a.clients, .preset = "1", .min = 1, .max = 1000,
          .help = "at once" },
        { .name = "requests", .size = &a.requests, .preset = "100", .min = 1, .max = 1e6,
          .help = "of each client, at most" },
        { .name = "for_seconds", .real = &a.seconds, .preset = "60", .min = 0, .max = 600,
          .help = "how long they ask, at most" },
        { .name = "crowded", .flag = &a.crowded,
          .help = "some find no room in the queue, and are told so" },
        { .name = "asked", .string = &a.asked, .value = "FILE", .help = "what ask --json printed" },
        { .name = "post", .string = &a.body, .value = "JSON", .help = "ask this --requests times" },
        { .name = "code", .size = &a.code, .preset = "200", .help = "what --post must get" },
        { .name = "holds", .string = &a.holds, .value = "TEXT", .help = "and what stands in it" },
        { .name = "answer_of", .string = &a.answer_of, .value = "FILE",
          .help = "print the first answer in a predictions.json, and no more" },
        { .name = "get", .string = &a.path, .value = "PATH", .help = "print what is there" },
        { .name = "batch", .size = &a.batch, .preset = "1", .min = 1, .max = 1000,
          .help = "questions in one request" },
        { 0 }
    };
    tool_program program = { .name = "serve_client", .flags = flags, .purpose = "Tests serve.",
                             .usage = "--port N --malformed | --questions FILE --answers DIR",
                             .examples = { "serve_client --port 8080 --malformed" } };
    tool_start(&program, argc, argv);
    tool_check(NULL, mrc_ctx_new(&ctx, NULL));
    if (a.answer_of) {
        mrc_json *tree;
        tool_check(ctx, mrc_json_load(ctx, &tree, a.answer_of));
        tool_print("%s\n", tree->child->string);
        return tool_finish();
    }
    if (a.malformed) send_malformed();
    if (a.slow) send_slow();
    if (a.questions && a.answers) run_clients();
    if (a.asked) check_all_asked();
    response r = { 0 };
    mrc_text_init(&r.text, ctx);
    for (size_t i = 0; a.body && i < a.requests; i++) {
        post(a.body, strlen(a.body), &r);
        check(r.status == (int)a.code, a.body, r.body);
        if (a.holds) check(strstr(r.body, a.holds) != NULL, a.holds, r.body);
    }
    if (a.path) {
        get(a.path, &r);
        tool_write_text(&r.text);
        check(r.status != 0, a.path, "nothing came");
    }
    mrc_text_free(&r.text);
    printf("%zu passed, %zu failed\n", passed, failed);
    mrc_ctx_free(ctx);
    return tool_finish() || failed;
}
