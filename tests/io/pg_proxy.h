/* A TCP relay in front of PostgreSQL, in a thread of its own: what is sent can be let through while answers are held
 * back, and connections can be cut. It makes "the commit was sent, the answer never came" happen on purpose. */
#pragma once
#include "common/base/str.h"
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROXY_PAIRS 8

struct proxy {
    int listener;
    int port, server_port;
    pthread_t thread;
    int client[PROXY_PAIRS], server[PROXY_PAIRS]; /* the thread's; -1: none */
    atomic_bool hold, cut, stop;
};

static inline int proxy_connect(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline void proxy_end_pair(struct proxy *proxy, int i)
{
    if (proxy->client[i] >= 0)
        close(proxy->client[i]);
    if (proxy->server[i] >= 0)
        close(proxy->server[i]);
    proxy->client[i] = proxy->server[i] = -1;
}

static inline void proxy_accept(struct proxy *proxy)
{
    int client = accept(proxy->listener, NULL, NULL);

    for (int i = 0; i < PROXY_PAIRS && client >= 0; i++) {
        if (proxy->client[i] >= 0)
            continue;
        proxy->client[i] = client;
        proxy->server[i] = proxy_connect(proxy->server_port);
        return;
    }
    if (client >= 0)
        close(client);
}

static inline bool proxy_copy(int from, int to)
{
    char bytes[65536];
    ssize_t n = read(from, bytes, sizeof(bytes));

    return n > 0 && write(to, bytes, (size_t)n) == n;
}

static inline void *proxy_main(void *arg)
{
    struct proxy *proxy = arg;

    while (!atomic_load(&proxy->stop)) {
        bool hold = atomic_load(&proxy->hold);
        struct pollfd fds[1 + 2 * PROXY_PAIRS] = {{.fd = proxy->listener, .events = POLLIN}};

        for (int i = 0; i < PROXY_PAIRS; i++) {
            fds[1 + 2 * i] = (struct pollfd){.fd = proxy->client[i], .events = POLLIN};
            fds[2 + 2 * i] = (struct pollfd){.fd = hold ? -1 : proxy->server[i], .events = POLLIN};
        }
        if (poll(fds, 1 + 2 * PROXY_PAIRS, 10) > 0) {
            for (int i = 0; i < PROXY_PAIRS; i++)
                if ((fds[1 + 2 * i].revents != 0 && !proxy_copy(proxy->client[i], proxy->server[i])) ||
                    (fds[2 + 2 * i].revents != 0 && !proxy_copy(proxy->server[i], proxy->client[i])))
                    proxy_end_pair(proxy, i);
            if (fds[0].revents != 0)
                proxy_accept(proxy);
        }
        if (!atomic_load(&proxy->cut))
            continue;
        for (int i = 0; i < PROXY_PAIRS; i++)
            proxy_end_pair(proxy, i);
        atomic_store(&proxy->cut, false);
    }
    for (int i = 0; i < PROXY_PAIRS; i++)
        proxy_end_pair(proxy, i);
    return NULL;
}

/* Gives the URL with the relay's port in place of the server's; `url` names 127.0.0.1. */
static inline void proxy_start(struct proxy *proxy, const char *server_url, char *ret, size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    const char *colon = strrchr(server_url, ':');

    *proxy = (struct proxy){.server_port = (int)strtol(colon + 1, NULL, 10)};
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(proxy->listener, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(proxy->listener, 8), 0);
    getsockname(proxy->listener, (struct sockaddr *)&address, &len);
    proxy->port = ntohs(address.sin_port);
    snprintf(ret, size, "%.*s:%d%s", (int)(colon - server_url), server_url, proxy->port, strchr(colon, '/'));
    for (int i = 0; i < PROXY_PAIRS; i++)
        proxy->client[i] = proxy->server[i] = -1;
    pthread_create(&proxy->thread, NULL, proxy_main, proxy);
}

static inline void proxy_hold_answers(struct proxy *proxy, bool hold)
{
    atomic_store(&proxy->hold, hold);
}

static inline void proxy_cut(struct proxy *proxy)
{
    atomic_store(&proxy->cut, true);
    for (int i = 0; i < 500 && atomic_load(&proxy->cut); i++)
        usleep(10000);
}

static inline void proxy_stop(struct proxy *proxy)
{
    atomic_store(&proxy->stop, true);
    pthread_join(proxy->thread, NULL);
    close(proxy->listener);
}
