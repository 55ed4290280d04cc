/* Concurrency keys, each of which belongs to the shard of its slot. What runs ask of a key comes as commands, like what
 * is asked of a run; what is to be done then PostgreSQL decides, row by row in the batch's transaction
 * (admission_apply): nothing of a key is kept here. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

static bool text_of(struct command *command, const char *key, struct str *ret)
{
    return jt_string(jt_get(command->body, key), command->arena, ret);
}

static bool is_mode(struct str mode)
{
    static const char *const modes[] = {"queue", "skip", "cancel_oldest", "take"};

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (str_is(mode, modes[i]))
            return true;
    return false;
}

bool admission_decode(struct command *command, const struct sched_command *from)
{
    struct sched_admission_row row = {.shard = from->shard,
                                      .key = from->run,
                                      .organisation = from->organisation,
                                      .release = str_is(from->kind, "slot_release"),
                                      .name = jt_get(command->body, "name")};
    struct sched_admission_row *kept;
    struct str run, limit = jt_get(command->body, "limit");
    int64_t seq, bound = 0;
    struct err err;

    if (command->body.ptr == NULL || jt_check(command->body, &JT_LIMITS_MESSAGE, &err) != ERR_OK)
        return false;
    command->arena = arena_new(1024);
    if (!text_of(command, "run", &run) || !run_id_parse(run, &row.run) || !jt_i64(jt_get(command->body, "seq"), &seq) ||
        seq < 0 || seq > INT32_MAX)
        return false;
    if (!row.release && (!text_of(command, "as", &row.mode) || !is_mode(row.mode)))
        return false;
    if (limit.ptr != NULL && (!jt_i64(limit, &bound) || bound < 1 || bound > UINT32_MAX))
        return false;
    (void)text_of(command, "workflow", &row.workflow);
    row.seq = (uint32_t)seq;
    row.bound = (uint32_t)bound;
    kept = arena_alloc(command->arena, sizeof(*kept));
    *kept = row;
    command->input.admission = kept;
    return true;
}

struct str admission_body(struct arena *arena, const struct run_entry *entry, const struct effect_admission *effect)
{
    CLEANUP(buf_deinit) struct buf text = {0};
    char run[UUID_TEXT_SIZE];
    struct jw w;

    run_id_format(entry->id, run);
    buf_init(&text, SIZE_MAX / 2);
    w = jw_to(&text);
    jw_obj(&w);
    jw_kcstr(&w, "run", run);
    jw_ki64(&w, "seq", effect->seq);
    if (!effect->release) {
        jw_kstr(&w, "as", effect->as);
        if (effect->limit != 0)
            jw_ki64(&w, "limit", effect->limit);
        if (effect->scope == ADMISSION_WORKFLOW)
            jw_kstr(&w, "workflow", entry->plan->workflow);
        if (effect->name.ptr != NULL)
            jw_kstr(&w, "name", effect->name);
    }
    jw_end_obj(&w);
    return str_arena(arena, buf_str(&text));
}

void run_note_bound(const struct sched *sched, const struct run_entry *entry, struct engine_input *in)
{
    int64_t standard = sched->set.limits.standard.of[LIMIT_RUNNING_RUNS];

    in->bounded = run_is_bounded(entry);
    in->standard = standard < LIMIT_INFO[LIMIT_RUNNING_RUNS].ceiling ? (uint32_t)standard : 0;
}

static void nudge(struct sched *sched, int16_t shard)
{
    char queue[64], body[64];

    snprintf(queue, sizeof(queue), "ropewalk.inbox.%d", shard);
    snprintf(body, sizeof(body), "{\"v\":1,\"shard\":%d}", shard);
    sched->ports.publish(sched->ports.ctx,
                         &(struct sched_publish){.queue = queue, .type = "nudge", .body = str_of(body)});
}

/* Each shard once: ours is looked at by ourselves. */
static void tell(struct sched *sched, int16_t shard, uint64_t told[SLOT_COUNT / 64])
{
    uint64_t bit = UINT64_C(1) << (shard % 64);

    if ((told[shard / 64] & bit) != 0)
        return;
    told[shard / 64] |= bit;
    if (shard_find(sched, shard) != NULL)
        commands_want(sched);
    else
        nudge(sched, shard);
}

void admissions_committed(struct sched *sched, const struct sched_batch *rows,
                          const struct sched_commit_outcome *outcome)
{
    uint64_t told[SLOT_COUNT / 64] = {0};

    for (size_t i = 0; i < rows->command_insert_count; i++)
        if (strncmp(rows->command_inserts[i].kind, "slot_", 5) == 0)
            tell(sched, rows->command_inserts[i].shard, told);
    for (size_t i = 0; i < outcome->told_count; i++)
        tell(sched, outcome->told[i], told);
}
