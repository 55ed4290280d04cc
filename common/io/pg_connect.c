/* What a connection is opened with: the caller's URL, and settings without which this service would not be safe. */
#include "common/io/pg_internal.h"
#include <arpa/inet.h>

#include "common/base/banned.h"

#define CONNECT_TIMEOUT_S 5

static PQconninfoOption *option(PQconninfoOption *list, const char *keyword)
{
    for (PQconninfoOption *o = list; o->keyword != NULL; o++)
        if (strcmp(o->keyword, keyword) == 0)
            return o;
    return NULL;
}

struct words {
    const char **keywords, **values;
    size_t count;
};

static void put(struct words *words, const char *keyword, const char *value)
{
    words->keywords[words->count] = keyword;
    words->values[words->count++] = value;
}

/* Ours unless the URL says otherwise. */
static void put_default(struct words *words, PQconninfoOption *list, const char *keyword, const char *value)
{
    const PQconninfoOption *o = option(list, keyword);

    if (o != NULL && o->val == NULL)
        put(words, keyword, value);
}

/* "-c name=value" for every setting of a session, after those of the URL. A pooler does not take them. */
static const char *session_options(struct arena *arena, PQconninfoOption *list, const struct pg_options *options)
{
    const PQconninfoOption *own = option(list, "options");

    return arena_printf(arena,
                        "%s -c search_path=ropewalk,pg_temp -c jit=off -c timezone=UTC -c statement_timeout=%d"
                        " -c idle_in_transaction_session_timeout=%d %s",
                        own != NULL && own->val != NULL ? own->val : "", options->statement_timeout_ms,
                        options->idle_in_transaction_timeout_ms, options->settings != NULL ? options->settings : "");
}

enum err_code pg_conninfo_parse(const char *url, const struct pg_options *options, struct pg_conninfo *ret,
                                struct err *err)
{
    char *message = NULL;
    PQconninfoOption *list = PQconninfoParse(url, &message);
    struct words words = {0};
    size_t count = 0;
    uint32_t timeout_s = 0;

    if (list == NULL) {
        /* libpq's message may quote the URL, which holds a password */
        PQfreemem(message);
        return err_set(err, ERR_INVALID, "cannot understand the PostgreSQL URL");
    }
    while (list[count].keyword != NULL)
        count++;
    ret->parsed = list;
    ret->arena = arena_new(1024);
    words.keywords = arena_array(ret->arena, count + 16, sizeof(char *));
    words.values = arena_array(ret->arena, count + 16, sizeof(char *));
    for (size_t i = 0; i < count; i++)
        if (list[i].val != NULL && strcmp(list[i].keyword, "options") != 0)
            put(&words, list[i].keyword, list[i].val);
    put_default(&words, list, "connect_timeout", "5");
    put_default(&words, list, "tcp_user_timeout", "10000");
    put_default(&words, list, "keepalives_idle", "10");
    put_default(&words, list, "keepalives_interval", "5");
    put_default(&words, list, "keepalives_count", "3");
    put_default(&words, list, "target_session_attrs", "read-write"); /* never a standby */
    put(&words, "client_encoding", "UTF8");
    if (options->application != NULL)
        put(&words, "application_name", options->application);
    if (options->prepared)
        put(&words, "options", session_options(ret->arena, list, options));
    ret->keywords = words.keywords;
    ret->values = words.values;
    ret->count = words.count;
    if (!parse_u32(str_of(option(list, "connect_timeout")->val), 1, 3600, &timeout_s))
        timeout_s = CONNECT_TIMEOUT_S;
    ret->connect_timeout_ms = (int)timeout_s * 1000;
    return ERR_OK;
}

void pg_conninfo_put(struct pg_conninfo *info, const char *keyword, const char *value)
{
    info->keywords[info->count] = keyword; /* libpq takes the last of equal words */
    info->values[info->count++] = value;
}

static bool is_address(const char *host)
{
    struct in6_addr six;
    struct in_addr four;

    return inet_pton(AF_INET, host, &four) == 1 || inet_pton(AF_INET6, host, &six) == 1;
}

const char *pg_conninfo_name(const struct pg_conninfo *info)
{
    const PQconninfoOption *host = option(info->parsed, "host"), *address = option(info->parsed, "hostaddr");

    if (host == NULL || host->val == NULL || *host->val == '\0' || (address != NULL && address->val != NULL))
        return NULL;
    if (strchr("/@", host->val[0]) != NULL || strchr(host->val, ',') != NULL || is_address(host->val))
        return NULL;
    return host->val;
}

void pg_conninfo_free(struct pg_conninfo *info)
{
    PQconninfoFree(info->parsed);
    arena_free(info->arena);
    *info = (struct pg_conninfo){0};
}
