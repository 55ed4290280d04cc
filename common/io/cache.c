/* Redis: hiredis under libuv; see cache.h. The only file that meets hiredis.
 *
 * A connection counts as up once Redis has answered a PING on it, so a frozen server whose kernel still accepts does
 * not take commands in. The oldest command unanswered for longer than the bound ends the connection; all that was in
 * flight is answered CACHE_DOWN then. Answers never come from inside cache_command. */
#include "common/io/cache.h"
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include <hiredis/async.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "common/base/banned.h"

#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 2000

struct waiting {
    struct waiting *next;
    struct cache *cache;
    cache_fn done;
    void *ctx;
    struct mono_us since;
};
struct waitings {
    struct waiting *head, *tail;
};

/* The library's socket under libuv; lives until libuv has let go of it. */
struct watch {
    uv_poll_t poll;
    struct cache *cache; /* NULL once the connection is gone */
    int events;
};

struct cache {
    uv_loop_t *loop;
    int timeout_ms;
    char host[256], port[8], password[256], db[12];
    redisAsyncContext *redis; /* NULL between connections */
    struct watch *watch;
    bool up, freed;
    uv_timer_t timer; /* next attempt, or the bound of commands in flight */
    uv_timer_t soon;  /* answers that must not come from inside cache_command */
    uv_getaddrinfo_t resolve;
    bool resolving;
    unsigned open_handles;
    int backoff_ms;
    struct waitings in_flight; /* in the order of their answers */
    struct waitings down;      /* to be answered CACHE_DOWN in the next turn */
};

static void start_connecting(struct cache *cache);
static void drop(struct cache *cache);

/* --- commands that wait ---------------------------------------------------------------------------------------------
 */

static void waiting_push(struct waitings *list, struct waiting *w)
{
    w->next = NULL;
    if (list->tail == NULL)
        list->head = w;
    else
        list->tail->next = w;
    list->tail = w;
}

static struct waiting *waiting_pop(struct waitings *list)
{
    struct waiting *w = list->head;

    if (w == NULL)
        return NULL;
    list->head = w->next;
    if (list->head == NULL)
        list->tail = NULL;
    return w;
}

static void answer(struct waiting *w, enum cache_status status, struct str value)
{
    if (w->done != NULL)
        w->done(w->ctx, status, value);
    mem_free(w);
}

static void answer_down(struct cache *cache)
{
    struct waitings list = cache->down; /* callbacks may add more: those come in their own turn */
    struct waiting *w;

    cache->down = (struct waitings){0};
    while ((w = waiting_pop(&list)) != NULL)
        answer(w, CACHE_DOWN, STR_NONE);
}

static void on_soon(uv_timer_t *timer)
{
    answer_down(timer->data);
}

static void on_reply(redisAsyncContext *redis, void *reply_ptr, void *ctx)
{
    struct waiting *w = ctx;
    struct cache *cache = w->cache;
    const redisReply *reply = reply_ptr;
    char number[24];

    (void)redis;
    if (reply == NULL) { /* the connection went away under it; drop() answers what is in flight, in order */
        return;
    }
    ENSURE(cache->in_flight.head == w);
    waiting_pop(&cache->in_flight);
    switch (reply->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        answer(w, CACHE_OK, (struct str){reply->str, reply->len});
        break;
    case REDIS_REPLY_INTEGER:
        snprintf(number, sizeof(number), "%lld", reply->integer);
        answer(w, CACHE_OK, str_of(number));
        break;
    case REDIS_REPLY_NIL:
        answer(w, CACHE_NIL, STR_NONE);
        break;
    case REDIS_REPLY_ERROR:
        answer(w, CACHE_ERROR, (struct str){reply->str, reply->len});
        break;
    default: /* lists: nobody here asks for one */
        answer(w, CACHE_OK, STR_NONE);
        break;
    }
}

/* --- hiredis on libuv ------------------------------------------------------------------------------------------------
 */

static void on_watch_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;

    /* Either call may end the connection, after which the watch has no cache. */
    if (watch->cache != NULL && (status < 0 || (events & UV_READABLE) != 0))
        redisAsyncHandleRead(watch->cache->redis);
    if (watch->cache != NULL && status >= 0 && (events & UV_WRITABLE) != 0)
        redisAsyncHandleWrite(watch->cache->redis);
}

static void watch_set(void *ptr, int add, int del)
{
    struct watch *watch = ptr;
    int events = (watch->events | add) & ~del;

    if (events == watch->events)
        return;
    watch->events = events;
    if (events == 0)
        uv_poll_stop(&watch->poll);
    else
        uv_poll_start(&watch->poll, events, on_socket);
}

static void add_read(void *ptr)
{
    watch_set(ptr, UV_READABLE, 0);
}
static void del_read(void *ptr)
{
    watch_set(ptr, 0, UV_READABLE);
}
static void add_write(void *ptr)
{
    watch_set(ptr, UV_WRITABLE, 0);
}
static void del_write(void *ptr)
{
    watch_set(ptr, 0, UV_WRITABLE);
}

static void on_cleanup(void *ptr)
{
    struct watch *watch = ptr;

    if (watch->cache == NULL)
        return;
    watch->cache = NULL;
    uv_poll_stop(&watch->poll);
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
}

/* --- connection ------------------------------------------------------------------------------------------------------
 */

static void on_timer(uv_timer_t *timer)
{
    struct cache *cache = timer->data;
    int64_t waited_us;

    if (cache->redis == NULL) {
        start_connecting(cache);
        return;
    }
    if (cache->in_flight.head == NULL)
        return;
    waited_us = clock_mono().us - cache->in_flight.head->since.us;
    if (waited_us >= cache->timeout_ms * US_PER_MS)
        drop(cache);
    else
        uv_timer_start(&cache->timer, on_timer, (uint64_t)((cache->timeout_ms * US_PER_MS - waited_us) / US_PER_MS + 1),
                       0);
}

static void retry_later(struct cache *cache)
{
    if (cache->freed)
        return;
    uv_timer_start(&cache->timer, on_timer, (uint64_t)cache->backoff_ms, 0);
    cache->backoff_ms = cache->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : cache->backoff_ms * 2;
}

/* The connection is gone, whoever ended it: answers everything and tries again later. */
static void lost(struct cache *cache)
{
    struct waiting *w;

    cache->redis = NULL;
    cache->watch = NULL;
    cache->up = false;
    while ((w = waiting_pop(&cache->in_flight)) != NULL)
        waiting_push(&cache->down, w);
    if (!cache->freed)
        uv_timer_start(&cache->soon, on_soon, 0, 0);
    retry_later(cache);
}

static void drop(struct cache *cache)
{
    redisAsyncContext *redis = cache->redis;

    cache->redis = NULL; /* so that on_gone knows that we did it */
    cache->up = false;
    redisAsyncFree(redis);
    lost(cache);
}

static void on_gone(const redisAsyncContext *redis, int status)
{
    struct cache *cache = redis->data;

    (void)status;
    if (cache->redis == redis)
        lost(cache);
}

static void on_connected(const redisAsyncContext *redis, int status)
{
    struct cache *cache = redis->data;

    if (status != REDIS_OK && cache->redis == redis)
        lost(cache); /* the library frees the context itself */
}

static void send_command(struct cache *cache, cache_fn done, void *ctx, size_t argc, const struct str *argv)
{
    const char *ptrs[16];
    size_t lens[16];
    struct waiting *w = mem_alloc(sizeof(*w));

    ENSURE(argc >= 1 && argc <= 16);
    for (size_t i = 0; i < argc; i++) {
        ptrs[i] = argv[i].ptr == NULL ? "" : argv[i].ptr;
        lens[i] = argv[i].len;
    }
    *w = (struct waiting){.cache = cache, .done = done, .ctx = ctx, .since = clock_mono()};
    if (cache->redis == NULL || redisAsyncCommandArgv(cache->redis, on_reply, w, (int)argc, ptrs, lens) != REDIS_OK) {
        waiting_push(&cache->down, w);
        if (!cache->freed)
            uv_timer_start(&cache->soon, on_soon, 0, 0);
        return;
    }
    if (cache->in_flight.head == NULL)
        uv_timer_start(&cache->timer, on_timer, (uint64_t)cache->timeout_ms + 1, 0);
    waiting_push(&cache->in_flight, w);
}

static void on_pong(void *ctx, enum cache_status status, struct str value)
{
    struct cache *cache = ctx;

    (void)value;
    /* A wrong password or a server that is still loading answers with an error: tried again later. */
    if (status == CACHE_OK) {
        cache->up = true;
        cache->backoff_ms = BACKOFF_FIRST_MS;
    } else if (status == CACHE_ERROR && cache->redis != NULL) {
        drop(cache);
    }
}

static void greet(struct cache *cache)
{
    if (cache->password[0] != '\0')
        send_command(cache, NULL, NULL, 2, (struct str[]){STR("AUTH"), str_of(cache->password)});
    if (cache->db[0] != '\0')
        send_command(cache, NULL, NULL, 2, (struct str[]){STR("SELECT"), str_of(cache->db)});
    send_command(cache, on_pong, cache, 1, (struct str[]){STR("PING")});
}

static void attach(struct cache *cache, redisAsyncContext *redis)
{
    struct watch *watch = mem_alloc(sizeof(*watch));
    int one = 1;

    cache->redis = redis;
    cache->watch = watch;
    watch->cache = cache;
    watch->poll.data = watch;
    setsockopt(redis->c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    ENSURE(uv_poll_init(cache->loop, &watch->poll, redis->c.fd) == 0);
    redis->data = cache;
    redis->ev.data = watch;
    redis->ev.addRead = add_read;
    redis->ev.delRead = del_read;
    redis->ev.addWrite = add_write;
    redis->ev.delWrite = del_write;
    redis->ev.cleanup = on_cleanup;
    redisAsyncSetConnectCallback(redis, on_connected);
    redisAsyncSetDisconnectCallback(redis, on_gone);
    greet(cache);
}

static void on_handle_closed(uv_handle_t *handle);

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct cache *cache = request->data;
    redisAsyncContext *redis = NULL;
    char ip[INET6_ADDRSTRLEN] = "";
    uint32_t port = 6379;

    cache->resolving = false;
    if (cache->freed) {
        uv_freeaddrinfo(found);
        on_handle_closed((uv_handle_t *)&cache->timer);
        return;
    }
    if (status == 0 && found->ai_family == AF_INET)
        uv_ip4_name((const struct sockaddr_in *)(const void *)found->ai_addr, ip, sizeof(ip));
    else if (status == 0 && found->ai_family == AF_INET6)
        uv_ip6_name((const struct sockaddr_in6 *)(const void *)found->ai_addr, ip, sizeof(ip));
    uv_freeaddrinfo(found);
    if (ip[0] != '\0' && parse_u32(str_of(cache->port), 1, 65535, &port))
        redis = redisAsyncConnect(ip, (int)port);
    if (redis != NULL && redis->err != 0) {
        redisAsyncFree(redis);
        redis = NULL;
    }
    if (redis == NULL)
        retry_later(cache);
    else
        attach(cache, redis);
}

static void start_connecting(struct cache *cache)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

    cache->resolve.data = cache;
    if (uv_getaddrinfo(cache->loop, &cache->resolve, on_resolved, cache->host, cache->port, &hints) == 0)
        cache->resolving = true;
    else
        retry_later(cache);
}

/* --- life
 * ------------------------------------------------------------------------------------------------------------- */

static void keep(char *to, size_t size, struct str s, const char *fallback)
{
    if (s.len == 0 || s.len >= size)
        s = str_of(fallback);
    memcpy(to, s.ptr, s.len);
    to[s.len] = '\0';
}

/* redis://[[user]:password@]host[:port][/db]; what is missing or odd falls back to a local server. */
static void parse_url(struct cache *cache, struct str url)
{
    struct str authority, secret = STR_NONE, host, port = STR_NONE;

    if (str_starts(url, "redis://"))
        url = (struct str){url.ptr + 8, url.len - 8};
    authority = str_cut(&url, '/');
    for (size_t i = authority.len; i-- > 0;) {
        if (authority.ptr[i] != '@')
            continue;
        secret = (struct str){authority.ptr, i};
        authority = (struct str){authority.ptr + i + 1, authority.len - i - 1};
        str_cut(&secret, ':'); /* the user's name; what is left is the password */
        break;
    }
    host = authority;
    if (host.len > 0 && host.ptr[0] == '[') {
        struct str rest = {host.ptr + 1, host.len - 1};

        host = str_cut(&rest, ']');
        port = rest.len > 1 ? (struct str){rest.ptr + 1, rest.len - 1} : STR_NONE;
    } else {
        port = host;
        host = str_cut(&port, ':');
    }
    keep(cache->host, sizeof(cache->host), host, "127.0.0.1");
    keep(cache->port, sizeof(cache->port), port, "6379");
    keep(cache->password, sizeof(cache->password), secret, "");
    keep(cache->db, sizeof(cache->db), url, "");
}

struct cache *cache_new(uv_loop_t *loop, const char *url, int timeout_ms)
{
    struct cache *cache = mem_alloc(sizeof(*cache));

    cache->loop = loop;
    cache->timeout_ms = timeout_ms;
    cache->backoff_ms = BACKOFF_FIRST_MS;
    parse_url(cache, str_of(url));
    uv_timer_init(loop, &cache->timer);
    uv_timer_init(loop, &cache->soon);
    cache->timer.data = cache;
    cache->soon.data = cache;
    cache->open_handles = 2;
    start_connecting(cache);
    return cache;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct cache *cache = handle->data;

    if (cache->open_handles > 0)
        cache->open_handles--;
    if (cache->open_handles == 0 && !cache->resolving)
        mem_free(cache);
}

void cache_free(struct cache *cache)
{
    if (cache == NULL)
        return;
    cache->freed = true;
    if (cache->redis != NULL)
        drop(cache);
    answer_down(cache);
    if (cache->resolving) {
        cache->open_handles++; /* given back by on_resolved */
        uv_cancel((uv_req_t *)&cache->resolve);
    }
    uv_close((uv_handle_t *)&cache->timer, on_handle_closed);
    uv_close((uv_handle_t *)&cache->soon, on_handle_closed);
}

bool cache_is_up(const struct cache *cache)
{
    return cache->up;
}

void cache_command(struct cache *cache, cache_fn done, void *ctx, size_t argc, const struct str *argv)
{
    struct waiting *w;

    if (cache->up) {
        send_command(cache, done, ctx, argc, argv);
        return;
    }
    if (done == NULL)
        return;
    w = mem_alloc(sizeof(*w));
    *w = (struct waiting){.cache = cache, .done = done, .ctx = ctx};
    waiting_push(&cache->down, w);
    if (!cache->freed)
        uv_timer_start(&cache->soon, on_soon, 0, 0);
}
