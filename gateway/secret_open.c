/* Opening secrets for the gateway's own use; see secrets.h. Values are kept for seconds and wiped after. */
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "gateway/secrets.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define BELIEVE_US (4 * US_PER_S)
#define ENTRIES_MAX 10000
#define ORGANISATION_NAME_SIZE 64

struct waiter {
    struct waiter *next;
    secret_fn done;
    void *ctx;
};

struct entry {
    struct secrets *secrets;
    int32_t organisation;
    char organisation_name[ORGANISATION_NAME_SIZE], name[SECRET_NAME_MAX + 1];
    bool asking;
    struct mono_us asked_at, known_at; /* known_at: when what is believed was asked for; 0: nothing is */
    enum err_code rc;                  /* what is believed: ERR_OK or ERR_NOT_FOUND */
    struct buf value;
    struct waiter *waiters;
};

struct secrets {
    struct gateway *gw;
    struct keyring *keyring;
    struct map *entries;
    struct mono_us forget_before;
};

enum err_code secrets_new(struct gateway *gw, struct secrets **ret, struct err *err)
{
    struct keyring *keyring;
    struct secrets *secrets;
    enum err_code rc = keyring_new(gw->config.master_key_file, &keyring, err);

    if (rc != ERR_OK)
        return rc;
    secrets = mem_alloc(sizeof(*secrets));
    secrets->gw = gw;
    secrets->keyring = keyring;
    secrets->entries = map_new();
    *ret = secrets;
    return ERR_OK;
}

static void entry_free(struct entry *entry)
{
    while (entry->waiters != NULL) {
        struct waiter *waiter = entry->waiters;

        entry->waiters = waiter->next;
        mem_free(waiter);
    }
    seal_wipe(&entry->value);
    mem_free(entry);
}

void secrets_free(struct secrets *secrets)
{
    struct str key;
    size_t pos = 0;
    void *entry;

    if (secrets == NULL)
        return;
    while (map_next(secrets->entries, &pos, &key, &entry))
        entry_free(entry);
    map_free(secrets->entries);
    keyring_free(secrets->keyring);
    mem_free(secrets);
}

const struct keyring *secrets_keyring(struct secrets *secrets)
{
    struct err err = {0};

    if (keyring_refresh(secrets->keyring, clock_mono(), &err) != ERR_OK)
        log_event(LOG_ERROR, "secrets.master_keys_unreadable", log_err(&err));
    return secrets->keyring;
}

void secrets_forget(struct secrets *secrets)
{
    secrets->forget_before = clock_mono();
}

static struct str key_of(int32_t organisation, struct str name, char *text, size_t size)
{
    int n = snprintf(text, size, "%d/" STR_FMT, (int)organisation, STR_ARG(name));

    ENSURE(n > 0 && (size_t)n < size);
    return (struct str){text, (size_t)n};
}

/* Those that nobody waits for and nobody believes any more; all that nobody waits for when that is not enough. */
static void make_room(struct secrets *secrets, struct mono_us now)
{
    for (int all = 0; all < 2 && map_len(secrets->entries) >= ENTRIES_MAX; all++) {
        struct str key;
        size_t pos = 0;
        void *value;

        while (map_next(secrets->entries, &pos, &key, &value)) {
            struct entry *entry = value;

            if (entry->asking || (all == 0 && now.us - entry->known_at.us < BELIEVE_US))
                continue;
            map_del(secrets->entries, key);
            entry_free(entry);
        }
    }
}

static struct entry *entry_of(struct secrets *secrets, int32_t organisation, struct str organisation_name,
                              struct str name, struct mono_us now)
{
    char text[SECRET_NAME_MAX + 32];
    struct str key = key_of(organisation, name, text, sizeof(text));
    struct entry *entry = map_get(secrets->entries, key);

    if (entry != NULL)
        return entry;
    make_room(secrets, now);
    entry = mem_alloc(sizeof(*entry));
    entry->secrets = secrets;
    entry->organisation = organisation;
    snprintf(entry->organisation_name, sizeof(entry->organisation_name), STR_FMT, STR_ARG(organisation_name));
    snprintf(entry->name, sizeof(entry->name), STR_FMT, STR_ARG(name));
    buf_init(&entry->value, SECRET_VALUE_MAX + SEAL_OVERHEAD);
    map_put(secrets->entries, key, entry);
    return entry;
}

static void answer(struct entry *entry, enum err_code rc, const struct err *err)
{
    struct waiter *waiters = take_ptr(entry->waiters);

    while (waiters != NULL) {
        struct waiter *waiter = waiters;

        waiters = waiter->next;
        waiter->done(waiter->ctx, rc, rc == ERR_OK ? buf_str(&entry->value) : STR_NONE, err);
        mem_free(waiter);
    }
}

static void on_noted(void *ctx, const struct pg_outcome *outcome)
{
    (void)ctx, (void)outcome; /* the next use says so again */
}

static void note_use(const struct entry *entry)
{
    struct pg_batch *batch = pg_batch_new(true);

    pg_batch_organisation(batch, entry->organisation);
    pg_add(batch, SQL_SECRET_USED, pg_text(str_of(entry->name)));
    pg_submit(entry->secrets->gw->writes, batch, on_noted, NULL);
}

/* What was read, opened into entry->value. */
static enum err_code take(struct entry *entry, const struct pg_result *rows, struct err *err)
{
    struct sealed sealed = {.name = str_of(entry->name)};

    seal_wipe(&entry->value);
    buf_init(&entry->value, SECRET_VALUE_MAX + SEAL_OVERHEAD);
    if (pg_rows(rows) == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no secret '%s'", entry->name);
    sealed.key = (struct data_key){str_of(entry->organisation_name), (int32_t)pg_get_int(rows, 0, 0),
                                   pg_get_str(rows, 0, 1), pg_get_str(rows, 0, 2)};
    sealed.box = pg_get_str(rows, 0, 3);
    return secret_unseal(secrets_keyring(entry->secrets), &sealed, &entry->value, err);
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct entry *entry = ctx;
    struct err err = {0};
    enum err_code rc;

    entry->asking = false;
    if (outcome->rc != ERR_OK) {
        answer(entry, outcome->rc, outcome->err);
        return;
    }
    rc = take(entry, outcome->results[0], &err);
    if (rc == ERR_OK || rc == ERR_NOT_FOUND) {
        entry->rc = rc;
        entry->known_at = entry->asked_at;
    } else {
        log_event(LOG_ERROR, "secrets.not_opened", log_cstr("organisation", entry->organisation_name),
                  log_cstr("secret", entry->name), log_err(&err));
    }
    if (rc == ERR_OK && pg_get_bool(outcome->results[0], 0, 4))
        note_use(entry);
    answer(entry, rc, &err);
}

static bool is_believed(const struct entry *entry, struct mono_us now)
{
    return entry->known_at.us != 0 && now.us - entry->known_at.us < BELIEVE_US &&
           entry->known_at.us > entry->secrets->forget_before.us;
}

static void ask(struct entry *entry, struct mono_us now)
{
    struct pg_batch *batch = pg_batch_new(false);

    entry->asking = true;
    entry->asked_at = now;
    pg_batch_organisation(batch, entry->organisation);
    pg_add(batch, SQL_SECRET_READ, pg_text(str_of(entry->name)));
    pg_submit(gateway_read(entry->secrets->gw), batch, on_read, entry);
}

void secret_open(struct secrets *secrets, int32_t organisation, struct str organisation_name, struct str name,
                 secret_fn done, void *ctx)
{
    struct mono_us now = clock_mono();
    struct err err = {0};
    struct waiter *waiter;
    struct entry *entry;

    if ((!secret_name_is_valid(name) && !secret_is_endpoints(name)) ||
        organisation_name.len >= ORGANISATION_NAME_SIZE) {
        done(ctx, err_set(&err, ERR_NOT_FOUND, "there is no such secret"), STR_NONE, &err);
        return;
    }
    entry = entry_of(secrets, organisation, organisation_name, name, now);
    if (!entry->asking && is_believed(entry, now)) {
        if (entry->rc != ERR_OK)
            (void)err_set(&err, entry->rc, "there is no secret '%s'", entry->name);
        done(ctx, entry->rc, entry->rc == ERR_OK ? buf_str(&entry->value) : STR_NONE, &err);
        return;
    }
    waiter = mem_alloc(sizeof(*waiter));
    *waiter = (struct waiter){entry->waiters, done, ctx};
    entry->waiters = waiter;
    if (!entry->asking)
        ask(entry, now);
}
