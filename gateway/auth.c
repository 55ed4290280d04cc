/* API keys: looked up by hash, believed for seconds. */
#include "gateway/auth.h"
#include "common/base/ensure.h"
#include "common/base/map.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define BELIEVE_US (4 * US_PER_S)
#define REFRESH_US (2 * US_PER_S)
#define ENTRIES_MAX 20000 /* hashes of strangers' guesses, too */

struct waiter {
    struct waiter *next;
    struct call *call;
    void (*go)(struct call *call);
};

struct key_entry {
    struct auth *auth;
    uint8_t hash[32];
    bool valid, asking;
    struct mono_us asked_at, known_at; /* known_at: when the answer that is believed was asked for; 0: nothing known */
    struct caller caller;
    struct waiter *waiters;
};

struct auth {
    struct gateway *gw;
    struct map *entries;
    struct mono_us forget_before;
};

static struct str key_of(const uint8_t hash[32])
{
    return (struct str){(const char *)hash, 32};
}

struct auth *auth_new(struct gateway *gw)
{
    struct auth *auth = mem_alloc(sizeof(*auth));

    auth->gw = gw;
    auth->entries = map_new();
    return auth;
}

void auth_free(struct auth *auth)
{
    struct str key;
    size_t pos = 0;
    void *entry;

    if (auth == NULL)
        return;
    while (map_next(auth->entries, &pos, &key, &entry))
        mem_free(entry);
    map_free(auth->entries);
    mem_free(auth);
}

void auth_forget(struct auth *auth)
{
    auth->forget_before = clock_mono();
}

static void refuse(struct call *call)
{
    call_problem(call, 401, "unauthorized", "the API key is not known, or has been revoked");
}

static void fill_caller(struct caller *caller, const struct limit_settings *limits, const struct pg_result *rows)
{
    struct str name = pg_get_str(rows, 0, 1), prefix = pg_get_str(rows, 0, 4);

    *caller = (struct caller){.organisation = (int32_t)pg_get_int(rows, 0, 0), .key_id = pg_get_uuid(rows, 0, 2)};
    snprintf(caller->organisation_name, sizeof(caller->organisation_name), STR_FMT, STR_ARG(name));
    snprintf(caller->prefix, sizeof(caller->prefix), STR_FMT, STR_ARG(prefix));
    limits_of(limits, pg_get_str(rows, 0, 5), &caller->limits);
    if (!role_parse(pg_get_str(rows, 0, 3), &caller->role))
        caller->role = ROLE_NONE;
}

static void on_found(void *ctx, const struct pg_outcome *outcome)
{
    struct key_entry *entry = ctx;
    struct waiter *waiters = take_ptr(entry->waiters);

    entry->asking = false;
    if (outcome->rc == ERR_OK) {
        entry->valid = pg_rows(outcome->results[0]) == 1;
        entry->known_at = entry->asked_at;
        if (entry->valid)
            fill_caller(&entry->caller, &entry->auth->gw->config.limits, outcome->results[0]);
    }
    for (struct waiter *w = waiters, *next; w != NULL; w = next) {
        next = w->next;
        if (outcome->rc != ERR_OK) {
            call_error(w->call, outcome->err);
        } else if (!entry->valid) {
            refuse(w->call);
        } else {
            w->call->caller = entry->caller;
            w->go(w->call);
        }
    }
}

static void ask(struct key_entry *entry)
{
    struct pg_batch *batch;

    if (entry->asking)
        return;
    entry->asking = true;
    entry->asked_at = clock_mono();
    batch = pg_batch_new(false);
    pg_add(batch, SQL_API_KEY_FIND, pg_bytea(key_of(entry->hash)));
    pg_submit(gateway_read(entry->auth->gw), batch, on_found, entry);
}

/* Makes room: drops what is not believed any more and asks for nothing. */
static void sweep(struct auth *auth, struct mono_us now)
{
    struct str key;
    size_t pos = 0;
    void *value;

    while (map_next(auth->entries, &pos, &key, &value)) {
        struct key_entry *entry = value;

        if (entry->asking || (entry->valid && now.us - entry->known_at.us < 60 * US_PER_S))
            continue;
        map_del(auth->entries, key_of(entry->hash));
        mem_free(entry);
    }
}

static struct key_entry *entry_of(struct auth *auth, const uint8_t hash[32], struct mono_us now)
{
    struct key_entry *entry = map_get(auth->entries, key_of(hash));

    if (entry != NULL)
        return entry;
    if (map_len(auth->entries) >= ENTRIES_MAX)
        sweep(auth, now);
    entry = mem_alloc(sizeof(*entry));
    entry->auth = auth;
    memcpy(entry->hash, hash, sizeof(entry->hash));
    map_put(auth->entries, key_of(hash), entry);
    return entry;
}

void auth_call(struct auth *auth, struct call *call, void (*next)(struct call *call))
{
    struct str header = http_header_get(call->http, "authorization");
    struct mono_us now = clock_mono();
    uint8_t hash[32];

    if (header.ptr == NULL) {
        call_problem(call, 401, "unauthorized", "no API key: send the header Authorization: Bearer KEY");
        return;
    }
    if (header.len < 7 || strncasecmp(header.ptr, "Bearer ", 7) != 0 || header.len > 200) {
        call_problem(call, 401, "unauthorized", "the Authorization header is not of the form Bearer KEY");
        return;
    }
    sha256(str_trim((struct str){header.ptr + 7, header.len - 7}), hash);
    struct key_entry *entry = entry_of(auth, hash, now);
    bool known = entry->known_at.us > auth->forget_before.us && now.us - entry->known_at.us < BELIEVE_US;

    if (!known || now.us - entry->known_at.us > REFRESH_US) {
        if (!known && !entry->asking && map_len(auth->entries) > ENTRIES_MAX) {
            call_problem(call, 503, "busy", "too many unknown API keys at once; try again in a moment");
            return;
        }
        ask(entry);
    }
    if (known && entry->valid) {
        call->caller = entry->caller;
        next(call);
    } else if (known) {
        refuse(call);
    } else {
        struct waiter *w = arena_alloc(call->arena, sizeof(*w));

        *w = (struct waiter){entry->waiters, call, next};
        entry->waiters = w;
    }
}

void api_key_make(char ret_key[API_KEY_SIZE], char ret_prefix[24], uint8_t ret_hash[32])
{
    char prefix[API_KEY_PREFIX_CHARS + 1], secret[41];

    random_token(prefix, API_KEY_PREFIX_CHARS);
    random_token(secret, 40);
    snprintf(ret_prefix, 24, "rw_%s", prefix);
    snprintf(ret_key, API_KEY_SIZE, "rw_%s_%s", prefix, secret);
    sha256(str_of(ret_key), ret_hash);
}
