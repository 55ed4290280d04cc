/* Stands where the core would be: notes what the store tells it. */
#include "tests/contract/store.h"

#include "common/base/banned.h"

struct heard heard;

void heard_begin(void)
{
    heard = (struct heard){.arena = arena_new((size_t)1 << 16)};
}

void heard_end(void)
{
    arena_free(heard.arena);
}

static struct str keep(struct str s)
{
    return s.ptr == NULL ? STR_NONE : str_arena(heard.arena, s);
}

void sched_on_committed(struct sched *sched, uint64_t batch, const struct sched_commit_outcome *outcome)
{
    (void)sched;
    (void)batch;
    heard.committed++;
    heard.outcome = *outcome;
}

/* Room for `more` behind what is there. */
#define EXTEND(rows, count, more)                                                                                      \
    do {                                                                                                               \
        void *grown_ = arena_array(heard.arena, (count) + (more) + 1, sizeof(*(rows)));                                \
        if ((count) > 0)                                                                                               \
            memcpy(grown_, (rows), (count) * sizeof(*(rows)));                                                         \
        (rows) = grown_;                                                                                               \
    } while (0)

static struct sched_work_row *keep_work(const struct sched_work_row *rows, size_t count)
{
    struct sched_work_row *kept = arena_array(heard.arena, count + 1, sizeof(*kept));

    for (size_t i = 0; i < count; i++) {
        kept[i] = rows[i];
        kept[i].step = keep(rows[i].step);
        kept[i].pool = keep(rows[i].pool);
    }
    return kept;
}

static const struct sched_event_loaded *keep_events(const struct sched_event_loaded *rows, size_t count)
{
    struct sched_event_loaded *kept = arena_array(heard.arena, count + 1, sizeof(*kept));

    for (size_t i = 0; i < count; i++) {
        kept[i] = rows[i];
        kept[i].step = keep(rows[i].step);
        kept[i].data = keep(rows[i].data);
    }
    return kept;
}

void sched_on_loaded(struct sched *sched, uint64_t load, const struct sched_loaded_run *runs, size_t count)
{
    (void)sched;
    (void)load;
    EXTEND(heard.runs, heard.run_count, count);
    for (size_t i = 0; i < count; i++) {
        struct sched_loaded_run *run = &heard.runs[heard.run_count + i];

        *run = runs[i];
        run->organisation_name = keep(run->organisation_name);
        run->workflow = keep(run->workflow);
        run->input = keep(run->input);
        run->trigger = keep(run->trigger);
        run->parent_step = keep(run->parent_step);
        run->events = keep_events(run->events, run->event_count);
        run->work = keep_work(run->work, run->work_count);
    }
    heard.run_count += count;
}

void sched_on_open_work(struct sched *sched, int16_t shard, int64_t epoch, const struct sched_work_row *rows,
                        size_t count, const struct run_id *quarantined, size_t quarantined_count, bool last,
                        bool failed)
{
    (void)sched;
    (void)shard;
    (void)epoch;
    assert_false(heard.last); /* nothing comes after the last */
    EXTEND(heard.work, heard.work_count, count);
    memcpy(heard.work + heard.work_count, keep_work(rows, count), count * sizeof(*rows));
    heard.work_count += count;
    EXTEND(heard.quarantined, heard.quarantined_count, quarantined_count);
    if (quarantined_count > 0)
        memcpy(heard.quarantined + heard.quarantined_count, quarantined, quarantined_count * sizeof(*quarantined));
    heard.quarantined_count += quarantined_count;
    heard.pages++;
    heard.last = last;
    heard.failed = failed;
}

void sched_on_commands(struct sched *sched, uint64_t fetch, const struct sched_command *rows, size_t count,
                       bool complete, bool failed)
{
    (void)sched;
    (void)fetch;
    heard.commands++;
    heard.command_rows = arena_array(heard.arena, count + 1, sizeof(*rows));
    heard.command_count = count;
    heard.complete = complete;
    heard.failed = failed;
    for (size_t i = 0; i < count; i++) {
        heard.command_rows[i] = rows[i];
        heard.command_rows[i].kind = keep(rows[i].kind);
        heard.command_rows[i].body = keep(rows[i].body);
        heard.command_rows[i].reply_to = keep(rows[i].reply_to);
    }
}

void sched_on_looked(struct sched *sched, bool told, bool remaining, bool failed)
{
    (void)sched;
    heard.looks++;
    heard.look_told = told;
    heard.look_remaining = remaining;
    heard.failed = failed;
}

void sched_on_bodies(struct sched *sched, const struct sched_body *bodies, size_t count)
{
    (void)sched;
    heard.bodies++;
    EXTEND(heard.body_rows, heard.body_count, count);
    for (size_t i = 0; i < count; i++) {
        struct sched_body *kept = &heard.body_rows[heard.body_count++];

        *kept = bodies[i];
        kept->body = keep(bodies[i].body);
    }
}

void sched_on_plans(struct sched *sched, const struct sched_plan_loaded *plans, size_t count)
{
    (void)sched;
    heard.plans++;
    EXTEND(heard.plan_rows, heard.plan_count, count);
    for (size_t i = 0; i < count; i++) {
        struct sched_plan_loaded *kept = &heard.plan_rows[heard.plan_count++];

        *kept = plans[i];
        kept->key.workflow = keep(plans[i].key.workflow);
        kept->document = keep(plans[i].document);
    }
}
