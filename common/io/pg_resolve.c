/* Names of hosts: libpq would look them up inside PQconnectStart and stop the whole loop while a name server is away.
 * So libuv does it in its threads, and libpq gets the addresses beside the name, which TLS still verifies. */
#include "common/base/ensure.h"
#include "common/io/pg_internal.h"
#include <arpa/inet.h>
#include <netdb.h>

#include "common/base/banned.h"

#define ADDRESSES_MAX 8

/* Outlives its connection when it cannot be cancelled. */
struct pg_lookup {
    uv_getaddrinfo_t request;
    struct pg *pg; /* NULL: nobody waits any more */
    char *host;
};

static bool address_text(const struct addrinfo *info, char ret[INET6_ADDRSTRLEN])
{
    const void *address;

    if (info->ai_family == AF_INET)
        address = &((const struct sockaddr_in *)(const void *)info->ai_addr)->sin_addr;
    else if (info->ai_family == AF_INET6)
        address = &((const struct sockaddr_in6 *)(const void *)info->ai_addr)->sin6_addr;
    else
        return false;
    return inet_ntop(info->ai_family, address, ret, INET6_ADDRSTRLEN) != NULL;
}

/* libpq wants as many names as addresses. */
static void connect_to_each(struct pg *pg, const char *host, const struct addrinfo *first)
{
    CLEANUP(buf_deinit) struct buf hosts;
    CLEANUP(buf_deinit) struct buf addresses;
    size_t count = 0;

    buf_init(&hosts, 4096);
    buf_init(&addresses, 4096);
    for (const struct addrinfo *info = first; info != NULL && count < ADDRESSES_MAX; info = info->ai_next) {
        char text[INET6_ADDRSTRLEN];

        if (!address_text(info, text))
            continue;
        buf_printf(&hosts, "%s%s", count > 0 ? "," : "", host);
        buf_printf(&addresses, "%s%s", count > 0 ? "," : "", text);
        count++;
    }
    if (count > 0 && !hosts.overflow)
        pg_connect_to(pg, hosts.ptr, addresses.ptr);
    else
        pg_connect_to(pg, NULL, NULL); /* nothing that we know: libpq's own way */
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *first)
{
    struct pg_lookup *lookup = request->data;
    struct pg *pg = lookup->pg;
    struct err err;

    if (pg != NULL) {
        pg->lookup = NULL;
        if (status == 0) {
            connect_to_each(pg, lookup->host, first);
        } else {
            err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__, "could not look up the host '%s' of PostgreSQL: %s",
                       lookup->host, uv_strerror(status));
            pg_lost(pg, &err);
        }
    }
    uv_freeaddrinfo(first);
    mem_free(lookup->host);
    mem_free(lookup);
}

void pg_resolve(struct pg *pg, const char *host)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct pg_lookup *lookup = mem_alloc(sizeof(*lookup));
    struct err err;
    int rc;

    ENSURE(pg->lookup == NULL);
    lookup->pg = pg;
    lookup->host = mem_strdup(host);
    lookup->request.data = lookup;
    rc = uv_getaddrinfo(pg->options.loop, &lookup->request, on_resolved, host, NULL, &hints);
    if (rc == 0) {
        pg->lookup = lookup;
        return;
    }
    err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__, "could not look up the host '%s' of PostgreSQL: %s", host,
               uv_strerror(rc));
    mem_free(lookup->host);
    mem_free(lookup);
    pg_lost(pg, &err);
}

void pg_resolve_forget(struct pg *pg)
{
    if (pg->lookup == NULL)
        return;
    pg->lookup->pg = NULL;
    (void)uv_cancel((uv_req_t *)&pg->lookup->request); /* when it has begun it ends by itself */
    pg->lookup = NULL;
}
