/* Offers starts at a fixed rate, whatever comes back (open loop), or from connections that each wait for their answer
 * (closed loop, --rate 0), and tells what was answered: one JSON object at the end.
 *
 *   open_load --port N --path P --keys FILE [--rate R] [--seconds S] [--connections N] [--body TEXT] [--acked FILE]
 *
 * FILE has an organisation a line: its share of the load, and its API key. Latency counts from the moment that a
 * request was due, so that a server that stands still is seen to. A shot that finds no free connection opens one more,
 * up to
 * --connections; beyond that it waits, which the latency shows. --acked gets a line for each accepted run: its
 * organisation (its line in FILE, from 0) and its id. One thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX 65536
#define KEYS_MAX 64
#define GRACE_S 65 /* for answers, after the last shot */

struct organisation {
    double share, credit;
    char request[8192];
    size_t request_len;
    long accepted, refused;
};

struct connection {
    int fd;
    bool busy;
    size_t organisation;
    double due;
    size_t sent, got;
    struct connection *next_free;
    char answer[ANSWER_MAX];
};

struct sample {
    double *at;
    size_t len, cap;
};

static struct {
    int port;
    const char *path, *body, *keys, *acked;
    double rate, seconds;
    size_t connections;
} options = {.path = "/v1/workflows/one/runs", .body = "{\"input\": {}}", .seconds = 10, .connections = 64};

static struct organisation organisations[KEYS_MAX];
static size_t organisation_count;
static struct connection **all, *free_ones;
static size_t opened, busy_count;
static int epoll;
static FILE *acked;
static long statuses[600], broken, without_retry_after, retry_after_min = -1, retry_after_max;
static struct sample accepted, refused;
static double next_due, interval, began;
static long shots, planned;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void note(struct sample *sample, double value)
{
    if (sample->len == sample->cap) {
        sample->cap = sample->cap == 0 ? 4096 : sample->cap * 2;
        sample->at = realloc(sample->at, sample->cap * sizeof(*sample->at));
        if (sample->at == NULL)
            die("realloc");
    }
    sample->at[sample->len++] = value;
}

/* --- connections */

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};

    if (epoll_ctl(epoll, operation, c->fd, &event) != 0)
        die("epoll_ctl");
}

static void dial(struct connection *c)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS)
        die("connect");
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT | EPOLLET);
}

static void release(struct connection *c)
{
    c->busy = false;
    busy_count--;
    c->next_free = free_ones;
    free_ones = c;
}

static struct connection *take(void)
{
    struct connection *c = free_ones;

    if (c != NULL) {
        free_ones = c->next_free;
    } else if (opened < options.connections) {
        c = calloc(1, sizeof(*c));
        if (c == NULL)
            die("calloc");
        all[opened++] = c;
        dial(c);
    }
    if (c != NULL) {
        c->busy = true;
        busy_count++;
    }
    return c;
}

/* --- requests and answers */

static size_t turn(void)
{
    size_t best = 0;

    for (size_t i = 0; i < organisation_count; i++) {
        organisations[i].credit += organisations[i].share;
        if (organisations[i].credit > organisations[best].credit)
            best = i;
    }
    for (size_t i = 0; i < organisation_count; i++)
        organisations[best].credit -= organisations[i].share;
    return best;
}

static void push(struct connection *c)
{
    const struct organisation *o = &organisations[c->organisation];

    while (c->busy && c->sent < o->request_len) {
        ssize_t n = send(c->fd, o->request + c->sent, o->request_len - c->sent, MSG_NOSIGNAL);

        if (n < 0)
            return; /* EAGAIN or broken: epoll tells */
        c->sent += (size_t)n;
    }
}

static void shoot(struct connection *c, double due)
{
    c->organisation = turn();
    c->due = due;
    c->sent = c->got = 0;
    shots++;
    push(c);
}

static void judge(struct connection *c, int status, const char *head)
{
    struct organisation *o = &organisations[c->organisation];
    const char *retry = strcasestr(head, "\r\nretry-after:"), *id = strcasestr(head, "\r\nlocation: /v1/runs/");
    double took = now() - c->due;

    if (status < 0 || status >= 600)
        status = 0;
    statuses[status]++;
    if (status == 202 || status == 200) {
        o->accepted++;
        note(&accepted, took);
        if (acked != NULL && id != NULL)
            fprintf(acked, "%zu %.36s\n", c->organisation, id + strlen("\r\nlocation: /v1/runs/"));
        return;
    }
    o->refused++;
    note(&refused, took);
    if (status != 429 && status != 503)
        return;
    if (retry == NULL) {
        without_retry_after++;
        return;
    }
    long seconds = strtol(retry + strlen("\r\nretry-after:"), NULL, 10);

    if (retry_after_min < 0 || seconds < retry_after_min)
        retry_after_min = seconds;
    if (seconds > retry_after_max)
        retry_after_max = seconds;
}

/* True when the whole answer is here and has been counted. */
static bool complete(struct connection *c)
{
    char *end, *length;

    c->answer[c->got] = '\0';
    end = strstr(c->answer, "\r\n\r\n");
    if (end == NULL)
        return false;
    length = strcasestr(c->answer, "\r\ncontent-length:");
    if (length == NULL || length > end)
        return false;
    if (c->got < (size_t)(end + 4 - c->answer) + strtoul(length + strlen("\r\ncontent-length:"), NULL, 10))
        return false;
    end[2] = '\0';
    judge(c, (int)strtol(c->answer + strlen("HTTP/1.1 "), NULL, 10), c->answer);
    return true;
}

static void cut(struct connection *c)
{
    if (c->busy)
        broken++;
    close(c->fd);
    if (c->busy)
        release(c);
    dial(c);
}

static void on_event(struct connection *c, uint32_t events)
{
    if ((events & EPOLLOUT) != 0)
        push(c);
    for (;;) {
        ssize_t n = recv(c->fd, c->answer + c->got, ANSWER_MAX - 1 - c->got, 0);

        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0 || !c->busy || c->got + (size_t)n >= ANSWER_MAX - 1) {
            cut(c);
            return;
        }
        c->got += (size_t)n;
        if (complete(c))
            release(c);
    }
}

/* --- the load */

static void offer(double until)
{
    double at = now();

    if (options.rate == 0) {
        struct connection *c;

        while (at < until && (c = take()) != NULL)
            shoot(c, now());
        return;
    }
    while (shots < planned && next_due <= at) {
        struct connection *c = take();

        if (c == NULL)
            return;
        shoot(c, next_due);
        next_due += interval;
    }
}

static void run(void)
{
    struct epoll_event events[256];
    double until = began + options.seconds, give_up = until + GRACE_S;

    while (now() < give_up) {
        bool more = options.rate == 0 ? now() < until : shots < planned;

        offer(until);
        if (!more && busy_count == 0)
            break;
        int n = epoll_wait(epoll, events, 256, 1);

        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr, events[i].events);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void tell_sample(const char *name, struct sample *sample)
{
    size_t n = sample->len;

    if (n > 0)
        qsort(sample->at, n, sizeof(*sample->at), by_value);
    printf("\"%s\": {\"count\": %zu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}, ", name, n,
           n == 0 ? 0 : sample->at[n / 2] * 1e3, n == 0 ? 0 : sample->at[n * 99 / 100] * 1e3,
           n == 0 ? 0 : sample->at[n - 1] * 1e3);
}

static void tell(double seconds)
{
    const char *comma = "";

    printf("{\"seconds\": %.3f, \"shots\": %ld, \"connections\": %zu, \"broken\": %ld, \"unanswered\": %zu, ", seconds,
           shots, opened, broken, busy_count);
    printf("\"without_retry_after\": %ld, \"retry_after\": [%ld, %ld], ", without_retry_after, retry_after_min,
           retry_after_max);
    tell_sample("accepted", &accepted);
    tell_sample("refused", &refused);
    printf("\"organisations\": [");
    for (size_t i = 0; i < organisation_count; i++)
        printf("%s{\"accepted\": %ld, \"refused\": %ld}", i == 0 ? "" : ", ", organisations[i].accepted,
               organisations[i].refused);
    printf("], \"statuses\": {");
    for (int i = 0; i < 600; i++) {
        if (statuses[i] == 0)
            continue;
        printf("%s\"%d\": %ld", comma, i, statuses[i]);
        comma = ", ";
    }
    printf("}}\n");
}

/* --- arguments */

static void read_keys(void)
{
    FILE *file = fopen(options.keys, "r");
    char line[512];

    if (file == NULL)
        die(options.keys);
    while (organisation_count < KEYS_MAX && fgets(line, sizeof(line), file) != NULL) {
        struct organisation *o = &organisations[organisation_count];
        char *key;

        o->share = strtod(line, &key);
        key += strspn(key, " ");
        key[strcspn(key, "\n")] = '\0';
        int n = snprintf(o->request, sizeof(o->request),
                         "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer %s\r\n"
                         "content-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                         options.path, options.port, key, strlen(options.body), options.body);

        if (n < 0 || (size_t)n >= sizeof(o->request)) {
            fprintf(stderr, "open_load: the request is longer than %zu bytes\n", sizeof(o->request));
            exit(2);
        }
        o->request_len = (size_t)n;
        organisation_count++;
    }
    fclose(file);
}

static void read_arguments(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", 1, NULL, 'p'}, {"path", 1, NULL, 'u'},    {"keys", 1, NULL, 'k'},
        {"rate", 1, NULL, 'r'}, {"seconds", 1, NULL, 's'}, {"connections", 1, NULL, 'c'},
        {"body", 1, NULL, 'b'}, {"acked", 1, NULL, 'a'},   {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'p':
            options.port = (int)strtol(optarg, NULL, 10);
            break;
        case 'u':
            options.path = optarg;
            break;
        case 'k':
            options.keys = optarg;
            break;
        case 'r':
            options.rate = strtod(optarg, NULL);
            break;
        case 's':
            options.seconds = strtod(optarg, NULL);
            break;
        case 'c':
            options.connections = strtoul(optarg, NULL, 10);
            break;
        case 'b':
            options.body = optarg;
            break;
        case 'a':
            options.acked = optarg;
            break;
        default:
            exit(2);
        }
    }
    if (options.port <= 0 || options.keys == NULL || options.rate < 0 || options.connections == 0) {
        fprintf(stderr, "usage: open_load --port N --path P --keys FILE [--rate R] [--seconds S] [--connections N] "
                        "[--body TEXT] [--acked FILE]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    read_keys();
    if (organisation_count == 0) {
        fprintf(stderr, "open_load: no key in '%s'\n", options.keys);
        return 2;
    }
    all = calloc(options.connections, sizeof(struct connection *));
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (all == NULL || epoll < 0)
        die("open_load");
    if (options.acked != NULL && (acked = fopen(options.acked, "w")) == NULL)
        die(options.acked);
    interval = options.rate == 0 ? 0 : 1 / options.rate;
    planned = (long)(options.rate * options.seconds);
    began = next_due = now();
    run();
    tell(now() - began);
    if (acked != NULL && fclose(acked) != 0)
        die(options.acked);
    for (size_t i = 0; i < opened; i++) {
        close(all[i]->fd);
        free(all[i]);
    }
    free(all);
    free(accepted.at);
    free(refused.at);
    return 0;
}
