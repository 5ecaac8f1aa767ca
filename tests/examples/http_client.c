// Asks a running `mrc serve` over HTTP and prints its JSON: http_client HOST PORT QUESTION PASSAGE
#define _POSIX_C_SOURCE 200809L
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// A JSON string of s, which is UTF-8: only what JSON must not hold as it is gets escaped.
static char *quote(const char *s) {
    char *out = malloc(6 * strlen(s) + 3), *to = out;
    if (!out) exit(1);
    *to++ = '"';
    for (; *s; s++) {
        if ((unsigned char)*s < ' ') to += sprintf(to, "\\u%04x", (unsigned)(unsigned char)*s);
        else {
            if (*s == '"' || *s == '\\') *to++ = '\\';
            *to++ = *s;
        }
    }
    strcpy(to, "\"");
    return out;
}

static int connect_to(const char *host, const char *port) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *a;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &list) != 0) return -1;
    for (a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: http_client HOST PORT QUESTION PASSAGE\n");
        return 2;
    }
    int fd = connect_to(argv[1], argv[2]);
    if (fd < 0) {
        fprintf(stderr, "http_client: %s:%s: cannot connect\n", argv[1], argv[2]);
        return 1;
    }
    char *question = quote(argv[3]), *context = quote(argv[4]);
    size_t body = strlen(question) + strlen(context)
                + strlen("{\"question\": , \"context\": }");
    FILE *f = fdopen(fd, "r+");
    if (!f) return 1;
    fprintf(f, "POST /v1/answer HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\nConnection: close\r\n\r\n"
               "{\"question\": %s, \"context\": %s}",
            argv[1], body, question, context);
    fflush(f);
    char line[65536];
    int code = 0, head = 1;
    while (fgets(line, sizeof line, f)) {
        if (head && !code) sscanf(line, "HTTP/1.1 %d", &code);
        if (!head) fputs(line, stdout);
        if (head && (!strcmp(line, "\r\n") || !strcmp(line, "\n"))) head = 0;
    }
    fclose(f);
    free(question);
    free(context);
    return code == 200 ? 0 : 1;
}
