/* Leases of attempts, in memory, on the monotonic clock. All have the same length, so that the list is in order of
 * their ends. None lapses while older messages of the inboxes are unread, nor before the broker has been at hand for a
 * whole lease: silence counts only where somebody could have been heard. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define DEPTH_AGAIN_US (200 * US_PER_MS)
#define DEPTH_LOST_US (5 * US_PER_S)

struct inbox_ask {
    char name[64];
    struct mono_us asked_at, empty_at; /* empty_at: of the newest question that found it empty */
    bool asking;
};

void lease_end(struct sched *sched, struct item *item)
{
    list_del(&item->list);
    sched->lease_count--;
    item->state = ITEM_IDLE;
}

void lease_begin(struct sched *sched, struct item *item, struct str worker_queue)
{
    task_heard(sched, item);
    if (worker_queue.ptr != NULL && !str_eq(item->worker_queue, worker_queue)) {
        mem_free((void *)(uintptr_t)item->worker_queue.ptr);
        item->worker_queue = (struct str){mem_dup(worker_queue.ptr, worker_queue.len), worker_queue.len};
    }
    task_unready(sched, item);
    item->state = ITEM_LEASED;
    item->tries = 0;
    item->lease_until = mono_after(sched->now, sched->set.lease_us);
    list_add_tail(&sched->leases, &item->list);
    sched->lease_count++;
}

static struct inbox_ask *inbox(struct sched *sched, const char *name)
{
    struct inbox_ask *ask = map_get(sched->inbox_depths, str_of(name));

    if (ask != NULL)
        return ask;
    ask = mem_alloc(sizeof(*ask));
    snprintf(ask->name, sizeof(ask->name), "%s", name);
    map_put(sched->inbox_depths, str_of(name), ask);
    return ask;
}

/* Was the inbox found empty by a question asked after `since`? If not, it is asked. */
static bool drained(struct sched *sched, const char *name, struct mono_us since)
{
    struct inbox_ask *ask = inbox(sched, name);

    if (ask->empty_at.us >= since.us)
        return true;
    if (ask->asking && sched->now.us - ask->asked_at.us < DEPTH_LOST_US)
        return false;
    if (ask->asked_at.us != 0 && sched->now.us - ask->asked_at.us < DEPTH_AGAIN_US) {
        wake_by(sched, mono_after(ask->asked_at, DEPTH_AGAIN_US));
        return false;
    }
    ask->asking = true;
    ask->asked_at = sched->now;
    sched->ports.queue_depth(sched->ports.ctx, ask->name);
    return false;
}

bool leases_depth(struct sched *sched, const char *queue, bool known, uint32_t ready)
{
    struct inbox_ask *ask = map_get(sched->inbox_depths, str_of(queue));

    if (ask == NULL)
        return false;
    ask->asking = false;
    if (known && ready == 0)
        ask->empty_at = ask->asked_at;
    return true;
}

/* What was delivered before may be waiting with the run. */
static bool inputs_wait(const struct sched *sched, const struct item *item)
{
    const struct run_entry *entry = run_find(sched, item->run);

    return entry != NULL && (entry->first != NULL || entry->work != NULL);
}

static bool shard_drained(struct sched *sched, int shard, struct mono_us since)
{
    char name[64];

    snprintf(name, sizeof(name), "ropewalk.inbox.%d", shard);
    return drained(sched, name, since);
}

/* What tells of it may lie unread in its shard's inbox, in that of ours which workers are told now, and in the one that
 * its message named, whose shard may be nobody's for a while. All are asked at once. */
static void decide(struct sched *sched, struct item *item)
{
    int own = item->shard->number, ours = sched->reply_to[0] != '\0' ? sched->reply_shard : own;
    int named = item->publications > 0 && item->reply_shard >= 0 ? item->reply_shard : own;
    bool empty = shard_drained(sched, own, item->lease_until);

    if (ours != own && !shard_drained(sched, ours, item->lease_until))
        empty = false;
    if (named != own && named != ours && !shard_drained(sched, named, item->lease_until))
        empty = false;
    if (!empty || inputs_wait(sched, item))
        return;
    log_event(LOG_WARN, "attempt.lease_lapsed", log_run("run_id", item->run), log_i64("seq", item->seq),
              log_i64("attempt", item->attempt), log_str("worker_queue", item->worker_queue));
    task_unready(sched, item);
    item->state = ITEM_LOSING;
    input_submit(sched, input_new_internal(item->run, IN_LOST, item->seq));
}

void leases_tick(struct sched *sched)
{
    struct mono_us trusted = mono_after(sched->broker_since, sched->set.lease_us);

    if (list_empty(&sched->leases) && list_empty(&sched->doubted))
        return;
    if (!sched->broker_up)
        return;
    if (trusted.us > sched->now.us) {
        wake_by(sched, trusted);
        return;
    }
    while (!list_empty(&sched->leases)) {
        struct item *item = CONTAINER(sched->leases.next, struct item, list);

        if (item->lease_until.us > sched->now.us) {
            wake_by(sched, item->lease_until);
            break;
        }
        list_del(&item->list);
        list_add_tail(&sched->doubted, &item->list);
        item->state = ITEM_DOUBTED;
    }
    for (LIST_EACH(&sched->doubted, at))
        decide(sched, CONTAINER(at, struct item, list));
    if (!list_empty(&sched->doubted))
        wake_by(sched, mono_after(sched->now, DEPTH_AGAIN_US));
}

void leases_free(struct sched *sched)
{
    size_t pos = 0;
    struct str key;
    void *ask;

    while (map_next(sched->inbox_depths, &pos, &key, &ask))
        mem_free(ask);
    map_free(sched->inbox_depths);
}
