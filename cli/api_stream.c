/* Server-sent events (HTML living standard, 9.2), taken up again where they broke off. */
#include "cli/cli.h"
#include <curl/curl.h>
#include <unistd.h>

#include "common/base/banned.h"

#define MESSAGE_MAX ((size_t)64 << 20)
#define TRIES 5
#define PAUSE_US 500000

struct stream {
    const struct api_listener *listener;
    CURL *curl;
    struct buf line, data, refusal;
    char last_id[64];
    bool stopped, alive; /* alive: something came on this connection */
    bool over;           /* the caller's time is up */
    struct mono_us until, ticked_at;
};

static void end_of_message(struct stream *s)
{
    if (s->data.len > 0 && !s->stopped)
        s->stopped = !s->listener->on_event(s->listener->ctx, buf_str(&s->data));
    buf_reset(&s->data);
}

static void take_line(struct stream *s)
{
    struct str line = buf_str(&s->line);
    struct str name;

    if (line.len > 0 && line.ptr[line.len - 1] == '\r')
        line.len--;
    if (line.len == 0) {
        end_of_message(s);
        return;
    }
    name = str_cut(&line, ':');
    if (line.len > 0 && line.ptr[0] == ' ')
        line = (struct str){line.ptr + 1, line.len - 1};
    if (str_is(name, "data")) {
        if (s->data.len > 0)
            buf_append_char(&s->data, '\n');
        buf_append_str(&s->data, line);
    } else if (str_is(name, "id") && line.len < sizeof(s->last_id)) {
        memcpy(s->last_id, line.len == 0 ? "" : line.ptr, line.len);
        s->last_id[line.len] = '\0';
    }
}

static size_t take_bytes(char *ptr, size_t size, size_t n, void *ctx)
{
    struct stream *s = ctx;
    size_t len = size * n;
    long status = 0;

    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        buf_append(&s->refusal, ptr, len);
        return len;
    }
    s->alive = true;
    for (size_t i = 0; i < len && !s->stopped; i++) {
        if (ptr[i] != '\n') {
            buf_append_char(&s->line, ptr[i]);
            continue;
        }
        take_line(s);
        buf_reset(&s->line);
    }
    return s->stopped ? 0 : len;
}

/* libcurl calls this at least once a second. */
static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct stream *s = ctx;
    struct mono_us now = clock_mono();

    (void)a, (void)b, (void)c, (void)d;
    s->over = s->until.us != 0 && now.us >= s->until.us;
    if (s->listener->on_tick != NULL && now.us - s->ticked_at.us >= US_PER_S / 4) {
        s->ticked_at = now;
        s->listener->on_tick(s->listener->ctx);
    }
    return s->over ? 1 : 0;
}

static enum cli_exit refused(struct stream *s, long status)
{
    struct answer answer = {.status = status};

    answer.text = mem_dup(s->refusal.len == 0 ? "" : s->refusal.ptr, s->refusal.len);
    answer.text_bytes = s->refusal.len;
    answer.json = json_parse((struct str){answer.text, answer.text_bytes});
    api_problem(&answer, NULL);
    answer_deinit(&answer);
    return CLI_REFUSED;
}

/* One connection. CLI_DONE when the listener has stopped it, CLI_UNREACHABLE to try again. */
static enum cli_exit stream_once(const struct cli *cli, const char *path, struct stream *s, char *why)
{
    struct api_request request = {.method = "GET", .path = path};
    struct curl_slist *headers = api_headers(cli, &request, s->last_id);
    CLEANUP(buf_deinit) struct buf url = {0};
    long status = 0;

    buf_init(&url, 1 << 16);
    buf_printf(&url, "%s%s", cli->url, path);
    s->curl = curl_easy_init();
    curl_easy_setopt(s->curl, CURLOPT_URL, url.ptr);
    curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(s->curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(s->curl, CURLOPT_LOW_SPEED_LIMIT, 1L); /* heartbeats come every 15 s */
    curl_easy_setopt(s->curl, CURLOPT_LOW_SPEED_TIME, 40L);
    curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(s->curl, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFODATA, s);
    (void)curl_easy_perform(s->curl);
    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(s->curl);
    curl_slist_free_all(headers);
    if (s->stopped)
        return CLI_DONE;
    if (s->over)
        return CLI_WAIT_OVER;
    if (status != 0 && status != 200 && status < 500)
        return refused(s, status);
    if (status >= 500)
        (void)snprintf(why, CURL_ERROR_SIZE, "it answered %ld", status);
    return CLI_UNREACHABLE;
}

/* Half a second, or less when the caller's time is up before. */
static void pause_before_retry(struct stream *s)
{
    int64_t left = s->until.us == 0 ? PAUSE_US : s->until.us - clock_mono().us;

    if (left > 0)
        (void)usleep((useconds_t)(left < PAUSE_US ? left : PAUSE_US));
    s->over = s->until.us != 0 && clock_mono().us >= s->until.us;
}

enum cli_exit api_stream(const struct cli *cli, const char *path, const struct api_listener *listener)
{
    struct stream s = {.listener = listener};
    char why[CURL_ERROR_SIZE] = "";
    enum cli_exit rc = CLI_UNREACHABLE;

    buf_init(&s.line, MESSAGE_MAX);
    buf_init(&s.data, MESSAGE_MAX);
    buf_init(&s.refusal, 1 << 20);
    if (listener->timeout_s > 0)
        s.until.us = clock_mono().us + listener->timeout_s * US_PER_S;
    for (int tries = 0; rc == CLI_UNREACHABLE && tries < TRIES; tries++) {
        if (tries > 0)
            pause_before_retry(&s);
        if (s.over) {
            rc = CLI_WAIT_OVER;
            break;
        }
        s.alive = false;
        buf_reset(&s.line);
        buf_reset(&s.data);
        buf_reset(&s.refusal);
        rc = stream_once(cli, path, &s, why);
        if (s.alive)
            tries = 0;
    }
    buf_deinit(&s.line);
    buf_deinit(&s.data);
    buf_deinit(&s.refusal);
    return rc == CLI_UNREACHABLE ? api_unreachable(cli, why[0] == '\0' ? "the stream of events broke" : why) : rc;
}
