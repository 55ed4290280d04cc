/* Connections of the store. Reads are in store_read.c, batches in store_commit.c. */
#include "scheduler/store_internal.h"

#include "common/base/banned.h"

/* Everything here is found by a key. The planner shall neither choose another way while a table is small or its
 * statistics are old, nor plan again for each array. */
#define SETTINGS                                                                                                       \
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c plan_cache_mode=force_generic_plan"

static void tell_state(struct store *store, const struct err *err)
{
    bool up = store->reader_up && store->writer_up;

    if (up ? store->up : store->told_down)
        return;
    store->up = up;
    store->told_down = !up && err != NULL;
    if (up)
        store->options.on_up(store->options.ctx);
    else if (err != NULL)
        store->options.on_down(store->options.ctx, err);
}

static void reader_up(void *ctx)
{
    struct store *store = ctx;

    store->reader_up = true;
    tell_state(store, NULL);
}

static void reader_down(void *ctx, const struct err *err)
{
    struct store *store = ctx;

    store->reader_up = false;
    tell_state(store, err);
}

static void writer_up(void *ctx)
{
    struct store *store = ctx;

    store->writer_up = true;
    tell_state(store, NULL);
}

static void writer_down(void *ctx, const struct err *err)
{
    struct store *store = ctx;

    store->writer_up = false;
    tell_state(store, err);
}

struct store *store_new(const struct store_options *options)
{
    struct store *store = mem_alloc(sizeof(*store));
    struct pg_options pg = {.loop = options->loop,
                            .url = options->url,
                            .prepared = options->prepared,
                            .settings = SETTINGS,
                            .statement_timeout_ms = 30000,
                            .idle_in_transaction_timeout_ms = 2000,
                            .answer_timeout_ms = 10000,
                            .ctx = store};
    char me[2 * sizeof(options->me.bytes) + 1];

    store->options = *options;
    pg.application = "ropewalk-scheduler reads";
    pg.on_up = reader_up;
    pg.on_down = reader_down;
    store->reader = pg_new(&pg);
    hex_encode(options->me.bytes, sizeof(options->me.bytes), me);
    snprintf(store->batches_name, sizeof(store->batches_name), "ropewalk-scheduler batches %s", me);
    pg.application = store->batches_name;
    pg.on_up = writer_up;
    pg.on_down = writer_down;
    store->writer = pg_new(&pg);
    return store;
}

void store_free(struct store *store)
{
    if (store == NULL)
        return;
    store->freeing = true;
    pg_free(store->reader);
    pg_free(store->writer);
    mem_free(store);
}

void store_set_core(struct store *store, struct sched *sched)
{
    store->sched = sched;
}

bool store_is_up(const struct store *store)
{
    return store->up;
}

struct pg *store_reader(struct store *store)
{
    return store->reader;
}
