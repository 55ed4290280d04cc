/* Sealed values on their way from the database to workers; see secrets.h. They are read anew for each publication: what
 * an attempt gets is what was written last. */
#include "scheduler/secrets.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "common/seal/sealed.h"
#include "rw_scheduler_sql.h"
#include "scheduler/store_internal.h"

#include "common/base/banned.h"

#define BODY_MAX ((size_t)128 << 20)

/* A publication that waits for its secrets. */
struct sealing {
    struct store *store;
    struct broker *broker;
    struct arena *arena;
    struct sched_publish publish; /* its texts are the arena's */
    struct wall_us sent_at;
};

static const char *copy_text(struct arena *arena, const char *text)
{
    return text == NULL ? NULL : arena_dup(arena, text, strlen(text));
}

static struct sealing *sealing_new(struct store *store, struct broker *broker, const struct sched_publish *publish,
                                   struct wall_us sent_at)
{
    struct arena *arena = arena_new(publish->body.len + 1024);
    struct sealing *sealing = arena_alloc(arena, sizeof(*sealing));
    struct sched_secret *secrets = arena_array(arena, publish->secret_count, sizeof(*secrets));

    *sealing = (struct sealing){store, broker, arena, *publish, sent_at};
    sealing->publish.queue = copy_text(arena, publish->queue);
    sealing->publish.type = copy_text(arena, publish->type);
    sealing->publish.message_id = copy_text(arena, publish->message_id);
    sealing->publish.reply_to = copy_text(arena, publish->reply_to);
    sealing->publish.body = str_arena(arena, publish->body);
    for (size_t i = 0; i < publish->secret_count; i++)
        secrets[i] = (struct sched_secret){str_arena(arena, publish->secrets[i].pointer),
                                           str_arena(arena, publish->secrets[i].name)};
    sealing->publish.secrets = secrets;
    return sealing;
}

static void put_sealed(struct jw *w, const struct pg_result *rows, struct str name)
{
    for (size_t i = 0; i < pg_rows(rows); i++) {
        CLEANUP(buf_deinit) struct buf text = {0};
        struct sealed sealed = {.key = {.version = (int32_t)pg_get_int(rows, i, 1),
                                        .master = pg_get_str(rows, i, 2),
                                        .wrapped = pg_get_str(rows, i, 3)},
                                .name = name,
                                .box = pg_get_str(rows, i, 4)};

        if (!str_eq(pg_get_str(rows, i, 0), name))
            continue;
        buf_init(&text, 2 * SECRET_VALUE_MAX + 1024);
        sealed_write(&sealed, &text);
        jw_kstr(w, "sealed", buf_str(&text));
        return;
    }
}

/* The body is an object of ours: the list becomes its last member. */
static void add_secrets(const struct sealing *sealing, const struct pg_result *rows, struct buf *out)
{
    struct str body = sealing->publish.body;
    struct jw w = jw_to(out);

    ENSURE(body.len > 2 && body.ptr[body.len - 1] == '}');
    buf_append(out, body.ptr, body.len - 1);
    buf_append_str(out, STR(",\"secrets\":"));
    jw_arr(&w);
    for (size_t i = 0; i < sealing->publish.secret_count; i++) {
        jw_obj(&w);
        jw_kstr(&w, "pointer", sealing->publish.secrets[i].pointer);
        jw_kstr(&w, "name", sealing->publish.secrets[i].name);
        put_sealed(&w, rows, sealing->publish.secrets[i].name);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    buf_append_char(out, '}');
    ENSURE(!out->overflow);
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct sealing *sealing = ctx;
    struct store *store = sealing->store;

    if (outcome->rc == ERR_OK) {
        CLEANUP(buf_deinit) struct buf body = {0};

        buf_init(&body, BODY_MAX);
        add_secrets(sealing, outcome->results[0], &body);
        sealing->publish.body = buf_str(&body);
        broker_publish(sealing->broker, &sealing->publish, sealing->sent_at);
    } else {
        log_event(LOG_WARN, "secrets.read_failed", log_err(outcome->err));
        sched_on_confirm(store->sched, sealing->publish.confirm, SCHED_NOT_CONFIRMED);
    }
    arena_free(sealing->arena);
    store->options.woken(store->options.ctx);
}

void secrets_publish(struct store *store, struct broker *broker, const struct sched_publish *publish,
                     struct wall_us sent_at)
{
    struct sealing *sealing = sealing_new(store, broker, publish, sent_at);
    struct pg_batch *pg = pg_batch_new(true);
    struct pg_array *names = pg_array_new(pg, PG_E_TEXT);

    for (size_t i = 0; i < publish->secret_count; i++)
        pg_array_add(names, pg_text(publish->secrets[i].name));
    (void)pg_add(pg, SQL_SECRET_LOAD, pg_i32(publish->organisation), pg_array_param(names));
    pg_submit(store->reader, pg, on_read, sealing);
}
