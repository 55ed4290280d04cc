/* Task queues are kept short: what is ready beyond a window stays in the backlog and is released round robin over
 * organisations by weight (task_share.c says how long the window is). And what was published and not heard of is
 * published again, when there is reason to believe that it is lost. Rules: architecture.md "Queues and fairness" and
 * "Lost messages". */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define FINISHED_WINDOW_US (100 * US_PER_MS)
#define ASK_US (100 * US_PER_MS)       /* the depth, while there is a backlog */
#define ASK_HUNGRY_US (10 * US_PER_MS) /* ... and the queue was nearly empty */
#define ASK_OVERDUE_US (1 * US_PER_S)
#define DOUBTED_US (ASK_AFTER_US + US_PER_S) /* a worker that begins an older one without asking has begun it */
#define QUIET_US (2 * US_PER_S)              /* workers say within a second that they have begun */
#define ASK_LOST_US (5 * US_PER_S)           /* an answer that has not come by then never will */
/* So many windows may be on their way to a broker that is slow to take them: more would only wait in our connection,
 * where nobody can cancel it or share it out, and where it is overdue before it has arrived. */
#define UNCONFIRMED_WINDOWS 2
#define PAUSE_US (200 * US_PER_MS)
/* However many turns were handed on, what stands in line for so long gets one after so many. */
#define LINE_WAITS_US (1 * US_PER_S)
#define PASSED_BY_MOST 16
#define NO_PLACE_LOOKS 16 /* at organisations that have their places, before the rest is left for the next tick */

static bool takes_more(const struct sched *sched, const struct task_queue *q, uint32_t most)
{
    return sched->broker_up && q->paused_until.us <= sched->now.us && q->ready < (int64_t)most &&
           q->unconfirmed < UNCONFIRMED_WINDOWS * most;
}

static bool has_room(const struct sched *sched, const struct task_queue *q)
{
    return takes_more(sched, q, task_window(sched, q));
}

struct task_queue *task_queue_get(struct sched *sched, struct str pool, uint8_t priority)
{
    struct task_queue *q = sched->queues;

    while (q != NULL && (q->priority != priority || !str_eq(q->pool, pool)))
        q = q->next;
    if (q != NULL)
        return q;
    q = mem_alloc(sizeof(*q));
    q->pool = (struct str){mem_dup(pool.ptr, pool.len), pool.len};
    q->priority = priority;
    snprintf(q->name, sizeof(q->name), "ropewalk.task." STR_FMT ".%s", STR_ARG(pool), sched_priority_names[priority]);
    q->backlogs = map_new();
    list_init(&q->orgs);
    for (size_t i = 0; i < OVERDUE_LEVELS; i++)
        list_init(&q->unheard[i]);
    q->window_start = sched->now;
    q->reserve = task_reserve_idle(sched);
    q->heard_order = -1;
    q->next = sched->queues;
    sched->queues = q;
    return q;
}

static struct org_backlog *backlog_of(struct task_queue *q, struct org *org)
{
    struct str key = {(const char *)&org->id, sizeof(org->id)};
    struct org_backlog *backlog = map_get(q->backlogs, key);

    if (backlog != NULL)
        return backlog;
    backlog = mem_alloc(sizeof(*backlog));
    backlog->org = org;
    backlog->queue = q;
    list_init(&backlog->link);
    list_init(&backlog->next);
    list_init(&backlog->line);
    map_put(q->backlogs, key, backlog);
    return backlog;
}

void task_ready(struct sched *sched, struct item *item, enum task_place place)
{
    struct org_backlog *backlog = backlog_of(item->queue, item->org);

    (void)sched;
    ENSURE(item->state == ITEM_IDLE);
    if (backlog->count == 0)
        list_add_tail(&item->queue->orgs, &backlog->link);
    item->in_line = place == PLACE_LINE;
    if (place == PLACE_FIRST)
        list_add_head(&backlog->next, &item->list);
    else
        list_add_tail(item->in_line ? &backlog->line : &backlog->next, &item->list);
    backlog->line_count += item->in_line;
    backlog->count++;
    item->queue->backlog_count++;
    item->state = ITEM_BACKLOG;
}

static void leave_backlog(struct item *item)
{
    struct org_backlog *backlog = backlog_of(item->queue, item->org);

    list_del(&item->list);
    backlog->line_count -= item->in_line;
    backlog->count--;
    item->queue->backlog_count--;
    if (backlog->count > 0)
        return;
    list_del(&backlog->link);
    backlog->credit = backlog->passed_by = 0;
}

static void one_less_ready(struct task_queue *q)
{
    if (q->ready > 0)
        q->ready--;
}

/* Its message is no longer on its way: the broker or a worker has told, or it is given up. */
static void arrived(struct item *item)
{
    if (!item->unconfirmed)
        return;
    item->unconfirmed = false;
    item->queue->unconfirmed--;
}

void task_unready(struct sched *sched, struct item *item)
{
    switch ((enum item_state)item->state) {
    case ITEM_BACKLOG:
        leave_backlog(item);
        break;
    case ITEM_FETCHING:
        list_del(&item->list);
        backlog_of(item->queue, item->org)->picked--;
        item->queue->picked--;
        one_less_ready(item->queue);
        break;
    case ITEM_PUBLISHED:
        list_del(&item->list);
        arrived(item);
        item->queue->published_count--;
        backlog_of(item->queue, item->org)->published--;
        break;
    case ITEM_LEASED:
    case ITEM_DOUBTED:
        lease_end(sched, item);
        break;
    case ITEM_IDLE:
    case ITEM_LOSING:
        break;
    }
    item->state = ITEM_IDLE;
}

/* A sign of life: its message has left the queue. */
void task_heard(struct sched *sched, struct item *item)
{
    struct task_queue *q = item->queue;

    if (item->state != ITEM_PUBLISHED)
        return;
    arrived(item);
    one_less_ready(q);
    if (item->order > q->heard_order)
        q->heard_order = item->order;
    q->heard_at = sched->now;
}

void task_finished(struct sched *sched, struct item *item)
{
    struct task_queue *q = item->queue;

    task_heard(sched, item);
    if (sched->now.us - q->window_start.us >= FINISHED_WINDOW_US) {
        bool idle = sched->now.us - q->window_start.us >= 2 * FINISHED_WINDOW_US;

        q->finished_before = idle ? 0 : q->finished;
        q->finished = 0;
        q->window_start = sched->now;
    }
    q->finished++;
}

/* Makes the message of a task whose run is at hand; false when its body is not. */
static bool publish_with(struct sched *sched, struct item *item, struct run_entry *entry, uint32_t node,
                         struct str with)
{
    const struct plan_step *step = run_plan_step(entry->run, node);
    const struct step_state *state = run_step(entry->run, node);

    /* what a poll asks for is only a part of its template: it is always in the event */
    if (with.ptr == NULL && step->with.constant && step->kind != CALL_POLL)
        with = step->with.literal;
    if (with.ptr == NULL && state->input_seq != 0 && !body_get(sched, entry->id, state->input_seq, &with))
        return false;
    if (item->state == ITEM_FETCHING) {
        list_del(&item->list);
        backlog_of(item->queue, item->org)->picked--;
        item->queue->picked--;
    } else {
        item->queue->ready++;
    }
    item->publications++;
    item->state = ITEM_PUBLISHED;
    item->order = ++item->queue->next_order;
    item->published_at = sched->now;
    item->unconfirmed = true;
    item->queue->unconfirmed++;
    item->queue->published_count++;
    backlog_of(item->queue, item->org)->published++;
    item->queue->since_asked++;
    list_add_tail(&item->queue->unheard[item->tries < OVERDUE_LEVELS ? item->tries : OVERDUE_LEVELS - 1], &item->list);
    task_publish(sched, item, entry, node, with);
    return true;
}

bool task_try_now(struct sched *sched, struct item *item, struct run_entry *entry, uint32_t node, struct str with)
{
    if (item->queue->backlog_count > 0 || !has_room(sched, item->queue))
        return false;
    return publish_with(sched, item, entry, node, with);
}

/* The run is here, and no work has it in hand: what was picked of it can go. */
void task_publish_wanting(struct sched *sched, struct run_entry *entry)
{
    for (LIST_EACH(&entry->wanting, at)) {
        struct item *item = CONTAINER(at, struct item, list);
        uint32_t node = entry->run == NULL ? NO_NODE : engine_find_row(entry->run, item->seq);

        if (node == NO_NODE) {
            sched_log_run(LOG_ERROR, "task.not_in_history", entry, NULL);
            task_unready(sched, item);
        } else if (run_step(entry->run, node)->status == STEP_RUNNING) {
            /* Of a time before us: some worker has it, or had. Never published again when it was granted. */
            task_unready(sched, item);
            if (run_plan_step(entry->run, node)->at_most_once)
                item->granted = run_step(entry->run, node)->worker;
            lease_begin(sched, item, STR_NONE);
            if (entry->run->cancelling) { /* whoever cancelled it may have died before the worker heard */
                char path[STEP_PATH_SIZE];

                task_publish_cancel(sched, item, run_path(entry->run, node, path), CANCEL_STOP);
            }
        } else if (run_step(entry->run, node)->deferred && item->due_at.us > sched->wall.us) {
            task_unready(sched, item); /* its row did not say that it waits: its timer is set */
            item->deferred = true;
        } else if (run_is_held(entry)) {
            task_unready(sched, item);
            item->deferred = run_step(entry->run, node)->deferred;
        } else {
            publish_with(sched, item, entry, node, STR_NONE);
        }
    }
}

/* What was handed on goes first; but runs of many steps could hand turns on for hours, and what stands in line is not
 * to wait for that. */
static struct item *whose_turn(const struct sched *sched, struct org_backlog *backlog)
{
    struct item *first;

    if (list_empty(&backlog->line))
        return CONTAINER(backlog->next.next, struct item, list);
    first = CONTAINER(backlog->line.next, struct item, list);
    if (!list_empty(&backlog->next) &&
        (backlog->passed_by < PASSED_BY_MOST || sched->now.us - first->ready_at.us < LINE_WAITS_US)) {
        backlog->passed_by++;
        return CONTAINER(backlog->next.next, struct item, list);
    }
    backlog->passed_by = 0;
    backlog->begun++;
    return first;
}

static void pick(struct sched *sched, struct org_backlog *backlog)
{
    struct item *item = whose_turn(sched, backlog);
    struct run_entry *entry = run_get(sched, item->run, item->shard);

    leave_backlog(item);
    item->state = ITEM_FETCHING;
    item->queue->ready++;
    backlog->picked++;
    item->queue->picked++;
    list_add_tail(&entry->wanting, &item->list);
    run_kick(sched, entry);
}

/* Another scheduler may keep the queue full for its organisations, and see no reason to make room: ours take the places
 * that are theirs all the same. */
static void release_to_places(struct sched *sched, struct task_queue *q)
{
    int looks = 0;

    for (struct link *at = q->orgs.next; at != &q->orgs && looks < NO_PLACE_LOOKS;) {
        struct org_backlog *backlog = CONTAINER(at, struct org_backlog, link);

        at = at->next;
        if (!takes_more(sched, q, sched->set.window_max))
            return;
        if (!task_place_free(backlog)) {
            looks++;
            continue;
        }
        pick(sched, backlog);
        if (backlog->count == 0)
            continue;
        list_del(&backlog->link);
        list_add_tail(&q->orgs, &backlog->link);
        if (at == &q->orgs) /* it was the last, and is again */
            at = q->orgs.prev;
    }
}

static void release(struct sched *sched, struct task_queue *q)
{
    while (!list_empty(&q->orgs) && has_room(sched, q)) {
        struct org_backlog *backlog = CONTAINER(q->orgs.next, struct org_backlog, link);

        if (backlog->credit == 0)
            backlog->credit = backlog->org->weight;
        pick(sched, backlog);
        if (backlog->count == 0 || --backlog->credit > 0)
            continue;
        list_del(&backlog->link);
        list_add_tail(&q->orgs, &backlog->link);
    }
    release_to_places(sched, q);
}

void task_confirmed(struct sched *sched, uint64_t confirm, bool confirmed)
{
    struct item *item;

    item = item_of_slot(sched, (uint32_t)confirm, (uint32_t)(confirm >> 32));
    if (item == NULL || item->state != ITEM_PUBLISHED)
        return;
    arrived(item);
    if (confirmed)
        return;
    one_less_ready(item->queue);
    task_unready(sched, item);
    task_ready(sched, item, PLACE_FIRST);
    item->queue->paused_until = mono_after(sched->ports.mono(sched->ports.ctx), PAUSE_US);
}

static int64_t overdue_after(const struct sched *sched, size_t level)
{
    return sched->set.overdue_us << level;
}

static void ask_depth(struct sched *sched, struct task_queue *q)
{
    q->asking = true;
    q->asked_at = sched->now;
    q->since_asked = 0;
    sched->ports.queue_depth(sched->ports.ctx, q->name);
}

/* Has the time of some unheard task come? Then the queue's depth says what that means. */
static bool suspicious(struct sched *sched, struct task_queue *q)
{
    bool found = false;

    for (size_t level = 0; level < OVERDUE_LEVELS; level++) {
        const struct item *oldest;
        struct mono_us at;

        if (list_empty(&q->unheard[level]))
            continue;
        oldest = CONTAINER(q->unheard[level].next, struct item, list);
        at = mono_after(oldest->published_at, overdue_after(sched, level));
        if (at.us > sched->now.us)
            wake_by(sched, at);
        else
            found = true;
    }
    return found;
}

/* Tasks are out and nobody has begun one for a while: is there anybody who would? */
static bool is_quiet(struct sched *sched, struct task_queue *q)
{
    struct mono_us at;

    if (list_empty(&q->unheard[0]))
        return false;
    at = CONTAINER(q->unheard[0].next, struct item, list)->published_at;
    if (q->heard_at.us > at.us)
        at = q->heard_at;
    at = mono_after(at, QUIET_US);
    if (at.us > sched->now.us)
        wake_by(sched, at);
    return at.us <= sched->now.us;
}

/* The broker is back, perhaps without what it had in memory. */
void tasks_doubt(struct sched *sched)
{
    for (struct task_queue *q = sched->queues; q != NULL; q = q->next) {
        q->doubted_order = q->published_count > 0 ? q->next_order : 0;
        q->asking = false;
    }
}

static void tick_queue(struct sched *sched, struct task_queue *q)
{
    bool overdue = suspicious(sched, q) || is_quiet(sched, q) || q->doubted_order != 0;
    int64_t every_us = ASK_OVERDUE_US;

    if (q->paused_until.us > sched->now.us)
        wake_by(sched, q->paused_until);
    release(sched, q);
    if (q->backlog_count == 0)
        q->reserve = task_reserve_idle(sched);
    if (q->asking && sched->now.us - q->asked_at.us > ASK_LOST_US)
        q->asking = false;
    if ((!overdue && q->backlog_count == 0) || !sched->broker_up || q->asking)
        return;
    if (q->backlog_count > 0)
        every_us = q->last_depth < task_window(sched, q) / 2 ? ASK_HUNGRY_US : ASK_US;
    if (q->asked_at.us + every_us <= sched->now.us)
        ask_depth(sched, q);
    else
        wake_by(sched, mono_after(q->asked_at, every_us));
}

void tasks_tick(struct sched *sched)
{
    for (struct task_queue *q = sched->queues; q != NULL; q = q->next)
        tick_queue(sched, q);
}

static void publish_again(struct sched *sched, struct item *item)
{
    task_unready(sched, item);
    task_ready(sched, item, PLACE_FIRST);
    metric_add(METRIC_TASKS_REPUBLISHED, 1);
}

/* Lost, as far as can be told: its queue was empty after it was published, or a later task has begun. A queue without
 * consumers is never to blame, nor are consumers that have only just come. */
static void publish_overdue(struct sched *sched, struct task_queue *q, uint32_t depth)
{
    if (q->consumers_since.us != 0 && sched->now.us - q->consumers_since.us < sched->set.overdue_us)
        return;
    for (size_t level = 0; level < OVERDUE_LEVELS; level++) {
        for (LIST_EACH(&q->unheard[level], at)) {
            struct item *item = CONTAINER(at, struct item, list);

            if (item->published_at.us + overdue_after(sched, level) > sched->now.us)
                break;
            if (q->heard_order < item->order && (depth > 0 || item->published_at.us >= q->asked_at.us))
                continue;
            if (item->tries < OVERDUE_LEVELS)
                item->tries++;
            publish_again(sched, item);
        }
    }
}

/* What was published before the broker went and is not in its queue any more, nor heard of, is lost, or some worker has
 * it who then looks, or is looked for, before the step is begun twice. A queue with something in it may have kept it:
 * until a task that came later has begun. */
static void publish_doubted(struct sched *sched, struct task_queue *q, uint32_t depth)
{
    int64_t asked_before_us = sched->now.us - DOUBTED_US;
    bool later = false;

    if (depth > 0 && q->heard_order <= q->doubted_order)
        return;
    for (size_t level = 0; level < OVERDUE_LEVELS; level++) {
        for (LIST_EACH(&q->unheard[level], at)) {
            struct item *item = CONTAINER(at, struct item, list);

            if (item->order > q->doubted_order)
                continue;
            if (item->published_at.us > asked_before_us) {
                later = true;
                continue;
            }
            publish_again(sched, item);
        }
    }
    if (!later)
        q->doubted_order = 0;
}

void sched_on_queue_depth(struct sched *sched, const char *queue, bool known, uint32_t depth, uint32_t consumers)
{
    struct task_queue *q = sched->queues;
    int64_t coming;

    sched->now = sched->ports.mono(sched->ports.ctx);
    if (leases_depth(sched, queue, known, depth))
        return;
    while (q != NULL && strcmp(q->name, queue) != 0)
        q = q->next;
    if (q == NULL || !q->asking)
        return;
    q->asking = false;
    if (!known)
        return;
    /* No depth counts what is on its way: picked while its run was busy, or published and not confirmed. Forgotten, a
     * window would be let go with each answer. */
    coming = q->picked + (q->unconfirmed > q->since_asked ? q->unconfirmed : q->since_asked);
    q->ready = (int64_t)depth + coming;
    q->last_depth = depth;
    q->consumers_told = true;
    if (consumers > 0 && q->backlog_count > 0) {
        task_reserve_learn(sched, q, depth + q->picked + q->unconfirmed);
        task_looked(sched, q, depth);
    }
    if (consumers == 0)
        q->no_consumers = true;
    else if (q->no_consumers) {
        q->no_consumers = false;
        q->consumers_since = sched->now;
    }
    if (q->doubted_order != 0)
        publish_doubted(sched, q, depth);
    if (consumers > 0)
        publish_overdue(sched, q, depth);
}

int64_t task_longest_wait(const struct sched *sched, const struct org_backlog *backlog)
{
    const struct link *const lists[] = {&backlog->next, &backlog->line};
    int64_t longest_us = 0;

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        int64_t waited_us;

        if (list_empty(lists[i]))
            continue;
        waited_us = sched->now.us - CONTAINER(lists[i]->next, struct item, list)->ready_at.us;
        if (waited_us > longest_us)
            longest_us = waited_us;
    }
    return longest_us;
}

void sched_each_queue(const struct sched *sched, void (*fn)(void *ctx, const struct sched_queue_stat *stat), void *ctx)
{
    for (const struct task_queue *q = sched->queues; q != NULL; q = q->next) {
        struct sched_queue_stat stat = {
            .pool = q->pool, .priority = q->priority, .backlog = q->backlog_count, .published = q->published_count};

        stat.consumers = !q->consumers_told ? -1 : !q->no_consumers;

        for (const struct link *at = q->orgs.next; at != &q->orgs; at = at->next) {
            const struct org_backlog *backlog = CONTAINER(at, struct org_backlog, link);
            int64_t waited_us = task_longest_wait(sched, backlog);

            if (waited_us > stat.oldest_us)
                stat.oldest_us = waited_us;
        }
        fn(ctx, &stat);
    }
}

void tasks_free(struct sched *sched)
{
    while (sched->queues != NULL) {
        struct task_queue *q = sched->queues;
        size_t pos = 0;
        struct str key;
        void *backlog;

        sched->queues = q->next;
        while (map_next(q->backlogs, &pos, &key, &backlog))
            mem_free(backlog);
        map_free(q->backlogs);
        mem_free((void *)(uintptr_t)q->pool.ptr);
        mem_free(q);
    }
}
