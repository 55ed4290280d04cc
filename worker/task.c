/* Decoding of what the scheduler sends; see task.h. proto/ says what is right; here slices become values. */
#include "worker/task.h"
#include "proto/proto_messages.h"

#include "common/base/banned.h"

static const struct jt_limits LIMITS = {
    .max_bytes = (size_t)40 << 20, .max_depth = 160, .refuse_duplicates = true, .refuse_unstorable = true};

/* Texts of a task. The schema counts characters, AMQP and our buffers bytes: `max` is these. */
static const struct text_field {
    enum task_field field;
    size_t offset, max;
} TEXT_FIELDS[] = {
    {TASK_TASK_ID, offsetof(struct task, task_id), 512},
    {TASK_TOKEN, offsetof(struct task, token), 128},
    {TASK_RUN_ID, offsetof(struct task, run_id), 36},
    {TASK_STEP, offsetof(struct task, step), 512},
    {TASK_WORKFLOW, offsetof(struct task, workflow), 63},
    {TASK_ORGANISATION, offsetof(struct task, organisation), 63},
    {TASK_CALL, offsetof(struct task, call), 128},
    {TASK_REPLY_TO, offsetof(struct task, reply_to), 255},
    {TASK_IDEMPOTENCY_KEY, offsetof(struct task, idempotency_key), 1024},
    {TASK_TRACEPARENT, offsetof(struct task, traceparent), 128},
};

static enum err_code read_text(const struct str *fields, const struct text_field *text, struct arena *arena, void *base,
                               struct err *err)
{
    struct str value;

    if (fields[text->field].ptr == NULL)
        return ERR_OK;
    if (!jt_string(fields[text->field], arena, &value) || value.len == 0 || value.len > text->max)
        return err_set(err, ERR_INVALID, "'" STR_FMT "' must have 1 to %zu bytes",
                       STR_ARG(schema_field_name(&SCHEMA_TASK, text->field)), text->max);
    memcpy((char *)base + text->offset, &value, sizeof(value));
    return ERR_OK;
}

/* What the schema notes but does not check: whether a date is one. */
static enum err_code read_time(const char *name, struct str value, struct arena *arena, struct wall_us *ret,
                               struct err *err)
{
    struct str text;

    if (value.ptr == NULL || (jt_string(value, arena, &text) && wall_parse(text, ret)))
        return ERR_OK;
    return err_set(err, ERR_INVALID, "'%s' must be a date and time", name);
}

static void read_values(const struct str *fields, struct arena *arena, struct task *task)
{
    struct str text = STR_NONE;

    (void)jt_i64(fields[TASK_PUBLICATION], &task->publication);
    (void)jt_i64(fields[TASK_ATTEMPT], &task->attempt);
    (void)jt_i64(fields[TASK_MAX_OUTPUT_BYTES], &task->max_output);
    if (jt_string(fields[TASK_TIMEOUT], arena, &text) && duration_parse(text, &task->timeout_us) &&
        task->timeout_us == 0)
        task->timeout_us = 1; /* 0 means no bound here; "0s" means at once */
    task->with = fields[TASK_WITH];
    if (jt_type(fields[TASK_SECRETS]) == JT_ARRAY)
        task->secrets = fields[TASK_SECRETS];
    if (jt_string(fields[TASK_DELIVERY], arena, &text) && str_is(text, "at_most_once"))
        task->delivery = TASK_AT_MOST_ONCE;
}

enum err_code task_decode(struct str text, struct arena *arena, struct task *ret, struct err *err)
{
    struct str fields[TASK_FIELDS];
    enum err_code rc = jt_check(text, &LIMITS, err), read;
    struct err ignored;

    *ret = (struct task){.attempt = 1, .publication = 1};
    if (rc != ERR_OK)
        return rc;
    text = str_arena(arena, text);
    rc = schema_decode(&SCHEMA_TASK, text, fields, err);
    if (rc != ERR_OK)
        schema_slices(&SCHEMA_TASK, text, fields);
    /* Texts are read whatever is wrong: the three that an answer needs may still be there. */
    for (size_t i = 0; i < sizeof(TEXT_FIELDS) / sizeof(TEXT_FIELDS[0]); i++) {
        read = read_text(fields, &TEXT_FIELDS[i], arena, ret, rc == ERR_OK ? err : &ignored);
        rc = rc == ERR_OK ? read : rc;
    }
    if (rc == ERR_OK)
        rc = read_time("deadline", fields[TASK_DEADLINE], arena, &ret->deadline, err);
    if (rc == ERR_OK)
        rc = read_time("ask_after", fields[TASK_ASK_AFTER], arena, &ret->ask_after, err);
    if (rc == ERR_OK)
        read_values(fields, arena, ret);
    return rc;
}

static enum err_code read_control_id(struct str value, struct arena *arena, struct control *ret, struct err *err)
{
    if (!jt_string(value, arena, &ret->task_id))
        return err_set(err, ERR_INVALID, "'task_id' must be a string");
    return ERR_OK;
}

enum err_code control_decode(struct str type, struct str text, struct arena *arena, struct control *ret,
                             struct err *err)
{
    struct str grant[GRANT_FIELDS], cancel[CANCEL_FIELDS], drain[DRAIN_FIELDS];
    enum err_code rc = jt_check(text, &LIMITS, err);

    *ret = (struct control){0};
    if (rc != ERR_OK)
        return rc;
    if (str_is(type, "drain")) {
        ret->kind = CONTROL_DRAIN;
        return schema_decode(&SCHEMA_DRAIN, text, drain, err);
    }
    if (str_is(type, "cancel")) {
        ret->kind = CONTROL_CANCEL;
        rc = schema_decode(&SCHEMA_CANCEL, text, cancel, err);
        if (rc != ERR_OK)
            return rc;
        if (str_is(cancel[CANCEL_IF_RUNNING], "\"now\""))
            ret->if_running = CANCEL_NOW;
        else if (str_is(cancel[CANCEL_IF_RUNNING], "\"finish\""))
            ret->if_running = CANCEL_FINISH;
        return read_control_id(cancel[CANCEL_TASK_ID], arena, ret, err);
    }
    if (!str_is(type, "grant"))
        return err_set(err, ERR_INVALID, "a message of type '" STR_FMT "' is not for a worker", STR_ARG(type));
    rc = schema_decode(&SCHEMA_GRANT, text, grant, err);
    if (rc == ERR_OK)
        rc = read_control_id(grant[GRANT_TASK_ID], arena, ret, err);
    if (rc == ERR_OK)
        rc = read_time("at", grant[GRANT_AT], arena, &ret->at, err);
    if (rc == ERR_OK)
        (void)(jt_bool(grant[GRANT_GO], &ret->go) && jt_i64(grant[GRANT_ASK], &ret->ask));
    return rc;
}
