/* libcurl's multi handle on libuv: sockets as uv_poll, its timer as uv_timer. */
#include "worker/http_client.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"

#include "common/base/banned.h"

#define IDLE_CONNECTIONS 512L
#define IDLE_SECONDS 60L

/* A socket of the library; lives until libuv has let go of it. */
struct watch {
    uv_poll_t poll;
    struct http_client *client;
    curl_socket_t fd;
};

/* Has a request left that nothing has come back for? */
static bool waits_for_answer(const struct http_client *client)
{
    for (const struct http_task *http = client->first; http != NULL; http = http->next) {
        long request_bytes = 0, answer_bytes = 0;

        curl_easy_getinfo(http->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
        curl_easy_getinfo(http->easy, CURLINFO_HEADER_SIZE, &answer_bytes);
        if (http->listed && request_bytes > 0 && answer_bytes == 0)
            return true;
    }
    return false;
}

/* Ended transfers are taken out one by one: what they call may begin and end others. */
static void take_ended(struct http_client *client)
{
    struct CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
        struct http_task *http = NULL;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&http);
        ENSURE(http != NULL && http->listed);
        curl_multi_remove_handle(client->multi, http->easy);
        http->listed = false;
        http_task_transferred(http, code);
    }
    FAULT_POINT_IF(worker_request_sent, waits_for_answer(client));
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct http_client *client = watch->client;
    int flags = 0, running;

    if (status < 0)
        flags = CURL_CSELECT_ERR;
    if ((events & UV_READABLE) != 0)
        flags |= CURL_CSELECT_IN;
    if ((events & UV_WRITABLE) != 0)
        flags |= CURL_CSELECT_OUT;
    curl_multi_socket_action(client->multi, watch->fd, flags, &running);
    take_ended(client);
}

static void on_watch_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct http_client *client = ctx;
    struct watch *watch = socket_ctx;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
            curl_multi_assign(client->multi, fd, NULL);
        }
        return 0;
    }
    if (watch == NULL) {
        watch = mem_alloc(sizeof(*watch));
        watch->client = client;
        watch->fd = fd;
        watch->poll.data = watch;
        ENSURE(uv_poll_init_socket(client->options.loop, &watch->poll, fd) == 0);
        curl_multi_assign(client->multi, fd, watch);
    }
    uv_poll_start(&watch->poll, (what != CURL_POLL_OUT ? UV_READABLE : 0) | (what != CURL_POLL_IN ? UV_WRITABLE : 0),
                  on_poll);
    return 0;
}

static void on_timeout(uv_timer_t *timer)
{
    struct http_client *client = timer->data;
    int running;

    curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_ended(client);
}

static int on_timer(CURLM *multi, long timeout_ms, void *ctx)
{
    struct http_client *client = ctx;

    (void)multi;
    if (client->freed)
        return 0;
    if (timeout_ms < 0)
        uv_timer_stop(&client->timer);
    else /* never from inside: the library forbids to call it back here */
        uv_timer_start(&client->timer, on_timeout, (uint64_t)timeout_ms, 0);
    return 0;
}

struct http_client *http_client_new(const struct http_client_options *options)
{
    struct http_client *client = mem_alloc(sizeof(*client));

    ENSURE(curl_global_init(CURL_GLOBAL_DEFAULT) == 0);
    client->options = *options;
    client->multi = curl_multi_init();
    ENSURE(client->multi != NULL);
    uv_timer_init(options->loop, &client->timer);
    client->timer.data = client;
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS);
    return client;
}

static void on_timer_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

void http_client_free(struct http_client *client)
{
    if (client == NULL)
        return;
    while (client->first != NULL)
        http_task_abort(client->first);
    client->freed = true;
    uv_timer_stop(&client->timer);
    curl_multi_cleanup(client->multi);
    uv_close((uv_handle_t *)&client->timer, on_timer_closed);
    curl_global_cleanup();
}

void http_client_add(struct http_client *client, struct http_task *http)
{
    if (http->prev == NULL && client->first != http) {
        http->next = client->first;
        if (client->first != NULL)
            client->first->prev = http;
        client->first = http;
    }
    curl_easy_setopt(http->easy, CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
    ENSURE(curl_multi_add_handle(client->multi, http->easy) == CURLM_OK);
    http->listed = true;
}

void http_client_forget(struct http_client *client, struct http_task *http)
{
    if (http->listed) {
        curl_multi_remove_handle(client->multi, http->easy);
        http->listed = false;
    }
    if (http->prev != NULL)
        http->prev->next = http->next;
    else if (client->first == http)
        client->first = http->next;
    if (http->next != NULL)
        http->next->prev = http->prev;
    http->next = http->prev = NULL;
}
