// A search cluster that misbehaves as it is told: bad_server PORT_FILE MODE.  Prints nothing,
// writes its port to PORT_FILE, answers one connection after the other until it is killed.
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char request[1 << 20], answer[1 << 20];
static const char *mode;
static int accepted, bulks;

static int is(const char *name) { return !strcmp(mode, name); }

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
    size_t n = strlen(answer);
    snprintf(answer + n, sizeof answer - n, "%s", text);
}

// An item for each action, as _bulk has them.
static int bulk(void) {
    const char *at = strstr(request, "\r\n\r\n");
    int n = 0;
    bulks++;
    if (is("413") && bulks == 1) return 413;
    add("{\"items\": [");
    while (at && (at = strstr(at, "{\"index\": {\"_id\": \"")) != NULL) {
        char item[300], id[100];
        at += 19;
        snprintf(id, sizeof id, "%.*s", (int)strcspn(at, "\""), at);
        int status = is("items_400") && n == 1 ? 400 : is("items_429") && bulks < 3 && n % 2 ? 429
                   : is("items_storm") ? 429 : 201;
        if (is("items_short") && n == 1) break;
        snprintf(item, sizeof item, "%s{\"index\": {\"_id\": \"%s\", \"status\": %d%s}}",
                 n ? ", " : "", is("items_other") ? "z" : id, status,
                 status == 400 ? ", \"error\": {\"type\": "
                 "\"mapper_parsing_exception\", \"reason\": \"bad\\u0007field\"}" : "");
        add(item);
        accepted += status == 201;
        n++;
    }
    add("]}");
    return 200;
}

static int search(void) {
    const char *at = strstr(request, "\r\n\r\n");
    int n = 0;
    add("{\"responses\": [");
    while (at && (at = strstr(at, "{\"size\"")) != NULL) {
        if (n++) add(", ");
        add(is("late") ? "{\"timed_out\": true, \"hits\": {\"hits\": []}}"
            : is("shards") ? "{\"_shards\": {\"failed\": 1}, \"hits\": {\"hits\": []}}"
            : is("clauses") ? "{\"status\": 400, \"error\": {\"type\": \"too_many_clauses\", "
                              "\"reason\": \"maxClauseCount is set to 1024\"}}"
            : is("no_score") ? "{\"hits\": {\"hits\": [{\"_id\": \"a\", \"sort\": [null, 0]}]}}"
            : is("no_text") ? "{\"hits\": {\"hits\": [{\"_id\": \"a\", \"sort\": [1.5, 0]}]}}"
            : "{\"hits\": {\"hits\": [{\"_id\": \"a\", \"_source\": {\"title\": \"T\", \"text\": "
              "\"Anna lives in Oslo.\"}, \"sort\": [1.5, 0]}]}}");
        at++;
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
    if (strstr(path, "_msearch")) return search();
    if (!strncmp(path, "/ ", 2)) {
        add(is("opensearch") ? "{\"version\": {\"distribution\": \"opensearch\", \"number\": "
                               "\"2.1.0\"}}"
            : is("old") ? "{\"version\": {\"number\": \"6.8.0\"}}"
            : is("other") ? "{\"hello\": 1}" : "{\"version\": {\"number\": \"7.0.0\"}}");
        return 200;
    }
    if (strstr(path, "_alias/") || (is("missing") && strstr(path, "_mapping"))) {
        add("{}");
        return 404;
    }
    if (strstr(path, "_mapping")) {
        add(is("stranger") ? "{\"k\": {\"mappings\": {}}}"
            : "{\"k\": {\"mappings\": {\"_meta\": {\"mrc\": {\"analyzer\": \"whitespace\"}}}}}");
        return 200;
    }
    if (is("mapping") && !strncmp(request, "PUT", 3)) {
        add("{\"error\": {\"type\": \"mapper_parsing_exception\", \"reason\": \"no analyzer\"}}");
        return 400;
    }
    snprintf(text, sizeof text, "{\"count\": %d}", accepted + is("count"));
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
    memset(answer, ' ', sizeof answer);
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
    if (bind(s, (struct sockaddr *)&at, sizeof at) || listen(s, 16)
        || getsockname(s, (struct sockaddr *)&at, &bytes)) return 3;
    FILE *f = fopen(argv[1], "w");
    if (!f || fprintf(f, "%d\n", ntohs(at.sin_port)) < 0 || fclose(f)) return 4;
    for (;;) {
        int fd = accept(s, NULL, NULL);
        if (fd < 0) continue;
        serve(fd);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
}
