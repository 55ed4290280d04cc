/* What is to be done about schedules that are due. */
#include "scheduler/core/fire.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

static struct str trigger_json(const struct fire_row *row, const char *kind, struct wall_us nominal,
                               struct arena *arena)
{
    CLEANUP(buf_deinit) struct buf buf = {0};
    char at[WALL_TEXT_SIZE];
    struct jw w;

    wall_format(nominal, at);
    buf_init(&buf, 4096);
    w = jw_to(&buf);
    jw_obj(&w);
    jw_kstr(&w, "name", row->trigger);
    jw_kcstr(&w, "kind", kind);
    jw_kstr(&w, "schedule", row->id_text);
    jw_kcstr(&w, "nominal_at", at);
    jw_end_obj(&w);
    return str_arena(arena, buf_str(&buf));
}

struct deciding {
    const struct fire_row *row;
    struct schedule_definition definition;
    fire_run_fn make_run;
    void *ctx;
    struct arena *arena;
    struct fire *to;
    int32_t waiting;
    bool busy;
};

static void start(struct deciding *d, struct wall_us nominal, enum fire_what what)
{
    struct fire_time *time = &d->to->times[d->to->count++];

    *time = (struct fire_time){.nominal = nominal, .what = what};
    time->late_us = d->row->now.us - schedule_due(&d->definition, d->row->id_text, nominal).us;
    if (what != FIRE_START && what != FIRE_RELEASE)
        return;
    time->run = d->make_run(d->ctx, run_id_slot(d->row->id));
    time->cancels = d->busy && d->definition.overlap == SCHEDULE_CANCEL_PREVIOUS;
    time->trigger = trigger_json(d->row, d->definition.kind, nominal, d->arena);
}

static enum fire_what what_of(const struct deciding *d)
{
    switch (d->definition.overlap) {
    case SCHEDULE_ALLOW:
    case SCHEDULE_CANCEL_PREVIOUS:
        return FIRE_START;
    case SCHEDULE_SKIP:
        return d->busy ? FIRE_SKIP : FIRE_START;
    case SCHEDULE_QUEUE:
        if (!d->busy && d->waiting == 0)
            return FIRE_START;
        return d->waiting < FIRE_WAITING_MAX ? FIRE_QUEUE : FIRE_SKIP;
    }
    return FIRE_START;
}

/* Gives the last time that was dealt with, and through `ret_next` the first that was not; 0: none. */
static struct wall_us decide_times(struct deciding *d, struct wall_us *ret_next)
{
    const struct fire_row *row = d->row;
    struct schedule_turn turn;
    struct wall_us after = row->after;
    bool alone = d->definition.overlap != SCHEDULE_ALLOW;

    schedule_turn(&d->definition, row->after, row->now, d->arena, FIRE_TIMES_OF_ONE, &turn);
    for (size_t i = 0; i < turn.count; i++) {
        enum fire_what what = what_of(d);

        /* with jitter, what is not due yet waits, and what follows with it; so does what follows a start */
        if (schedule_due(&d->definition, row->id_text, turn.times[i]).us > row->now.us ||
            (alone && d->to->count > 0 && d->to->times[d->to->count - 1].what == FIRE_START)) {
            *ret_next = turn.times[i];
            return after;
        }
        d->waiting += what == FIRE_QUEUE;
        start(d, turn.times[i], what);
        after = turn.times[i];
    }
    *ret_next = turn.next;
    return turn.after;
}

void fire_decide(const struct fire_row *row, struct zones *zones, fire_run_fn make_run, void *ctx,
                 schedule_fault_fn fault, struct arena *arena, struct fire *ret)
{
    struct deciding d = {.row = row,
                         .make_run = make_run,
                         .ctx = ctx,
                         .arena = arena,
                         .to = ret,
                         .waiting = row->waiting,
                         .busy = row->busy};

    *ret = (struct fire){.row = row, .after = row->after, .next = {0}, .look_at = row->due};
    if (!schedule_definition_read(row->definition, zones, row->anchor, fault, (void *)(uintptr_t)row, &d.definition)) {
        ret->look_at.us = row->now.us + FIRE_UNREADABLE_US;
        return;
    }
    ret->readable = true;
    ret->times = arena_array(arena, FIRE_TIMES_OF_ONE + 1, sizeof(*ret->times));
    if (d.waiting > 0 && !d.busy) {
        start(&d, row->oldest, FIRE_RELEASE);
        d.waiting--;
        d.busy = true;
    }
    if (row->due.us == 0) {
        (void)schedule_next(&d.definition.when, ret->after, &ret->next);
        return;
    }
    ret->after = decide_times(&d, &ret->next);
    ret->look_at = ret->next.us == 0 ? ret->next : schedule_due(&d.definition, row->id_text, ret->next);
}

void fire_pace_init(struct fire_pace *pace)
{
    pace->most = FIRE_SLICE;
}

int64_t fire_look_after_us(int64_t next_in_us, bool waiting)
{
    if (waiting || next_in_us < FIRE_LOOK_LEAST_US)
        return FIRE_LOOK_LEAST_US;
    return next_in_us < FIRE_LOOK_MOST_US ? next_in_us : FIRE_LOOK_MOST_US;
}

enum fire_verdict fire_pace_after(struct fire_pace *pace, enum err_code rc, size_t schedules)
{
    if (rc == ERR_OK) {
        pace->most = pace->most < FIRE_SLICE / 2 ? pace->most * 2 : FIRE_SLICE;
        return FIRE_GO_ON;
    }
    if (rc != ERR_REFUSED_DATA)
        return FIRE_AGAIN;
    if (schedules <= 1)
        return FIRE_REFUSED;
    pace->most = schedules / 2;
    return FIRE_AGAIN;
}
