/* The cache of runs: folded state within a bound in bytes, and what each run waits for. An entry exists while its run
 * has something to do, and as long afterwards as there is room. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define LOAD_AT_ONCE 500
#define RECHECK_US (10 * US_PER_S)

struct run_entry *run_find(const struct sched *sched, struct run_id id)
{
    uint64_t hash = run_hash(id);

    for (struct hnode *n = htable_chain(&sched->runs, hash); n != NULL; n = n->next) {
        struct run_entry *entry = CONTAINER(n, struct run_entry, node);

        if (n->hash == hash && !entry->lost && run_id_eq(entry->id, id))
            return entry;
    }
    return NULL;
}

struct run_entry *run_get(struct sched *sched, struct run_id id, struct shard *shard)
{
    struct run_entry *entry = run_find(sched, id);

    if (entry != NULL)
        return entry;
    entry = mem_alloc(sizeof(*entry));
    entry->id = id;
    entry->shard = shard;
    entry->last = &entry->first;
    entry->bytes = sizeof(*entry);
    list_init(&entry->in_lru);
    list_init(&entry->in_recheck);
    list_init(&entry->in_list);
    list_init(&entry->waits_plan);
    list_init(&entry->wanting);
    list_add_tail(&shard->entries, &entry->in_shard);
    htable_add(&sched->runs, &entry->node, run_hash(id));
    sched->run_bytes += entry->bytes;
    return entry;
}

static struct own_key *find_key(const struct run_entry *entry, struct str path)
{
    uint64_t hash = str_hash(path);
    struct hnode *n = htable_chain(&entry->keys, hash);

    while (n != NULL && n->hash != hash)
        n = n->next;
    return n == NULL ? NULL : CONTAINER(n, struct own_key, node);
}

static void forget_key(struct run_entry *entry, struct own_key *key)
{
    htable_del(&entry->keys, &key->node);
    entry->key_bytes -= sizeof(*key) + key->key.len;
    mem_free(key);
}

static void forget_keys(struct run_entry *entry)
{
    for (size_t i = 0; i < entry->keys.cap; i++)
        while (entry->keys.slots[i] != NULL)
            forget_key(entry, CONTAINER(entry->keys.slots[i], struct own_key, node));
    htable_deinit(&entry->keys);
}

static void forget_pending(struct run_entry *entry)
{
    arena_free(entry->pending_arena);
    entry->pending_arena = NULL;
    entry->pending = NULL;
    list_del(&entry->waits_plan);
}

void run_forget_state(struct sched *sched, struct run_entry *entry)
{
    repair_free(entry->repair);
    entry->repair = NULL;
    run_state_free(entry->run);
    entry->run = NULL;
    if (entry->plan != NULL)
        entry->plan->entries--;
    entry->plan = NULL;
    mem_free((void *)(uintptr_t)entry->trigger.ptr);
    mem_free((void *)(uintptr_t)entry->document.ptr);
    mem_free((void *)(uintptr_t)entry->parent_step.ptr);
    mem_free((void *)(uintptr_t)entry->input_fault.ptr);
    entry->trigger = STR_NONE;
    entry->parent_step = STR_NONE;
    entry->input_fault = STR_NONE;
    entry->document = STR_NONE;
    forget_keys(entry);
    forget_pending(entry);
    entry->state = ENTRY_EMPTY;
    entry->reload = false;
    run_weigh(sched, entry);
}

void run_free(struct sched *sched, struct run_entry *entry)
{
    ENSURE(entry->work == NULL && entry->first == NULL);
    run_forget_state(sched, entry);
    /* Items that wait for it stay: they are picked again. */
    for (LIST_EACH(&entry->wanting, at)) {
        struct item *item = CONTAINER(at, struct item, list);

        task_unready(sched, item);
        task_ready(sched, item, PLACE_FIRST);
    }
    list_del(&entry->in_shard);
    list_del(&entry->in_lru);
    list_del(&entry->in_recheck);
    list_del(&entry->in_list);
    htable_del(&sched->runs, &entry->node);
    sched->run_bytes -= entry->bytes;
    mem_free(entry);
}

struct str run_own_key(const struct run_entry *entry, struct str path)
{
    const struct own_key *key = find_key(entry, path);

    return key == NULL ? STR_NONE : key->key;
}

/* Kept from the first dispatch of a step to its end. */
void run_note_key(struct run_entry *entry, const struct event *event)
{
    bool keep = event->type == EVENT_STEP_DISPATCHED && event->detail.ptr != NULL;
    bool ended = event->type >= EVENT_STEP_SUCCEEDED && event->type <= EVENT_STEP_OUTCOME_UNKNOWN;
    struct own_key *key = keep || (ended && entry->keys.len > 0) ? find_key(entry, event->step) : NULL;

    if (key != NULL)
        forget_key(entry, key);
    if (!keep)
        return;
    key = mem_alloc(sizeof(*key) + event->detail.len + 1);
    memcpy(key + 1, event->detail.ptr, event->detail.len);
    key->key = (struct str){(const char *)(key + 1), event->detail.len};
    htable_add(&entry->keys, &key->node, str_hash(event->step));
    entry->key_bytes += sizeof(*key) + key->key.len;
}

struct str run_path(const struct run_state *run, uint32_t node, char buf[STEP_PATH_SIZE])
{
    CLEANUP(buf_deinit) struct buf path = {0};

    if (run_step(run, node)->frame == run->root)
        return run_plan_step(run, node)->name;
    buf_init(&path, STEP_PATH_SIZE - 1);
    run_step_path(run, node, &path);
    memcpy(buf, path.ptr, path.len);
    return (struct str){buf, path.len};
}

void run_weigh(struct sched *sched, struct run_entry *entry)
{
    sched->run_bytes -= entry->bytes;
    entry->bytes = sizeof(*entry) + entry->trigger.len + entry->document.len + entry->key_bytes +
                   entry->keys.cap * sizeof(struct hnode *) + (entry->run == NULL ? 0 : run_state_bytes(entry->run));
    sched->run_bytes += entry->bytes;
}

bool run_has_release(const struct run_entry *entry)
{
    const struct input *input = entry->unloadable ? NULL : entry->first;

    while (input != NULL && input->kind != INPUT_RELEASE)
        input = input->next;
    return input != NULL;
}

static void put_in(struct link *list, struct run_entry *entry)
{
    list_del(&entry->in_list);
    list_add_tail(list, &entry->in_list);
}

void run_kick(struct sched *sched, struct run_entry *entry)
{
    bool held;

    if (entry->lost || entry->work != NULL || !entry->shard->ready)
        return;
    held = quarantine_holds(sched, entry->id) && !run_has_release(entry);
    if (entry->first == NULL && (list_empty(&entry->wanting) || held) && !entry->greet && !entry->reload) {
        list_del(&entry->in_list);
        list_del(&entry->in_lru);
        if (entry->passing)
            list_add_head(&sched->lru, &entry->in_lru);
        else
            list_add_tail(&sched->lru, &entry->in_lru);
        if (entry->state == ENTRY_ABSENT)
            entry->state = ENTRY_EMPTY; /* it may be created yet: not worth remembering */
        return;
    }
    list_del(&entry->in_lru);
    entry->passing &= entry->first == NULL && list_empty(&entry->wanting);
    if (entry->not_before.us > sched->now.us) {
        put_in(&sched->delayed, entry);
        return;
    }
    if (held || entry->state == ENTRY_BEYOND)
        for (LIST_EACH(&entry->wanting, at))
            task_unready(sched, CONTAINER(at, struct item, list));
    if (held) {
        if (entry->first != NULL && !entry->shard->releasing)
            put_in(&sched->ready, entry);
        return;
    }
    if (entry->reload && entry->state != ENTRY_LOADING)
        run_forget_state(sched, entry);
    switch (entry->state) {
    case ENTRY_EMPTY:
        put_in(&sched->to_load, entry);
        break;
    case ENTRY_LOADING:
    case ENTRY_PLAN:
    case ENTRY_BEYOND:
        break;
    case ENTRY_HERE:
    case ENTRY_ABSENT:
        if (entry->greet)
            push_greet(sched, entry);
        if (!list_empty(&entry->wanting))
            task_publish_wanting(sched, entry);
        if (entry->first != NULL && !entry->shard->releasing)
            put_in(&sched->ready, entry);
        else if (entry->first == NULL && list_empty(&entry->wanting))
            run_kick(sched, entry);
        break;
    }
}

void run_delay(struct sched *sched, struct run_entry *entry, int64_t us)
{
    entry->not_before = mono_after(sched->now, us);
}

/* After a commit whose outcome was unknown the server may still be finishing it while we read: read once more later. */
void run_recheck(struct sched *sched, struct run_entry *entry)
{
    entry->recheck_at = mono_after(sched->now, RECHECK_US);
    list_del(&entry->in_recheck);
    list_add_tail(&sched->rechecks, &entry->in_recheck);
}

static void tick_delayed(struct sched *sched)
{
    for (LIST_EACH(&sched->delayed, at)) {
        struct run_entry *entry = CONTAINER(at, struct run_entry, in_list);

        if (entry->not_before.us > sched->now.us) {
            wake_by(sched, entry->not_before);
            continue;
        }
        list_del(&entry->in_list);
        run_kick(sched, entry);
    }
    while (!list_empty(&sched->rechecks)) {
        struct run_entry *entry = CONTAINER(sched->rechecks.next, struct run_entry, in_recheck);

        if (entry->recheck_at.us > sched->now.us) {
            wake_by(sched, entry->recheck_at);
            break;
        }
        list_del(&entry->in_recheck);
        entry->reload = true;
        quarantine_doubt(sched, entry->id, 0);
        run_kick(sched, entry);
    }
}

void runs_tick(struct sched *sched)
{
    struct run_id ids[LOAD_AT_ONCE];
    size_t n;

    tick_delayed(sched);
    while (!list_empty(&sched->to_load)) {
        uint64_t load = ++sched->next_load;

        for (n = 0; n < LOAD_AT_ONCE && !list_empty(&sched->to_load); n++) {
            struct run_entry *entry = CONTAINER(sched->to_load.next, struct run_entry, in_list);

            list_del(&entry->in_list);
            entry->state = ENTRY_LOADING;
            entry->reload = false;
            entry->load = load;
            ids[n] = entry->id;
        }
        sched->ports.load_runs(sched->ports.ctx, load, ids, n);
    }
}

void runs_evict(struct sched *sched)
{
    for (LIST_EACH(&sched->lru, at)) {
        struct run_entry *entry = CONTAINER(at, struct run_entry, in_lru);

        if (sched->run_bytes <= sched->set.cache_runs_bytes)
            break;
        if (list_empty(&entry->in_recheck) && entry->state != ENTRY_LOADING && entry->state != ENTRY_PLAN)
            run_free(sched, entry);
    }
}

void runs_free(struct sched *sched)
{
    for (size_t i = 0; i < sched->runs.cap; i++) {
        while (sched->runs.slots[i] != NULL) {
            struct run_entry *entry = CONTAINER(sched->runs.slots[i], struct run_entry, node);
            struct input *input = entry->first;

            entry->first = NULL;
            while (input != NULL) {
                struct input *next = input->next;

                if (input->delivery == NULL && input->command == NULL)
                    mem_free(input);
                input = next;
            }
            for (LIST_EACH(&entry->wanting, item))
                list_del(item);
            run_free(sched, entry);
        }
    }
    htable_deinit(&sched->runs);
}
