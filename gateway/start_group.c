/* The statements of starts of one organisation that share a transaction. See start.h. */
#include "gateway/start_group.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

static void add_keys(struct pg_batch *pg, struct start_group *group, const char *sql, int *ret_index)
{
    struct pg_array *scopes = pg_array_new(pg, PG_E_TEXT), *keys = pg_array_new(pg, PG_E_TEXT);

    for (size_t i = 0; i < group->count; i++) {
        pg_array_add(scopes, pg_text(group->starts[i]->workflow));
        pg_array_add(keys, pg_text(group->starts[i]->key));
    }
    *ret_index = pg_add(pg, sql, pg_array_param(scopes), pg_array_param(keys));
}

static struct pg_param hash_of(const struct start *s)
{
    return s->key.ptr == NULL ? pg_null() : pg_bytea((struct str){(const char *)s->body_hash, 32});
}

/* It is alone in its transaction: there are few, and they may be large. */
static void add_rerun(struct pg_batch *pg, struct start_group *group, const char *queue)
{
    const struct start *s = group->starts[0];

    group->insert =
        pg_add(pg, SQL_RERUN_INSERT, pg_uuid(s->run_id), pg_text(s->workflow), pg_i32(s->version),
               pg_i16((int16_t)run_id_slot(s->run_id)), pg_i16(s->priority), pg_time(s->created_at), pg_json(s->input),
               pg_json(s->labels), pg_text(s->key), hash_of(s), pg_text(s->wants_reply ? str_of(queue) : STR_NONE),
               pg_uuid(s->rerun_of->run), pg_json(s->rerun_of->begins), pg_json(s->rerun_of->given),
               s->rerun_of->operation == NULL ? pg_null() : pg_uuid(*s->rerun_of->operation));
}

static void add_nonces(struct pg_batch *pg, const struct start_group *group)
{
    struct pg_array *scopes = pg_array_new(pg, PG_E_TEXT), *nonces = pg_array_new(pg, PG_E_TEXT);

    for (size_t i = 0; i < group->count; i++) {
        const struct start_delivery *delivery = group->starts[i]->delivery;

        if (delivery == NULL || delivery->nonce.ptr == NULL)
            continue;
        pg_array_add(scopes, pg_text(delivery->scope));
        pg_array_add(nonces, pg_text(delivery->nonce));
    }
    if (pg_array_count(nonces) > 0)
        pg_add(pg, SQL_DELIVERY_NONCE_EXPIRE, pg_array_param(scopes), pg_array_param(nonces));
}

/* The columns of what is not a webhook are NULL. */
static void add_delivery(struct pg_array *const columns[5], const struct start_delivery *delivery)
{
    static const struct start_delivery none = {0};
    const struct start_delivery *d = delivery == NULL ? &none : delivery;

    pg_array_add(columns[0], pg_json(d->trigger));
    pg_array_add(columns[1], pg_text(d->scope));
    pg_array_add(columns[2], pg_text(d->nonce));
    pg_array_add(columns[3], pg_i32(d->kept_s));
    pg_array_add(columns[4], pg_json(d->log));
}

/* What every start has. */
enum { COMMON_COLUMNS = 7 };
#define COMMON_TYPES PG_E_UUID, PG_E_TEXT, PG_E_I32, PG_E_I16, PG_E_I16, PG_E_TIME, PG_E_JSON

static void add_common(struct pg_array *const columns[COMMON_COLUMNS], const struct start *s)
{
    pg_array_add(columns[0], pg_uuid(s->run_id));
    pg_array_add(columns[1], pg_text(s->workflow));
    pg_array_add(columns[2], pg_i32(s->version));
    pg_array_add(columns[3], pg_i16((int16_t)run_id_slot(s->run_id)));
    pg_array_add(columns[4], pg_i16(s->priority));
    pg_array_add(columns[5], pg_time(s->created_at));
    pg_array_add(columns[6], pg_json(s->input));
}

static bool is_plain(const struct start_group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        const struct start *s = group->starts[i];

        if (s->key.ptr != NULL || s->delivery != NULL || s->start_at.ptr != NULL || !str_is(s->labels, "{}"))
            return false;
    }
    return true;
}

static void add_plain(struct pg_batch *pg, struct start_group *group, const char *queue)
{
    static const enum pg_elem types[] = {COMMON_TYPES, PG_E_TEXT};
    enum { COLUMNS = sizeof(types) / sizeof(types[0]) };
    struct pg_array *c[COLUMNS];
    struct pg_param params[COLUMNS];

    for (size_t i = 0; i < COLUMNS; i++)
        c[i] = pg_array_new(pg, types[i]);
    for (size_t i = 0; i < group->count; i++) {
        add_common(c, group->starts[i]);
        pg_array_add(c[7], pg_text(group->starts[i]->wants_reply ? str_of(queue) : STR_NONE));
    }
    for (size_t i = 0; i < COLUMNS; i++)
        params[i] = pg_array_param(c[i]);
    group->insert = pg_batch_add(pg, SQL_START_INSERT_PLAIN, params, COLUMNS);
}

static void add_insert(struct pg_batch *pg, struct start_group *group, const char *queue)
{
    static const enum pg_elem types[] = {COMMON_TYPES, PG_E_JSON, PG_E_TEXT, PG_E_BYTEA, PG_E_TEXT, PG_E_TEXT,
                                         PG_E_JSON,    PG_E_TEXT, PG_E_TEXT, PG_E_I32,   PG_E_JSON};
    enum { COLUMNS = sizeof(types) / sizeof(types[0]) };
    struct pg_array *c[COLUMNS];
    struct pg_param params[COLUMNS];

    for (size_t i = 0; i < COLUMNS; i++)
        c[i] = pg_array_new(pg, types[i]);
    for (size_t i = 0; i < group->count; i++) {
        const struct start *s = group->starts[i];

        add_common(c, s);
        pg_array_add(c[7], pg_json(s->labels));
        pg_array_add(c[8], pg_text(s->key));
        pg_array_add(c[9], hash_of(s));
        pg_array_add(c[10], pg_text(s->wants_reply ? str_of(queue) : STR_NONE));
        pg_array_add(c[11], pg_text(s->start_at));
        add_delivery(&c[12], s->delivery);
    }
    for (size_t i = 0; i < COLUMNS; i++)
        params[i] = pg_array_param(c[i]);
    group->insert = pg_batch_add(pg, SQL_START_INSERT, params, COLUMNS);
}

static void lock_groups(struct pg_batch *pg, const struct start_group *group)
{
    struct held_groups groups;

    held_groups_init(&groups, pg);
    for (size_t i = 0; i < group->count; i++)
        held_groups_add(&groups, &group->starts[i]->delivery->held);
    (void)held_groups_lock(&groups, pg);
}

static void add_held(struct pg_batch *pg, struct start_group *group)
{
    static const enum pg_elem types[] = {COMMON_TYPES, PG_E_TEXT, PG_E_BYTEA, PG_E_TEXT, PG_E_JSON,
                                         PG_E_TEXT,    PG_E_TEXT, PG_E_I32,   PG_E_JSON, PG_E_JSON};
    enum { COLUMNS = sizeof(types) / sizeof(types[0]) };
    struct pg_array *c[COLUMNS];
    struct pg_param params[COLUMNS];

    for (size_t i = 0; i < COLUMNS; i++)
        c[i] = pg_array_new(pg, types[i]);
    for (size_t i = 0; i < group->count; i++) {
        const struct start *s = group->starts[i];

        add_common(c, s);
        pg_array_add(c[7], pg_text(s->key));
        pg_array_add(c[8], hash_of(s));
        pg_array_add(c[9], pg_text(s->start_at));
        add_delivery(&c[10], s->delivery);
        pg_array_add(c[15], pg_json(s->delivery->held.rule));
    }
    for (size_t i = 0; i < COLUMNS; i++)
        params[i] = pg_array_param(c[i]);
    group->insert = pg_batch_add(pg, SQL_HELD_DELIVERIES, params, COLUMNS);
}

void start_group_add(struct pg_batch *pg, enum lane_kind kind, struct start_group *group, const char *queue)
{
    struct pg_array *names = pg_array_new(pg, PG_E_TEXT);
    int ignored;

    pg_batch_organisation(pg, group->organisation);
    if (kind == LANE_KNOWN) {
        add_keys(pg, group, SQL_START_KNOWN, &group->known);
        return;
    }
    for (size_t i = 0; i < group->count; i++)
        pg_array_add(names, pg_text(group->starts[i]->workflow));
    pg_add(pg, SQL_START_LOCK, pg_array_param(names));
    if (kind == LANE_HELD)
        lock_groups(pg, group);
    if (kind != LANE_PLAIN)
        add_keys(pg, group, SQL_START_EXPIRE, &ignored);
    add_nonces(pg, group);
    if (kind == LANE_HELD)
        add_held(pg, group);
    else if (group->starts[0]->rerun_of != NULL)
        add_rerun(pg, group, queue);
    else if (is_plain(group))
        add_plain(pg, group, queue);
    else
        add_insert(pg, group, queue);
    if (kind != LANE_PLAIN)
        add_keys(pg, group, SQL_START_KNOWN, &group->known);
}
