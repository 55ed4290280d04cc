/* One HTTP request of a step, redirects included; see http_task.h. The loop's side of libcurl is common/io/transfer.c.
 */
#include "common/base/http_status.h"
#include "common/base/fault.h"
#include "common/base/ensure.h"
#include "common/base/metrics.h"
#include "common/io/retry_after.h"
#include "common/io/transfer.h"
#include "worker/http_output.h"
#include "worker/http_request.h"
#include "worker/http_task.h"
#include <strings.h>

#include "common/base/banned.h"

#define ERROR_BODY_KEPT ((size_t)4096)
#define ERROR_BODY_READ ((size_t)64 << 10) /* of a failing answer; more of it ends the transfer */
#define CONNECT_TIMEOUT_MS 30000L
#define SENDS_MAX 2u /* of one request */
#define USER_AGENT "ropewalk-worker"

struct http_task {
    struct transfer transfer; /* first */
    struct http_client *client;
    struct arena *arena; /* owns this struct too */
    const struct task *task;
    struct http_request_spec spec;
    bool once;
    http_task_fn done;
    void *ctx;
    struct curl_slist *header_list;
    struct http_headers headers;
    struct buf body;
    size_t body_bytes;
    const char *url;           /* of this hop */
    unsigned redirects, sends; /* sends: of this hop's request */
    bool to_get, body_dropped, other_origin, resend_refused;
    bool head_ended, too_large, enough, sent, answered;
    struct mono_us until; /* 0: no bound */
    char error[CURL_ERROR_SIZE];
};

struct http_client {
    struct transfers *transfers;
};

/* --- what curl calls
 * ---------------------------------------------------------------------------------------------------- */

/* Before each request that is sent. On a kept connection that dies before the answer the library sends it again by
 * itself, up to five times. Once is right: the server may have closed the connection while the request was on its way.
 * More often is for the step's policy, which waits in between and counts. */
static int on_request(void *ctx, char *to, char *from, int to_port, int from_port)
{
    struct http_task *http = ctx;

    (void)to, (void)from, (void)to_port, (void)from_port;
    http->sent = http->sent || http->sends > 0;
    if (http->sends >= (http->once ? 1 : SENDS_MAX)) {
        http->resend_refused = true;
        return CURL_PREREQFUNC_ABORT;
    }
    http->sends++;
    return CURL_PREREQFUNC_OK;
}

static size_t on_header(char *ptr, size_t size, size_t count, void *ctx)
{
    struct http_task *http = ctx;

    FAULT_POINT(worker_answer_begun);
    http->head_ended = ptr[0] == '\r' || ptr[0] == '\n';
    http_headers_add(&http->headers, (struct str){ptr, size * count});
    return size * count;
}

/* Counts what comes out of decompression, which is what must fit. */
static size_t on_body(char *ptr, size_t size, size_t count, void *ctx)
{
    struct http_task *http = ctx;
    size_t len = size * count, keep = http->spec.max_response_bytes;
    long status = 0;

    curl_easy_getinfo(http->transfer.easy, CURLINFO_RESPONSE_CODE, &status);
    http->body_bytes += len;
    if (status >= 200 && status <= 299) {
        if (http->body_bytes > keep) {
            http->too_large = true;
            return 0;
        }
    } else {
        keep = ERROR_BODY_KEPT + 1;
        if (http->body_bytes > ERROR_BODY_READ) {
            http->enough = true;
            return 0;
        }
    }
    if (http->body.len < keep)
        buf_append(&http->body, ptr, len < keep - http->body.len ? len : keep - http->body.len);
    return len;
}

/* --- the request
 * -------------------------------------------------------------------------------------------------------- */

static bool has_field(const struct http_task *http, const char *name)
{
    for (size_t i = 0; i < http->spec.field_count; i++)
        if (strcasecmp(http->spec.fields[i].name.ptr, name) == 0)
            return true;
    return false;
}

static void add_header(struct http_task *http, const char *name, struct str value)
{
    struct curl_slist *list;

    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.ptr[i] < 0x20 && value.ptr[i] != '\t')
            return;
    /* "name;" is the library's way to send an empty value; "name:" would mean "leave it out" */
    list = curl_slist_append(http->header_list, value.len == 0
                                                    ? arena_printf(http->arena, "%s;", name)
                                                    : arena_printf(http->arena, "%s: " STR_FMT, name, STR_ARG(value)));
    ENSURE(list != NULL);
    http->header_list = list;
}

static void add_headers(struct http_task *http)
{
    const struct task *task = http->task;
    char attempt[24];

    curl_slist_free_all(http->header_list);
    http->header_list = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; i < http->spec.field_count; i++) {
        const struct http_field *field = &http->spec.fields[i];

        if (http->body_dropped && strcasecmp(field->name.ptr, "content-type") == 0)
            continue;
        if (!http->other_origin || http_field_is_portable(field->name))
            add_header(http, field->name.ptr, field->value);
    }
    if (http->spec.body.ptr != NULL && !http->body_dropped && !has_field(http, "content-type"))
        add_header(http, "Content-Type", str_of(http->spec.body_type));
    else if (!has_field(http, "content-type")) /* the library would name a form */
        http->header_list = curl_slist_append(http->header_list, "Content-Type:");
    if (task->idempotency_key.len > 0 && !has_field(http, "idempotency-key"))
        add_header(http, "Idempotency-Key", task->idempotency_key);
    if (task->traceparent.len > 0 && !has_field(http, "traceparent"))
        add_header(http, "traceparent", task->traceparent);
    add_header(http, "Ropewalk-Run", task->run_id);
    add_header(http, "Ropewalk-Step", task->step);
    snprintf(attempt, sizeof(attempt), "%lld", (long long)task->attempt);
    add_header(http, "Ropewalk-Attempt", str_of(attempt));
    curl_easy_setopt(http->transfer.easy, CURLOPT_HTTPHEADER, http->header_list);
}

static void set_method(struct http_task *http)
{
    const char *method = http->to_get ? "GET" : http->spec.method.ptr;
    bool body = http->spec.body.ptr != NULL && !http->body_dropped;
    bool wants_length = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;

    curl_easy_setopt(http->transfer.easy, CURLOPT_CUSTOMREQUEST, NULL);
    curl_easy_setopt(http->transfer.easy, CURLOPT_HTTPGET, 1L);
    if (strcmp(method, "HEAD") == 0) { /* a body would make the library wait for one in the answer */
        curl_easy_setopt(http->transfer.easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (body || wants_length) {
        curl_easy_setopt(http->transfer.easy, CURLOPT_POST, 1L);
        curl_easy_setopt(http->transfer.easy, CURLOPT_POSTFIELDSIZE_LARGE, body ? (curl_off_t)http->spec.body.len : 0);
        curl_easy_setopt(http->transfer.easy, CURLOPT_POSTFIELDS, body ? http->spec.body.ptr : "");
    }
    curl_easy_setopt(http->transfer.easy, CURLOPT_CUSTOMREQUEST, method);
}

static void set_options(struct http_task *http)
{
    CURL *easy = http->transfer.easy;

    transfer_guard(http->client->transfers, &http->transfer);
    curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
    curl_easy_setopt(easy, CURLOPT_USERAGENT, USER_AGENT);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, http);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, http);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, http);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, http->error);
    if (!http->once) {
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
        return;
    }
    /* On a kept connection that dies before the answer, and for a stream that an HTTP/2 server refuses, the library
     * sends the request again by itself. */
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
}

/* False when the time is over. */
static bool send_request(struct http_task *http)
{
    buf_reset(&http->body);
    http_headers_reset(&http->headers);
    http->body_bytes = 0;
    http->resend_refused = false;
    http->sends = 0;
    http->answered = false; /* a redirect was an answer, and says nothing about the request it leads to */
    http->error[0] = '\0';
    if (http->until.us != 0) {
        int64_t left_ms = (http->until.us - clock_mono().us + US_PER_MS - 1) / US_PER_MS;

        if (left_ms <= 0)
            return false;
        curl_easy_setopt(http->transfer.easy, CURLOPT_TIMEOUT_MS, (long)left_ms);
    }
    curl_easy_setopt(http->transfer.easy, CURLOPT_URL, http->url);
    add_headers(http);
    set_method(http);
    transfer_add(http->client->transfers, &http->transfer);
    return true;
}

/* --- ends
 * --------------------------------------------------------------------------------------------------------------- */

static void task_free(struct http_task *http)
{
    if (http->transfer.easy != NULL)
        curl_easy_cleanup(http->transfer.easy);
    curl_slist_free_all(http->header_list);
    http_headers_deinit(&http->headers);
    buf_deinit(&http->body);
    arena_free(http->arena);
}

static void finish(struct http_task *http, const struct call_outcome *outcome)
{
    http_task_fn done = http->done;
    void *ctx = http->ctx;

    transfer_forget(&http->transfer);
    done(ctx, outcome);
    task_free(http);
}

static void fail(struct http_task *http, bool transient, const char *code, const char *message)
{
    finish(http, &(struct call_outcome){.transient = transient,
                                        .code = code,
                                        .message = str_of(message),
                                        .retry_after_ms = -1,
                                        .sent = http->sent,
                                        .answered = http->answered});
}

/* May a part of the request have left? Asked before the handle goes. */
static void note_sent(struct http_task *http)
{
    curl_off_t ready_us = 0;
    long request_bytes = 0;

    curl_easy_getinfo(http->transfer.easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us);
    curl_easy_getinfo(http->transfer.easy, CURLINFO_REQUEST_SIZE, &request_bytes);
    http->sent = http->sent || ready_us > 0 || request_bytes > 0;
}

static void answer_failed(struct http_task *http, int status, const char *code, bool transient)
{
    CLEANUP(buf_deinit) struct buf detail = {0};
    char message[64];

    buf_init(&detail, (size_t)4 << 20);
    http_output_write(&detail, status, &http->headers, buf_str(&http->body), ERROR_BODY_KEPT);
    snprintf(message, sizeof(message), "the answer's status was %d", status);
    finish(http, &(struct call_outcome){.transient = transient,
                                        .code = code,
                                        .message = str_of(message),
                                        .status = status,
                                        .retry_after_ms = http_retry_after_ms(
                                            http_headers_get(&http->headers, "retry-after"), clock_wall()),
                                        .sent = true,
                                        .answered = true,
                                        .detail = buf_str(&detail)});
}

static void answer_good(struct http_task *http, int status)
{
    CLEANUP(buf_deinit) struct buf output = {0};

    buf_init(&output, (size_t)256 << 20);
    http_output_write(&output, status, &http->headers, buf_str(&http->body), SIZE_MAX);
    finish(http, &(struct call_outcome){
                     .ok = true, .output = buf_str(&output), .status = status, .sent = true, .answered = true});
}

static void transfer_failed(struct http_task *http, CURLcode code)
{
    const char *text = http->error[0] != '\0' ? http->error : curl_easy_strerror(code);
    char message[512];

    if (http->resend_refused)
        text = "the connection ended without an answer";
    if (transfer_was_refused(&http->transfer, code)) {
        metric_add(METRIC_EGRESS_REFUSED, 1);
        snprintf(message, sizeof(message), "connecting to %s is not allowed", http->transfer.refused_text);
        fail(http, false, "egress_refused", message);
        return;
    }
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        fail(http, true, "dns", text);
        break;
    case CURLE_COULDNT_CONNECT:
        fail(http, true, "connect", text);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        fail(http, true, "timeout", http->sent ? "no complete answer in time" : "no connection in time");
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
        fail(http, false, "tls", text);
        break;
    case CURLE_SSL_CONNECT_ERROR:
        fail(http, true, "tls", text);
        break;
    case CURLE_URL_MALFORMAT:
        fail(http, false, "invalid_request", text);
        break;
    case CURLE_UNSUPPORTED_PROTOCOL: /* of the URL, or an answer that is no HTTP */
        fail(http, http->sent, http->sent ? "bad_response" : "invalid_request", text);
        break;
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_WEIRD_SERVER_REPLY:
        fail(http, true, "bad_response", text);
        break;
    default: /* cut, reset, or cut short */
        fail(http, true, "connection_lost", text);
        break;
    }
}

/* --- redirects
 * ------------------------------------------------------------------------------------------------------------ */

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = NULL, *y = NULL;
    bool same = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) == CURLUE_OK && strcasecmp(x, y) == 0;

    curl_free(x);
    curl_free(y);
    return same;
}

/* The next address, and what may not go there. NULL, with the reason, when it cannot be followed. */
static char *resolve_redirect(struct http_task *http, struct str location, const char **ret_code,
                              const char **ret_message)
{
    CURLU *from = curl_url(), *to = curl_url();
    char *scheme = NULL, *url = NULL, *copy = NULL;
    const char *target = arena_dup(http->arena, location.ptr, location.len);

    *ret_code = "bad_redirect";
    *ret_message = "the answer redirects to something that is no http or https address";
    if (curl_url_set(from, CURLUPART_URL, http->url, 0) != CURLUE_OK ||
        curl_url_set(to, CURLUPART_URL, http->url, 0) != CURLUE_OK ||
        curl_url_set(to, CURLUPART_URL, target, CURLU_URLENCODE) != CURLUE_OK ||
        curl_url_get(to, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        goto out;
    if (!same_part(from, to, CURLUPART_SCHEME) || !same_part(from, to, CURLUPART_HOST) ||
        !same_part(from, to, CURLUPART_PORT)) {
        http->other_origin = true;
        curl_url_set(to, CURLUPART_USER, NULL, 0);
        curl_url_set(to, CURLUPART_PASSWORD, NULL, 0);
    }
    if (str_starts(str_of(http->url), "https:") && strcmp(scheme, "http") == 0) {
        *ret_message = "the answer redirects from https to http";
        goto out;
    }
    curl_url_set(to, CURLUPART_FRAGMENT, NULL, 0);
    if (curl_url_get(to, CURLUPART_URL, &url, 0) == CURLUE_OK)
        copy = arena_dup(http->arena, url, strlen(url));
out:
    curl_free(scheme);
    curl_free(url);
    curl_url_cleanup(from);
    curl_url_cleanup(to);
    return copy;
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static void follow(struct http_task *http, int status, struct str location)
{
    const char *code, *message;
    bool head = strcmp(http->spec.method.ptr, "HEAD") == 0;

    if (http->redirects == http->spec.follow_redirects) {
        answer_failed(http, status, "too_many_redirects", false);
        return;
    }
    http->redirects++;
    http->url = resolve_redirect(http, location, &code, &message);
    if (http->url == NULL) {
        fail(http, false, code, message);
        return;
    }
    /* RFC 9110, 15.4: 303 asks for a GET of the other resource; after 301 and 302 to a POST everybody does the same */
    if ((status == 303 && !head) || ((status == 301 || status == 302) && strcmp(http->spec.method.ptr, "POST") == 0)) {
        http->to_get = true;
        http->body_dropped = true;
    }
    if (!send_request(http))
        fail(http, true, "timeout", "no complete answer in time");
}

/* --- life
 * --------------------------------------------------------------------------------------------------------------- */

static void on_ended(struct transfer *transfer, CURLcode code)
{
    struct http_task *http = (struct http_task *)transfer;
    struct str location;
    char name[16];
    long status = 0;

    note_sent(http);
    curl_easy_getinfo(http->transfer.easy, CURLINFO_RESPONSE_CODE, &status);
    if (http->too_large) {
        http->answered = true;
        fail(http, false, "too_large", "the answer's body is longer than the step allows");
        return;
    }
    if (code == CURLE_OK && !http->head_ended) /* cut in the middle of the head: libcurl takes it for an answer */
        code = CURLE_PARTIAL_FILE;
    if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && http->enough)) {
        transfer_failed(http, code);
        return;
    }
    http->answered = true;
    if (status >= 200 && status <= 299) {
        answer_good(http, (int)status);
        return;
    }
    location = http_headers_get(&http->headers, "location");
    if (is_redirect((int)status) && location.len > 0 && !http->once && http->spec.follow_redirects > 0) {
        follow(http, (int)status, location);
        return;
    }
    snprintf(name, sizeof(name), "http_%ld", status);
    answer_failed(http, (int)status, name, http_status_is_transient(status));
}

static void on_aborted(struct transfer *transfer)
{
    http_task_abort((struct http_task *)transfer);
}

struct http_task *http_task_new(struct http_client *client, const struct task *task, int64_t bound_us, bool once,
                                http_task_fn done, void *ctx)
{
    struct arena *arena = arena_new(2048);
    struct http_task *http = arena_alloc(arena, sizeof(*http));
    struct err err = {0};
    enum err_code rc;

    *http = (struct http_task){.client = client, .arena = arena, .task = task, .once = once, .done = done, .ctx = ctx};
    rc = http_request_read(task->with, arena, &http->spec, &err);
    http_headers_init(&http->headers);
    buf_init(&http->body, http->spec.max_response_bytes + ERROR_BODY_KEPT + 1);
    if (rc != ERR_OK) {
        fail(http, false, rc == ERR_NOT_AVAILABLE ? "not_available" : "invalid_request", err.message);
        return NULL;
    }
    http->transfer.ended = on_ended;
    http->transfer.aborted = on_aborted;
    http->url = http->spec.url.ptr;
    if (bound_us > 0)
        http->until.us = clock_mono().us + bound_us;
    http->transfer.easy = curl_easy_init();
    ENSURE(http->transfer.easy != NULL);
    set_options(http);
    if (!send_request(http)) {
        fail(http, true, "timeout", "no connection in time");
        return NULL;
    }
    return http;
}

void http_task_abort(struct http_task *http)
{
    note_sent(http);
    finish(http, &(struct call_outcome){.aborted = true,
                                        .code = "cancelled",
                                        .retry_after_ms = -1,
                                        .sent = http->sent,
                                        .answered = http->answered});
}

/* --- all of them
 * -------------------------------------------------------------------------------------------------------- */

static void on_turned(void *ctx, struct transfers *transfers)
{
    (void)ctx, (void)transfers;
    FAULT_POINT_IF(worker_request_sent, transfers_wait_for_answer(transfers));
}

struct http_client *http_client_new(const struct http_client_options *options)
{
    struct http_client *client = mem_alloc(sizeof(*client));

    client->transfers = transfers_new(&(struct transfers_options){
        .loop = options->loop, .egress = options->egress, .ca_file = options->ca_file, .turned = on_turned});
    return client;
}

void http_client_free(struct http_client *client)
{
    if (client == NULL)
        return;
    transfers_free(client->transfers);
    mem_free(client);
}
