/* libcurl's multi handle on libuv: sockets as uv_poll, its timer as uv_timer. See transfer.h. */
#include "common/io/transfer.h"
#include "common/base/ensure.h"
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/banned.h"

#define IDLE_CONNECTIONS 512L
#define IDLE_SECONDS 60L

struct transfers {
    struct transfers_options options;
    CURLM *multi;
    uv_timer_t timer;
    struct transfer *first;
    bool freed;
};

/* A socket of the library; lives until libuv has let go of it. */
struct watch {
    uv_poll_t poll;
    struct transfers *transfers;
    curl_socket_t fd;
};

bool transfers_wait_for_answer(const struct transfers *transfers)
{
    for (const struct transfer *t = transfers->first; t != NULL; t = t->next) {
        long request_bytes = 0, answer_bytes = 0;

        curl_easy_getinfo(t->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
        curl_easy_getinfo(t->easy, CURLINFO_HEADER_SIZE, &answer_bytes);
        if (t->listed && request_bytes > 0 && answer_bytes == 0)
            return true;
    }
    return false;
}

/* Ended transfers are taken out one by one: what they call may begin and end others. */
static void take_ended(struct transfers *transfers)
{
    struct CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(transfers->multi, &left)) != NULL) {
        struct transfer *transfer = NULL;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
        ENSURE(transfer != NULL && transfer->listed);
        curl_multi_remove_handle(transfers->multi, transfer->easy);
        transfer->listed = false;
        transfer->ended(transfer, code);
    }
    if (transfers->options.turned != NULL)
        transfers->options.turned(transfers->options.ctx, transfers);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct transfers *transfers = watch->transfers;
    int flags = 0, running;

    if (status < 0)
        flags = CURL_CSELECT_ERR;
    if ((events & UV_READABLE) != 0)
        flags |= CURL_CSELECT_IN;
    if ((events & UV_WRITABLE) != 0)
        flags |= CURL_CSELECT_OUT;
    curl_multi_socket_action(transfers->multi, watch->fd, flags, &running);
    take_ended(transfers);
}

static void on_watch_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct transfers *transfers = ctx;
    struct watch *watch = socket_ctx;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
            curl_multi_assign(transfers->multi, fd, NULL);
        }
        return 0;
    }
    if (watch == NULL) {
        watch = mem_alloc(sizeof(*watch));
        watch->transfers = transfers;
        watch->fd = fd;
        watch->poll.data = watch;
        ENSURE(uv_poll_init_socket(transfers->options.loop, &watch->poll, fd) == 0);
        curl_multi_assign(transfers->multi, fd, watch);
    }
    uv_poll_start(&watch->poll, (what != CURL_POLL_OUT ? UV_READABLE : 0) | (what != CURL_POLL_IN ? UV_WRITABLE : 0),
                  on_poll);
    return 0;
}

static void on_timeout(uv_timer_t *timer)
{
    struct transfers *transfers = timer->data;
    int running;

    curl_multi_socket_action(transfers->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_ended(transfers);
}

static int on_timer(CURLM *multi, long timeout_ms, void *ctx)
{
    struct transfers *transfers = ctx;

    (void)multi;
    if (transfers->freed)
        return 0;
    if (timeout_ms < 0)
        uv_timer_stop(&transfers->timer);
    else /* never from inside: the library forbids to call it back here */
        uv_timer_start(&transfers->timer, on_timeout, (uint64_t)timeout_ms, 0);
    return 0;
}

struct transfers *transfers_new(const struct transfers_options *options)
{
    struct transfers *transfers = mem_alloc(sizeof(*transfers));

    ENSURE(curl_global_init(CURL_GLOBAL_DEFAULT) == 0);
    transfers->options = *options;
    transfers->multi = curl_multi_init();
    ENSURE(transfers->multi != NULL);
    uv_timer_init(options->loop, &transfers->timer);
    transfers->timer.data = transfers;
    curl_multi_setopt(transfers->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(transfers->multi, CURLMOPT_SOCKETDATA, transfers);
    curl_multi_setopt(transfers->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(transfers->multi, CURLMOPT_TIMERDATA, transfers);
    curl_multi_setopt(transfers->multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS);
    return transfers;
}

static void on_timer_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

void transfers_free(struct transfers *transfers)
{
    if (transfers == NULL)
        return;
    while (transfers->first != NULL)
        transfers->first->aborted(transfers->first);
    transfers->freed = true;
    uv_timer_stop(&transfers->timer);
    curl_multi_cleanup(transfers->multi);
    uv_close((uv_handle_t *)&transfers->timer, on_timer_closed);
    curl_global_cleanup();
}

const struct transfers_options *transfers_options(const struct transfers *transfers)
{
    return &transfers->options;
}

/* --- the rules for everybody */

/* The guard: asked with the address that is about to be connected, after the name was resolved. */
static curl_socket_t on_open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *transfer = ctx;
    char text[EGRESS_TEXT_SIZE] = "";

    if (purpose != CURLSOCKTYPE_IPCXN || !egress_allowed(transfer->transfers->options.egress, &address->addr, text)) {
        transfer->refused = true; /* the library goes on with the next address of the name, if there is one */
        snprintf(transfer->refused_text, sizeof(transfer->refused_text), "%s", text);
        return CURL_SOCKET_BAD;
    }
    transfer->permitted = true;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int on_close_socket(void *ctx, curl_socket_t fd)
{
    (void)ctx; /* also called for idle connections, when what opened them has gone */
    return close(fd);
}

void transfer_guard(struct transfers *transfers, struct transfer *transfer)
{
    CURL *easy = transfer->easy;

    transfer->transfers = transfers;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* an abort must not wait for a resolver thread */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* none, whatever the environment says */
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
    if (transfers->options.ca_file[0] != '\0')
        curl_easy_setopt(easy, CURLOPT_CAINFO, transfers->options.ca_file);
}

bool transfer_was_refused(const struct transfer *transfer, CURLcode code)
{
    return transfer->refused && !transfer->permitted && code == CURLE_COULDNT_CONNECT;
}

/* --- one of them */

void transfer_add(struct transfers *transfers, struct transfer *transfer)
{
    if (transfer->prev == NULL && transfers->first != transfer) {
        transfer->next = transfers->first;
        if (transfers->first != NULL)
            transfers->first->prev = transfer;
        transfers->first = transfer;
    }
    transfer->refused = transfer->permitted = false;
    ENSURE(curl_multi_add_handle(transfers->multi, transfer->easy) == CURLM_OK);
    transfer->listed = true;
}

void transfer_forget(struct transfer *transfer)
{
    struct transfers *transfers = transfer->transfers;

    if (transfers == NULL) /* nobody has guarded it: it was never added */
        return;
    if (transfer->listed) {
        curl_multi_remove_handle(transfers->multi, transfer->easy);
        transfer->listed = false;
    }
    if (transfer->prev != NULL)
        transfer->prev->next = transfer->next;
    else if (transfers->first == transfer)
        transfers->first = transfer->next;
    if (transfer->next != NULL)
        transfer->next->prev = transfer->prev;
    transfer->next = transfer->prev = NULL;
}

/* --- addresses */

static bool has_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK;

    curl_free(text);
    return has;
}

const char *transfer_url_fault(const char *text)
{
    CURLU *url = curl_url();
    const char *fault = NULL;

    if (curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK || !has_part(url, CURLUPART_HOST))
        fault = "url must be an absolute address such as https://shop.example/events";
    else if (strncasecmp(text, "https://", 8) != 0 && strncasecmp(text, "http://", 7) != 0) /* the library takes less */
        fault = "url must begin with https:// or http://";
    else if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        fault = "url must not hold a user or password: what is sent is signed";
    else if (has_part(url, CURLUPART_FRAGMENT))
        fault = "url must not have a fragment: it would not be sent";
    curl_url_cleanup(url);
    return fault;
}
