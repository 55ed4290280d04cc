/* What gateways are told: committed events of runs that somebody watches, ends of runs that somebody waits for, and
 * verdicts on commands. Unconfirmed: who misses one reads the rows. In memory only, forgotten when not renewed. */
#include "common/engine/body_path.h"
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define WATCHERS_MAX 200000
#define SWEEP_US (5 * US_PER_S)
#define UPDATE_BODIES_BYTES (256 * 1024) /* beyond it an update has references only, however small the bodies */

static struct watched *find(const struct sched *sched, struct run_id run)
{
    uint64_t hash = run_hash(run);

    for (struct hnode *n = htable_chain(&sched->watched, hash); n != NULL; n = n->next) {
        struct watched *watched = CONTAINER(n, struct watched, node);

        if (n->hash == hash && run_id_eq(watched->run, run))
            return watched;
    }
    return NULL;
}

static void watcher_free(struct sched *sched, struct watcher *watcher)
{
    list_del(&watcher->link);
    mem_free(watcher->reply_to);
    mem_free(watcher);
    sched->watcher_count--;
}

static void watched_free(struct sched *sched, struct watched *watched)
{
    for (LIST_EACH(&watched->watchers, at))
        watcher_free(sched, CONTAINER(at, struct watcher, link));
    htable_del(&sched->watched, &watched->node);
    mem_free(watched);
}

static struct watcher *find_watcher(struct watched *watched, struct str reply_to, bool waits)
{
    for (LIST_EACH(&watched->watchers, at)) {
        struct watcher *watcher = CONTAINER(at, struct watcher, link);

        if ((watcher->after_seq == INT64_MAX) == waits && str_is(reply_to, watcher->reply_to))
            return watcher;
    }
    return NULL;
}

void push_watch(struct sched *sched, struct run_id run, struct str reply_to, int64_t after_seq, int64_t keep_us)
{
    struct shard *shard = shard_find(sched, shard_of_run(sched, run));
    struct watched *watched = find(sched, run);
    struct watcher *watcher;
    bool waits = after_seq == INT64_MAX;

    if (shard == NULL || (watched == NULL && sched->watcher_count >= WATCHERS_MAX))
        return;
    if (watched == NULL) {
        watched = mem_alloc(sizeof(*watched));
        watched->run = run;
        list_init(&watched->watchers);
        htable_add(&sched->watched, &watched->node, run_hash(run));
    }
    watcher = find_watcher(watched, reply_to, waits);
    if (watcher == NULL) {
        watcher = mem_alloc(sizeof(*watcher));
        watcher->reply_to = mem_dup(reply_to.ptr, reply_to.len);
        watcher->after_seq = after_seq;
        watcher->greeted = waits;
        list_add_tail(&watched->watchers, &watcher->link);
        sched->watcher_count++;
    } else if (!waits && after_seq < watcher->after_seq) {
        watcher->after_seq = after_seq; /* another viewer at the same gateway has seen less */
        watcher->greeted = false;
    }
    watcher->until = mono_after(sched->now, keep_us);
    if (!watcher->greeted) {
        struct run_entry *entry = run_get(sched, run, shard);

        entry->greet = true;
        run_kick(sched, entry);
    }
}

/* The body, or where it can be had when it, or all together, is large. */
static void put_output(struct sched *sched, struct jw *w, struct run_id run, const struct event *event)
{
    if (event->output.ptr == NULL)
        return;
    if (event->output.len <= BODY_IN_UPDATE_BYTES && sched->message.len + event->output.len <= UPDATE_BODIES_BYTES) {
        jw_kraw(w, "output", event->output);
        return;
    }
    buf_reset(&sched->scratch);
    body_path(run, event->type, event->step, event->attempt, event->seq, &sched->scratch);
    jw_key(w, "output");
    jw_obj(w);
    jw_kstr(w, "$ref", buf_str(&sched->scratch));
    jw_ki64(w, "bytes", (int64_t)event->output.len);
    jw_end_obj(w);
}

static void put_event(struct sched *sched, struct jw *w, struct run_id run, const struct event *event)
{
    char at[WALL_TEXT_SIZE];

    wall_format(event->at, at);
    jw_obj(w);
    jw_ki64(w, "seq", event->seq);
    jw_kcstr(w, "type", event_type_name(event->type));
    jw_kcstr(w, "at", at);
    if (event->step.ptr != NULL)
        jw_kstr(w, "step", event->step);
    if (event->attempt != 0)
        jw_ki64(w, "attempt", event->attempt);
    buf_reset(&sched->scratch);
    event_encode_data(event, &sched->scratch);
    if (sched->scratch.len > 0)
        jw_kraw(w, "data", buf_str(&sched->scratch));
    put_output(sched, w, run, event);
    jw_end_obj(w);
}

struct verdict {
    int64_t command; /* 0: none */
    bool applied;
    struct str code, reason;
};

static void send_update(struct sched *sched, struct run_id run, uint8_t status, uint32_t last_seq,
                        const struct effects *fx, int64_t after_seq, const struct verdict *verdict, const char *queue)
{
    struct jw w = jw_to(&sched->message);
    struct sched_publish publish = {.queue = queue, .type = "update"};
    char id[UUID_TEXT_SIZE];

    run_id_format(run, id);
    buf_reset(&sched->message);
    jw_obj(&w);
    jw_ki64(&w, "v", 1);
    jw_kcstr(&w, "run_id", id);
    jw_kcstr(&w, "status", run_status_name((enum run_status)status));
    jw_kbool(&w, "ended", run_ended((enum run_status)status));
    jw_ki64(&w, "last_seq", last_seq);
    jw_key(&w, "events");
    jw_arr(&w);
    for (size_t i = 0; fx != NULL && i < fx->event_count; i++)
        if ((int64_t)fx->events[i].seq > after_seq)
            put_event(sched, &w, run, &fx->events[i]);
    jw_end_arr(&w);
    if (verdict != NULL) {
        jw_ki64(&w, "command", verdict->command);
        jw_kbool(&w, "applied", verdict->applied);
        if (verdict->code.len > 0)
            jw_kstr(&w, "code", verdict->code);
        if (verdict->reason.ptr != NULL)
            jw_kstr(&w, "reason", verdict->reason);
    }
    jw_end_obj(&w);
    publish.body = buf_str(&sched->message);
    sched->ports.publish(sched->ports.ctx, &publish);
}

static void push_verdicts(struct sched *sched, const struct work *work)
{
    const struct run_entry *entry = work->entry;

    for (const struct input *input = work->first; input != NULL; input = input->next) {
        const struct command *command = input->command;
        char queue[QUEUE_NAME_SIZE];

        if (command == NULL || command->reply_to.len == 0 || command->reply_to.len >= sizeof(queue))
            continue;
        snprintf(queue, sizeof(queue), STR_FMT, STR_ARG(command->reply_to));
        if (entry->run == NULL) {
            struct verdict held = {.command = command->id,
                                   .code = STR("quarantined"),
                                   .reason = STR("the run is quarantined and cannot be read")};

            if (work->holds && input->kind == INPUT_RELEASE)
                send_update(sched, entry->id, RUN_ACTIVE, 0, NULL, 0, &held, queue);
            continue;
        }
        for (size_t i = 0; i < work->fx.event_count; i++) {
            const struct event *event = &work->fx.events[i];
            struct verdict verdict = {.command = command->id,
                                      .applied = event->type == EVENT_COMMAND_APPLIED,
                                      .code = event->code,
                                      .reason = event->message};

            if (event->command != command->id ||
                (event->type != EVENT_COMMAND_APPLIED && event->type != EVENT_COMMAND_REFUSED))
                continue;
            if (!verdict.applied && verdict.code.len == 0)
                verdict.code = STR("refused");
            send_update(sched, entry->id, entry->run->status, entry->run->last_seq, NULL, 0, &verdict, queue);
        }
    }
}

void push_committed(struct sched *sched, struct work *work)
{
    struct run_entry *entry = work->entry;
    struct watched *watched = sched->watched.len == 0 ? NULL : find(sched, entry->id);
    bool ended = work->run_ended.us != 0;

    push_verdicts(sched, work);
    if (watched == NULL || entry->run == NULL || work->fx.event_count == 0)
        return;
    watched->known = true;
    watched->status = entry->run->status;
    watched->last_seq = entry->run->last_seq;
    for (LIST_EACH(&watched->watchers, at)) {
        struct watcher *watcher = CONTAINER(at, struct watcher, link);
        bool waits = watcher->after_seq == INT64_MAX;

        if (watcher->until.us < sched->now.us || (waits && !ended))
            continue;
        send_update(sched, entry->id, entry->run->status, entry->run->last_seq, &work->fx, watcher->after_seq, NULL,
                    watcher->reply_to);
        if (!waits)
            watcher->after_seq = entry->run->last_seq;
        watcher->greeted = true;
    }
    if (ended)
        watched_free(sched, watched);
}

/* The run is here: whoever has not heard of it learns its last event, and reads what it has missed. */
void push_greet(struct sched *sched, struct run_entry *entry)
{
    struct watched *watched = find(sched, entry->id);

    entry->greet = false;
    if (watched == NULL)
        return;
    if (entry->run == NULL) {
        watched_free(sched, watched);
        return;
    }
    watched->known = true;
    watched->status = entry->run->status;
    watched->last_seq = entry->run->last_seq;
    for (LIST_EACH(&watched->watchers, at)) {
        struct watcher *watcher = CONTAINER(at, struct watcher, link);

        if (watcher->greeted)
            continue;
        watcher->greeted = true;
        if (watcher->after_seq < (int64_t)entry->run->last_seq)
            watcher->after_seq = entry->run->last_seq;
        send_update(sched, entry->id, watched->status, watched->last_seq, NULL, 0, NULL, watcher->reply_to);
    }
}

void push_tick(struct sched *sched)
{
    if (sched->watched.len == 0)
        return;
    if (sched->watch_sweep_at.us > sched->now.us) {
        wake_by(sched, sched->watch_sweep_at);
        return;
    }
    sched->watch_sweep_at = mono_after(sched->now, SWEEP_US);
    wake_by(sched, sched->watch_sweep_at);
    for (size_t i = 0; i < sched->watched.cap; i++) {
        for (struct hnode *n = sched->watched.slots[i], *next; n != NULL; n = next) {
            struct watched *watched = CONTAINER(n, struct watched, node);

            next = n->next;
            for (LIST_EACH(&watched->watchers, at)) {
                struct watcher *watcher = CONTAINER(at, struct watcher, link);

                if (watcher->until.us < sched->now.us)
                    watcher_free(sched, watcher);
            }
            if (list_empty(&watched->watchers))
                watched_free(sched, watched);
        }
    }
}

void push_free(struct sched *sched)
{
    for (size_t i = 0; i < sched->watched.cap; i++) {
        while (sched->watched.slots[i] != NULL)
            watched_free(sched, CONTAINER(sched->watched.slots[i], struct watched, node));
    }
    htable_deinit(&sched->watched);
}
