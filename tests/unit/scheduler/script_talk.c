/* What a test says to the core, and what it finds in what the core has said and written. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

void *script_deliver(struct script *s, int16_t shard, const char *type, const char *id, const char *body)
{
    void *delivery = arena_alloc(s->arena, 1);
    struct sched_message message = {.delivery = delivery,
                                    .shard = shard,
                                    .type = str_of(type),
                                    .message_id = str_of(id),
                                    .body = str_arena(s->arena, str_of(body))};

    sched_on_message(s->sched, &message);
    return delivery;
}

struct str script_token(struct script *s, const char *task_id)
{
    char token[SCHED_TOKEN_SIZE];

    sched_task_token(STR("key"), 7, str_of(task_id), token);
    return str_arena(s->arena, str_of(token));
}

void *script_result(struct script *s, int16_t shard, const struct sent *task, const char *worker, const char *rest)
{
    struct str token = script_token(s, task->id);

    return script_deliver(s, shard, "result", task->id,
                          arena_printf(s->arena,
                                       "{\"v\":1,\"results\":[{\"task_id\":\"%s\",\"token\":\"" STR_FMT
                                       "\",\"worker\":\"%s\",%s}]}",
                                       task->id, STR_ARG(token), worker, rest));
}

void *script_started(struct script *s, int16_t shard, const struct sent *task, const char *worker)
{
    struct str token = script_token(s, task->id);

    return script_deliver(s, shard, "started", task->id,
                          arena_printf(s->arena,
                                       "{\"v\":1,\"task_id\":\"%s\",\"token\":\"" STR_FMT
                                       "\",\"worker\":\"%s\",\"reply_to\":\"ropewalk.worker.%s\","
                                       "\"at\":\"2027-01-15T08:00:00Z\"}",
                                       task->id, STR_ARG(token), worker, worker));
}

void script_lapse(struct script *s, int16_t shard)
{
    char inbox[64];

    snprintf(inbox, sizeof(inbox), "ropewalk.inbox.%d", shard);
    for (int i = 0; i < 3; i++) {
        script_advance(s, 7 * SEC);
        script_depth(s, inbox, 0, 1);
    }
}

void script_heartbeat(struct script *s, const char *worker, const struct sent *task)
{
    sched_on_heartbeat(
        s->sched, str_of(arena_printf(s->arena, "{\"v\":1,\"worker\":\"%s\",\"tasks\":[\"%s\"]}", worker, task->id)));
}

void script_depth(struct script *s, const char *queue, uint32_t ready, uint32_t consumers)
{
    sched_on_queue_depth(s->sched, queue, true, ready, consumers);
    script_settle(s);
}

const struct sent *script_last(const struct script *s, const char *type)
{
    for (size_t i = s->sent_count; i > 0; i--)
        if (strcmp(s->sent[i - 1].type, type) == 0)
            return &s->sent[i - 1];
    return NULL;
}

size_t script_count(const struct script *s, const char *type)
{
    size_t n = 0;

    for (size_t i = 0; i < s->sent_count; i++)
        n += strcmp(s->sent[i].type, type) == 0;
    return n;
}

bool script_was_acked(const struct script *s, const void *delivery)
{
    for (size_t i = 0; i < s->acked_count; i++)
        if (s->acked[i].delivery == delivery)
            return true;
    return false;
}

bool script_was_forgotten(const struct script *s, const void *delivery)
{
    for (size_t i = 0; i < s->forgotten_count; i++)
        if (s->forgotten[i].delivery == delivery)
            return true;
    return false;
}

size_t script_events(const struct script *s, const struct script_run *run, enum event_type type)
{
    size_t n = 0;

    (void)s;
    for (size_t i = 0; i < run->event_count; i++)
        n += run->events[i].type == (int16_t)type;
    return n;
}

void script_answer(struct script *s, size_t i, const char *value)
{
    struct sched_value v = {.id = s->evaluations[i].id, .status = VALUE_OK, .value = str_of(value)};

    sched_on_values(s->sched, &v, 1);
    script_settle(s);
}

/* The output of the last event of that type and step (NULL: any). */
struct str script_output(const struct script_run *run, enum event_type type, const char *step)
{
    for (size_t i = run->event_count; i > 0; i--)
        if (run->events[i - 1].type == (int16_t)type && (step == NULL || str_is(run->events[i - 1].step, step)))
            return run->outputs[i - 1];
    fail_msg("no such event");
    return STR_NONE;
}

void assert_json(struct str value, const char *expected)
{
    if (!str_is(value, expected))
        fail_msg("%.*s is not %s", (int)value.len, value.ptr == NULL ? "" : value.ptr, expected);
}

struct script_run *script_begin(struct script *s, const char *document, const char *input)
{
    struct script_run *run = script_run(s, 0, document);

    run->input = str_of(input);
    script_settle(s);
    return run;
}

const struct sent *script_task(const struct script *s, const char *step)
{
    for (size_t i = s->sent_count; i > 0; i--) {
        struct str name;

        if (strcmp(s->sent[i - 1].type, "task") != 0)
            continue;
        assert_true(jt_string(jt_get(s->sent[i - 1].body, "step"), s->arena, &name));
        if (str_is(name, step))
            return &s->sent[i - 1];
    }
    fail_msg("no task of %s", step);
    return NULL;
}

void assert_member(struct script *s, const struct sent *task, const char *key, const char *expected)
{
    struct str text;

    assert_true(jt_string(jt_get(task->body, key), s->arena, &text));
    assert_json(text, expected);
}

const char *script_list(struct script *s, unsigned count)
{
    struct buf text;
    const char *input;

    buf_init(&text, 1 << 20);
    buf_append_str(&text, STR("{\"list\":["));
    for (unsigned i = 0; i < count; i++)
        buf_printf(&text, "%s{\"n\":%u}", i == 0 ? "" : ",", i);
    buf_append_str(&text, STR("]}"));
    input = str_arena(s->arena, buf_str(&text)).ptr;
    buf_deinit(&text);
    return input;
}
