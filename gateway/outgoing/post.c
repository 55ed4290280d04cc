/* See post.h. Signed as Standard Webhooks has it, by the row that incoming ones are checked by. */
#include "gateway/outgoing/post.h"
#include "common/base/ensure.h"
#include "common/base/metrics.h"
#include "common/io/retry_after.h"
#include "common/webhook/scheme.h"
#include <inttypes.h>
#include <strings.h>

#include "common/base/banned.h"

#define CONNECT_TIMEOUT_MS 5000L
#define ANSWER_READ ((size_t)64 << 10) /* more of a body ends the transfer: the status is what counts */
#define SIGNATURE_MAX 512
#define RETRY_AFTER_SIZE 64

struct post {
    struct transfer transfer; /* first */
    post_fn done;
    void *ctx;
    struct curl_slist *headers;
    struct mono_us began;
    struct buf answer; /* the beginning of the body */
    size_t answer_bytes;
    bool head_ended, enough;
    char retry_after[RETRY_AFTER_SIZE];
    char error[CURL_ERROR_SIZE];
};

/* --- signing */

struct named {
    const char *id;
    char seconds[24];
};

static struct str header_of(void *ctx, const char *lower_name)
{
    const struct named *named = ctx;

    if (strcmp(lower_name, "webhook-id") == 0)
        return str_of(named->id);
    return strcmp(lower_name, "webhook-timestamp") == 0 ? str_of(named->seconds) : STR_NONE;
}

/* "v1,BASE64 v1,BASE64": whoever checks takes the one that fits a secret of theirs. */
static bool sign(const struct post_request *request, const struct named *named, struct buf *out)
{
    const struct hook_scheme *scheme = hook_scheme_find(STR("standard-webhooks"));
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    const struct hook_message message = {.method = STR("POST"),
                                         .url = str_of(request->url),
                                         .body = request->body,
                                         .header = header_of,
                                         .ctx = (void *)(uintptr_t)named};

    ENSURE(scheme != NULL);
    for (size_t i = 0; i < request->secret_count; i++) {
        if (i > 0)
            buf_append_char(out, ' ');
        if (!hook_scheme_sign(scheme, &message, request->secrets[i], arena, out))
            return false;
    }
    return !out->overflow;
}

/* --- what curl calls */

static size_t on_header(char *ptr, size_t size, size_t count, void *ctx)
{
    struct post *post = ctx;
    struct str value = str_trim((struct str){ptr, size * count});
    struct str name = str_cut(&value, ':');

    post->head_ended = ptr[0] == '\r' || ptr[0] == '\n';
    if (name.len == strlen("retry-after") && strncasecmp(name.ptr, "retry-after", name.len) == 0 && value.ptr != NULL &&
        value.len < RETRY_AFTER_SIZE)
        snprintf(post->retry_after, sizeof(post->retry_after), STR_FMT, STR_ARG(value));
    return size * count;
}

static size_t on_body(char *ptr, size_t size, size_t count, void *ctx)
{
    struct post *post = ctx;
    size_t len = size * count, room = POST_ANSWER_KEPT - post->answer.len;

    buf_append(&post->answer, ptr, len < room ? len : room);
    post->answer_bytes += len;
    post->enough = post->answer_bytes > ANSWER_READ;
    return post->enough ? 0 : len;
}

/* --- the end */

/* What PostgreSQL and people can read: other bytes become '?'. */
static struct str readable(struct buf *text)
{
    for (size_t i = 0; i < text->len;) {
        size_t step = utf8_len_at(text->ptr + i, text->len - i);

        if (step == 0 || text->ptr[i] == '\0') {
            text->ptr[i] = '?';
            step = 1;
        }
        i += step;
    }
    return text->len == 0 ? STR_NONE : buf_str(text);
}

static void finish(struct post *post, struct post_outcome *outcome)
{
    outcome->took_us = clock_mono().us - post->began.us;
    outcome->answer = readable(&post->answer);
    transfer_forget(&post->transfer);
    post->done(post->ctx, outcome);
    curl_easy_cleanup(post->transfer.easy);
    curl_slist_free_all(post->headers);
    buf_deinit(&post->answer);
    mem_free(post);
}

static void on_ended(struct transfer *transfer, CURLcode code)
{
    struct post *post = (struct post *)transfer;
    struct post_outcome outcome = {.retry_after_ms = -1, .error = STR_NONE};
    char message[EGRESS_TEXT_SIZE + 64];
    long status = 0;

    curl_easy_getinfo(post->transfer.easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK && !post->head_ended) /* cut in the middle of the head: libcurl takes it for an answer */
        code = CURLE_PARTIAL_FILE;
    if (code == CURLE_OK || post->enough) {
        outcome.status = (int)status;
        outcome.retry_after_ms = http_retry_after_ms(str_of(post->retry_after), clock_wall());
    } else if (transfer_was_refused(transfer, code)) {
        metric_add(METRIC_EGRESS_REFUSED, 1);
        snprintf(message, sizeof(message), "connecting to %s is not allowed", transfer->refused_text);
        outcome.error = str_of(message);
    } else {
        outcome.error = str_of(post->error[0] != '\0' ? post->error : curl_easy_strerror(code));
    }
    finish(post, &outcome);
}

static void on_aborted(struct transfer *transfer)
{
    finish((struct post *)transfer,
           &(struct post_outcome){.aborted = true, .retry_after_ms = -1, .error = STR("given back")});
}

void post_abort(struct post *post)
{
    on_aborted(&post->transfer);
}

/* --- the beginning */

static void add_header(struct post *post, const char *name, const char *value)
{
    char line[SIGNATURE_MAX + 64];
    struct curl_slist *list;

    snprintf(line, sizeof(line), "%s: %s", name, value);
    list = curl_slist_append(post->headers, line);
    ENSURE(list != NULL);
    post->headers = list;
}

static void set_options(struct post *post, const struct post_request *request)
{
    CURL *easy = post->transfer.easy;

    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.ptr);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, post->headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "ropewalk");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, post);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, post);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, post->error);
}

struct post *post_new(struct transfers *transfers, const struct post_request *request, post_fn done, void *ctx)
{
    CLEANUP(buf_deinit) struct buf signature = {0};
    struct named named = {.id = request->id};
    struct post *post;

    snprintf(named.seconds, sizeof(named.seconds), "%" PRId64, request->now.us / US_PER_S);
    buf_init(&signature, SIGNATURE_MAX);
    if (!sign(request, &named, &signature))
        return NULL;
    post = mem_alloc(sizeof(*post));
    post->done = done;
    post->ctx = ctx;
    post->began = clock_mono();
    post->transfer.ended = on_ended;
    post->transfer.aborted = on_aborted;
    buf_init(&post->answer, POST_ANSWER_KEPT + 1);
    add_header(post, "Content-Type", "application/cloudevents+json; charset=utf-8");
    add_header(post, "webhook-id", named.id);
    add_header(post, "webhook-timestamp", named.seconds);
    add_header(post, "webhook-signature", signature.ptr);
    post->headers = curl_slist_append(post->headers, "Expect:");
    post->transfer.easy = curl_easy_init();
    ENSURE(post->transfer.easy != NULL);
    set_options(post, request);
    transfer_guard(transfers, &post->transfer);
    transfer_add(transfers, &post->transfer);
    return post;
}
