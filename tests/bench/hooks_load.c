/* Sends prepared HTTP requests at a constant rate, or as fast as they are answered, and says how long the answers took.
 *
 *   bench_hooks_load HOST PORT FILE RATE CONNECTIONS      RATE in requests a second, 0: as fast as answers come
 *
 * FILE: each request as LENGTH\n and its bytes. At a rate a request's time begins when it is due, not when a connection
 * was free for it. One JSON line at the end. Answers must have a Content-Length. */
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/base/str.h"
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "common/base/banned.h"

#define CONNECTIONS_MAX 1024
#define ANSWER_MAX 65536

struct conn {
    uv_tcp_t tcp;
    uv_connect_t connecting;
    uv_write_t writing;
    bool busy;
    struct mono_us due;
    char answer[ANSWER_MAX];
    size_t len;
};

static uv_loop_t loop;
static uv_timer_t tick;
static struct str *requests;
static size_t request_count, next_request, answered, connected, conn_count;
static struct mono_us *dues; /* when each was due */
static size_t due_count;
static int64_t *took_us;
static size_t statuses[600];
static double rate;
static struct mono_us began;
static struct conn *conns;

static void die(const char *what)
{
    fprintf(stderr, "bench_hooks_load: %s\n", what);
    exit(1);
}

static void on_written(uv_write_t *req, int status)
{
    (void)req;
    if (status != 0)
        die(uv_strerror(status));
}

static void send_next(struct conn *conn)
{
    struct str request = requests[next_request];
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)request.ptr, (unsigned)request.len);

    conn->busy = true;
    conn->due = dues[next_request++];
    conn->len = 0;
    ENSURE(uv_write(&conn->writing, (uv_stream_t *)&conn->tcp, &buf, 1, on_written) == 0);
}

/* One connection after the other, so that none is idle for long enough to be closed. */
static void send_due(void)
{
    static size_t turn;

    for (size_t i = 0; i < conn_count && next_request < due_count; i++, turn++)
        if (!conns[turn % conn_count].busy)
            send_next(&conns[turn % conn_count]);
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static double ms_at(double share)
{
    size_t at = (size_t)((double)answered * share);

    return (double)took_us[at < answered ? at : answered - 1] / 1e3;
}

static void finish(void)
{
    double seconds = (double)(clock_mono().us - began.us) / 1e6;

    qsort(took_us, answered, sizeof(*took_us), by_size);
    printf("{\"answers\": %zu, \"seconds\": %.3f, \"p50_ms\": %.3f, \"p90_ms\": %.3f, ", answered, seconds, ms_at(.5),
           ms_at(.9));
    printf("\"p99_ms\": %.3f, \"max_ms\": %.3f", ms_at(.99), ms_at(1));
    printf(", \"statuses\": {");
    for (size_t i = 0, n = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        if (statuses[i] > 0)
            printf("%s\"%zu\": %zu", n++ > 0 ? ", " : "", i, statuses[i]);
    printf("}}\n");
    exit(0);
}

/* Is the answer whole? */
static bool is_whole(const struct conn *conn, uint32_t *ret_status)
{
    struct str answer = {conn->answer, conn->len}, line;
    const char *head = memmem(answer.ptr, answer.len, "\r\n\r\n", 4), *length;
    uint32_t bytes;

    if (head == NULL)
        return false;
    if (answer.len < 12 || !parse_u32((struct str){answer.ptr + 9, 3}, 100, 599, ret_status))
        die("what came is no answer");
    length = memmem(answer.ptr, (size_t)(head - answer.ptr), "ontent-", 7);
    while (length != NULL && strncmp(length + 8, "ength:", 6) != 0)
        length = memmem(length + 1, (size_t)(head - length) - 1, "ontent-", 7);
    if (length == NULL)
        die("an answer has no Content-Length");
    line = (struct str){length + 14, answer.len - (size_t)(length + 14 - answer.ptr)};
    if (!parse_u32(str_trim(str_cut(&line, '\r')), 0, ANSWER_MAX, &bytes))
        die("an answer's Content-Length is no number");
    return conn->len >= (size_t)(head + 4 - answer.ptr) + bytes;
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *conn = handle->data;

    (void)suggested;
    *buf = uv_buf_init(conn->answer + conn->len, (unsigned)(sizeof(conn->answer) - conn->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *conn = stream->data;
    uint32_t status = 0;

    (void)buf;
    if (n < 0)
        die(uv_strerror((int)n));
    conn->len += (size_t)n;
    if (!is_whole(conn, &status))
        return;
    took_us[answered++] = clock_mono().us - conn->due.us;
    statuses[status]++;
    conn->busy = false;
    if (answered == request_count)
        finish();
    if (rate == 0 && due_count < request_count)
        dues[due_count++] = clock_mono();
    if (next_request < due_count)
        send_next(conn);
}

static void on_tick(uv_timer_t *timer)
{
    struct mono_us now = clock_mono();
    size_t until = (size_t)((double)(now.us - began.us) / 1e6 * rate) + 1;

    (void)timer;
    while (due_count < request_count && due_count < until)
        dues[due_count++] = now;
    send_due();
}

static void on_connected(uv_connect_t *req, int status)
{
    struct conn *conn = req->data;

    if (status != 0)
        die(uv_strerror(status));
    uv_tcp_nodelay(&conn->tcp, 1);
    uv_read_start((uv_stream_t *)&conn->tcp, on_room, on_read);
    if (++connected < conn_count)
        return;
    began = clock_mono();
    if (rate > 0) {
        uv_timer_start(&tick, on_tick, 0, 1);
        return;
    }
    while (due_count < conn_count && due_count < request_count)
        dues[due_count++] = began;
    send_due();
}

static void read_requests(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t room = 0;
    char line[32];

    if (file == NULL)
        die("cannot open the requests");
    while (fgets(line, sizeof(line), file) != NULL) {
        uint32_t len;
        char *bytes;

        if (!parse_u32(str_trim(str_of(line)), 1, 1U << 24, &len))
            die("a request has no length");
        if (request_count == room) {
            room = room == 0 ? 1024 : room * 2;
            requests = mem_grow(requests, room, sizeof(*requests));
        }
        bytes = mem_alloc(len);
        if (fread(bytes, 1, len, file) != len)
            die("a request is cut off");
        requests[request_count++] = (struct str){bytes, len};
    }
    fclose(file);
    if (request_count == 0)
        die("there are no requests");
    dues = mem_alloc(request_count * sizeof(*dues));
    took_us = mem_alloc(request_count * sizeof(*took_us));
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    uint32_t port = 0, count = 0, per_second = 0;

    if (argc != 6 || !parse_u32(str_of(argv[2]), 1, 65535, &port) ||
        !parse_u32(str_of(argv[4]), 0, 1000000, &per_second) ||
        !parse_u32(str_of(argv[5]), 1, CONNECTIONS_MAX, &count) || uv_ip4_addr(argv[1], (int)port, &address) != 0)
        die("usage: bench_hooks_load HOST PORT FILE RATE CONNECTIONS");
    read_requests(argv[3]);
    rate = per_second;
    conn_count = count;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &tick);
    conns = mem_alloc(conn_count * sizeof(*conns));
    for (size_t i = 0; i < conn_count; i++) {
        uv_tcp_init(&loop, &conns[i].tcp);
        conns[i].tcp.data = conns[i].connecting.data = &conns[i];
        ENSURE(uv_tcp_connect(&conns[i].connecting, &conns[i].tcp, (const struct sockaddr *)&address, on_connected) ==
               0);
    }
    return uv_run(&loop, UV_RUN_DEFAULT);
}
