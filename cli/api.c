/* The server, over libcurl. */
#include "cli/cli.h"
#include "common/base/clock.h"
#include <curl/curl.h>
#include <unistd.h>
#include "common/base/banned.h"

#define ANSWER_MAX ((size_t)64 << 20)
#define RETRIES 5

void answer_deinit(struct answer *answer)
{
    mem_free(answer->text);
    json_decref(answer->json);
    *answer = (struct answer){0};
}

char *api_escape(const char *text)
{
    char *escaped = curl_easy_escape(NULL, text, 0);
    char *copy = mem_strdup(escaped == NULL ? "" : escaped);

    curl_free(escaped);
    return copy;
}

static size_t take_body(char *ptr, size_t size, size_t n, void *ctx)
{
    struct buf *body = ctx;

    buf_append(body, ptr, size * n);
    return body->overflow ? 0 : size * n;
}

static struct curl_slist *headers_of(const struct cli *cli, const struct api_request *request,
                                     const char *last_event_id)
{
    struct curl_slist *headers = NULL;
    struct buf line;

    buf_init(&line, 4096);
    buf_printf(&line, "Authorization: Bearer %s", cli->key);
    headers = curl_slist_append(headers, line.ptr);
    if (request->body != NULL)
        headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    if (request->idempotency_key != NULL) {
        buf_reset(&line);
        buf_printf(&line, "Idempotency-Key: %s", request->idempotency_key);
        headers = curl_slist_append(headers, line.ptr);
    }
    if (last_event_id != NULL) {
        headers = curl_slist_append(headers, "Accept: text/event-stream");
        if (last_event_id[0] != '\0') {
            buf_reset(&line);
            buf_printf(&line, "Last-Event-ID: %s", last_event_id);
            headers = curl_slist_append(headers, line.ptr);
        }
    }
    buf_deinit(&line);
    return headers;
}

/* problem+json, for people: what, where each fault is, and what to do about it. */
static void print_problem(const struct answer *answer)
{
    const json_t *faults = json_object_get(answer->json, "errors");
    const char *code = json_text(answer->json, "code");
    const char *title = json_text(answer->json, "detail");
    size_t i;
    json_t *fault;

    if (title == NULL)
        title = json_text(answer->json, "title");
    fprintf(stderr, "ropewalk: the server refused (%ld%s%s)%s%s\n", answer->status, code == NULL ? "" : " ",
            code == NULL ? "" : code, title == NULL ? "" : ": ", title == NULL ? "" : title);
    json_array_foreach(faults, i, fault)
    {
        const char *pointer = json_text(fault, "pointer");
        const char *hint = json_text(fault, "hint");
        fprintf(stderr, "  %s: %s (%s)\n", pointer == NULL || *pointer == '\0' ? "/" : pointer,
                json_text(fault, "message") == NULL ? "" : json_text(fault, "message"),
                json_text(fault, "code") == NULL ? "" : json_text(fault, "code"));
        if (hint != NULL && *hint != '\0')
            fprintf(stderr, "      %s\n", hint);
    }
    if (answer->json == NULL && answer->text_bytes > 0)
        fprintf(stderr, "  %.300s\n", answer->text);
}

static enum cli_exit unreachable(const struct cli *cli, const char *why)
{
    fprintf(stderr, "ropewalk: cannot reach %s: %s\n  is it running, and is ROPEWALK_URL right?\n", cli->url, why);
    return CLI_UNREACHABLE;
}

enum cli_exit api_call(const struct cli *cli, const struct api_request *request, struct answer *ret)
{
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = headers_of(cli, request, NULL);
    char why[CURL_ERROR_SIZE] = "";
    struct buf url, body;
    CURLcode rc;

    *ret = (struct answer){0};
    buf_init(&url, 64 << 10);
    buf_init(&body, ANSWER_MAX);
    buf_printf(&url, "%s%s", cli->url, request->path);
    curl_easy_setopt(curl, CURLOPT_URL, url.ptr);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 90L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    if (request->body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(request->body));
    }
    rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &ret->status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    buf_deinit(&url);
    if (rc != CURLE_OK) {
        buf_deinit(&body);
        return unreachable(cli, why[0] == '\0' ? curl_easy_strerror(rc) : why);
    }
    ret->text = buf_take(&body, &ret->text_bytes);
    if (ret->text == NULL)
        ret->text = mem_strdup("");
    ret->json = json_loadb(ret->text, ret->text_bytes, JSON_DECODE_ANY, NULL);
    if (ret->status >= 200 && ret->status < 300)
        return CLI_DONE;
    print_problem(ret);
    answer_deinit(ret);
    return CLI_REFUSED;
}

struct stream {
    struct buf line, data;
    char last_id[64];
    api_event_fn on_event;
    void *ctx;
    bool stopped, got_something;
    struct mono_us until; /* 0: no end */
    CURL *curl;
    struct buf error_body;
};

static void end_of_message(struct stream *s)
{
    if (s->data.len > 0 && !s->stopped)
        s->stopped = !s->on_event(s->ctx, s->data.ptr, s->data.len);
    buf_reset(&s->data);
}

/* One line of text/event-stream (HTML living standard, 9.2.6). */
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
    if (line.len > 0 && line.ptr[0] == ' ') {
        line.ptr++;
        line.len--;
    }
    if (str_is(name, "data")) {
        if (s->data.len > 0)
            buf_append_char(&s->data, '\n');
        buf_append_str(&s->data, line);
    } else if (str_is(name, "id") && line.len < sizeof(s->last_id)) {
        memcpy(s->last_id, line.ptr, line.len);
        s->last_id[line.len] = '\0';
    }
}

static size_t take_stream(char *ptr, size_t size, size_t n, void *ctx)
{
    struct stream *s = ctx;
    size_t len = size * n;
    long status = 0;

    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        buf_append(&s->error_body, ptr, len);
        return len;
    }
    s->got_something = true;
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

static int check_time(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct stream *s = ctx;

    (void)a, (void)b, (void)c, (void)d;
    return s->until.us != 0 && clock_mono().us >= s->until.us;
}

/* One connection. Returns CLI_DONE when the caller has stopped it, CLI_UNREACHABLE to try again. */
static enum cli_exit stream_once(const struct cli *cli, const char *path, struct stream *s, char *why)
{
    struct api_request request = {.method = "GET", .path = path};
    struct curl_slist *headers = headers_of(cli, &request, s->last_id);
    struct buf url;
    long status = 0;
    CURLcode rc;
    struct answer answer = {0};

    buf_init(&url, 64 << 10);
    buf_printf(&url, "%s%s", cli->url, path);
    s->curl = curl_easy_init();
    curl_easy_setopt(s->curl, CURLOPT_URL, url.ptr);
    curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(s->curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(s->curl, CURLOPT_LOW_SPEED_LIMIT, 1L); /* heartbeats come every 15 s */
    curl_easy_setopt(s->curl, CURLOPT_LOW_SPEED_TIME, 40L);
    curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, take_stream);
    curl_easy_setopt(s->curl, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFOFUNCTION, check_time);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFODATA, s);
    rc = curl_easy_perform(s->curl);
    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(s->curl);
    curl_slist_free_all(headers);
    buf_deinit(&url);
    if (s->stopped)
        return CLI_DONE;
    if (rc == CURLE_ABORTED_BY_CALLBACK)
        return CLI_WAIT_OVER;
    if (status != 0 && status != 200 && status < 500) {
        answer.status = status;
        answer.text = buf_take(&s->error_body, &answer.text_bytes);
        answer.json = json_loadb(answer.text == NULL ? "" : answer.text, answer.text_bytes, 0, NULL);
        print_problem(&answer);
        answer_deinit(&answer);
        return CLI_REFUSED;
    }
    return CLI_UNREACHABLE;
}

enum cli_exit api_stream(const struct cli *cli, const char *path, api_event_fn on_event, void *ctx, int timeout_s)
{
    struct stream s = {.on_event = on_event, .ctx = ctx};
    char why[CURL_ERROR_SIZE] = "";
    enum cli_exit rc = CLI_UNREACHABLE;

    buf_init(&s.line, ANSWER_MAX);
    buf_init(&s.data, ANSWER_MAX);
    buf_init(&s.error_body, 1 << 20);
    if (timeout_s > 0)
        s.until.us = clock_mono().us + timeout_s * US_PER_S;
    for (int tries = 0; rc == CLI_UNREACHABLE && tries < RETRIES; tries++) {
        if (tries > 0)
            (void)usleep(500000);
        s.got_something = false;
        buf_reset(&s.line);
        buf_reset(&s.data);
        rc = stream_once(cli, path, &s, why);
        if (s.got_something)
            tries = 0;
    }
    buf_deinit(&s.line);
    buf_deinit(&s.data);
    buf_deinit(&s.error_body);
    return rc == CLI_UNREACHABLE ? unreachable(cli, why[0] == '\0' ? "the stream of events broke" : why) : rc;
}
