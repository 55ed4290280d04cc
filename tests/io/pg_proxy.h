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

struct proxy {
    int listener;
    int port, server_port;
    pthread_t thread;
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

/* One connection until it ends or is cut. */
static inline void proxy_relay(struct proxy *proxy, int client, int server)
{
    char bytes[65536];

    while (!atomic_load(&proxy->stop) && !atomic_load(&proxy->cut)) {
        struct pollfd fds[2] = {{.fd = client, .events = POLLIN},
                                {.fd = atomic_load(&proxy->hold) ? -1 : server, .events = POLLIN}};

        if (poll(fds, 2, 10) <= 0)
            continue;
        for (int i = 0; i < 2; i++) {
            ssize_t n;

            if (fds[i].revents == 0)
                continue;
            n = read(fds[i].fd, bytes, sizeof(bytes));
            if (n <= 0 || write(i == 0 ? server : client, bytes, (size_t)n) != n)
                return;
        }
    }
}

static inline void *proxy_main(void *arg)
{
    struct proxy *proxy = arg;

    while (!atomic_load(&proxy->stop)) {
        struct pollfd fd = {.fd = proxy->listener, .events = POLLIN};
        int client, server;

        if (poll(&fd, 1, 10) <= 0)
            continue;
        client = accept(proxy->listener, NULL, NULL);
        server = proxy_connect(proxy->server_port);
        if (client >= 0 && server >= 0) {
            proxy_relay(proxy, client, server);
            atomic_store(&proxy->cut, false);
        }
        if (client >= 0)
            close(client);
        if (server >= 0)
            close(server);
    }
    return NULL;
}

/* Gives the URL with the relay's port in place of the server's; `url` names 127.0.0.1. */
static inline void proxy_start(struct proxy *proxy, const char *url, char *ret, size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    const char *colon = strrchr(url, ':');

    *proxy = (struct proxy){.server_port = (int)strtol(colon + 1, NULL, 10)};
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(proxy->listener, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(proxy->listener, 8), 0);
    getsockname(proxy->listener, (struct sockaddr *)&address, &len);
    proxy->port = ntohs(address.sin_port);
    snprintf(ret, size, "%.*s:%d%s", (int)(colon - url), url, proxy->port, strchr(colon, '/'));
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
