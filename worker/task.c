/* Decoding of what the scheduler sends; see task.h. Limits are those of proto/task.v1.json. */
#include "worker/task.h"
#include "common/base/metrics.h"

#include "common/base/banned.h"

static const struct jt_limits LIMITS = {
    .max_bytes = (size_t)40 << 20, .max_depth = 160, .refuse_duplicates = true, .refuse_unstorable = true};

struct text_field {
    const char *name;
    size_t offset, max;
    bool required;
};

#define TEXT(field, limit, is_required)                                                                                \
    {                                                                                                                  \
        .name = #field, .offset = offsetof(struct task, field), .max = (limit), .required = (is_required)              \
    }
static const struct text_field TEXT_FIELDS[] = {
    TEXT(task_id, 512, true),      TEXT(token, 128, true),    TEXT(run_id, 36, true),
    TEXT(step, 512, true),         TEXT(workflow, 63, true),  TEXT(organisation, 63, true),
    TEXT(call, 128, true),         TEXT(reply_to, 255, true), TEXT(idempotency_key, 1024, false),
    TEXT(traceparent, 128, false),
};
#undef TEXT

static const char *const OTHER_FIELDS[] = {"v", "publication", "attempt", "with", "timeout", "deadline", "delivery"};

static bool is_absent(struct str value)
{
    return jt_type(value) == JT_NONE || jt_type(value) == JT_NULL;
}

static enum err_code read_text(struct str object, const struct text_field *field, struct arena *arena, void *base,
                               struct err *err)
{
    struct str value = jt_get(object, field->name), text;

    if (is_absent(value) && !field->required)
        return ERR_OK;
    if (!jt_string(value, arena, &text))
        return err_set(err, ERR_INVALID, "'%s' must be a string", field->name);
    if (text.len == 0 || text.len > field->max)
        return err_set(err, ERR_INVALID, "'%s' must have 1 to %zu bytes", field->name, field->max);
    memcpy((char *)base + field->offset, &text, sizeof(text));
    return ERR_OK;
}

static enum err_code read_number(struct str object, const char *name, int64_t max, int64_t *ret, struct err *err)
{
    int64_t n;

    if (!jt_i64(jt_get(object, name), &n) || n < 1 || n > max)
        return err_set(err, ERR_INVALID, "'%s' must be a whole number from 1 to %lld", name, (long long)max);
    *ret = n;
    return ERR_OK;
}

static enum err_code read_times(struct str object, struct arena *arena, struct task *task, struct err *err)
{
    struct str timeout = jt_get(object, "timeout"), deadline = jt_get(object, "deadline"), text;

    if (!is_absent(timeout)) {
        if (!jt_string(timeout, arena, &text) || !duration_parse(text, &task->timeout_us))
            return err_set(err, ERR_INVALID, "'timeout' must be a duration");
        if (task->timeout_us == 0)
            task->timeout_us = 1; /* 0 means no bound here; "0s" means at once */
    }
    if (!is_absent(deadline) && (!jt_string(deadline, arena, &text) || !wall_parse(text, &task->deadline)))
        return err_set(err, ERR_INVALID, "'deadline' must be a date and time");
    return ERR_OK;
}

static enum err_code read_version(struct str object, struct err *err)
{
    int64_t version;

    if (!jt_i64(jt_get(object, "v"), &version) || version != 1)
        return err_set(err, ERR_INVALID, "'v' must be 1");
    return ERR_OK;
}

static enum err_code read_rest(struct str object, struct arena *arena, struct task *task, struct err *err)
{
    struct str delivery = STR_NONE, with = jt_get(object, "with");
    enum err_code rc;

    rc = read_version(object, err);
    if (rc == ERR_OK)
        rc = read_number(object, "publication", 1000000000, &task->publication, err);
    if (rc == ERR_OK)
        rc = read_number(object, "attempt", 65535, &task->attempt, err);
    if (rc == ERR_OK)
        rc = read_times(object, arena, task, err);
    if (rc != ERR_OK)
        return rc;
    if (!is_absent(with)) {
        if (jt_type(with) != JT_OBJECT)
            return err_set(err, ERR_INVALID, "'with' must be an object");
        task->with = with;
    }
    /* A way of delivery that we do not know may forbid what we would do. */
    if (jt_string(jt_get(object, "delivery"), arena, &delivery) && str_is(delivery, "at_least_once"))
        task->delivery = TASK_AT_LEAST_ONCE;
    else if (str_is(delivery, "at_most_once"))
        task->delivery = TASK_AT_MOST_ONCE;
    else
        return err_set(err, ERR_INVALID, "'delivery' must be at_least_once or at_most_once");
    return ERR_OK;
}

static void count_unknown(struct str object)
{
    struct jt_iter it;
    int64_t unknown = 0;

    jt_iter_init(&it, object);
    while (jt_next(&it)) {
        bool known = false;

        for (size_t i = 0; i < sizeof(TEXT_FIELDS) / sizeof(TEXT_FIELDS[0]) && !known; i++)
            known = str_is(it.key, TEXT_FIELDS[i].name);
        for (size_t i = 0; i < sizeof(OTHER_FIELDS) / sizeof(OTHER_FIELDS[0]) && !known; i++)
            known = str_is(it.key, OTHER_FIELDS[i]);
        unknown += !known;
    }
    if (unknown > 0)
        metric_add(METRIC_MESSAGES_UNKNOWN_FIELDS, unknown);
}

enum err_code task_decode(struct str text, struct arena *arena, struct task *ret, struct err *err)
{
    enum err_code rc = jt_check(text, &LIMITS, err), first = ERR_OK;
    struct err ignored;

    *ret = (struct task){.attempt = 1, .publication = 1};
    if (rc != ERR_OK)
        return rc;
    text = str_trim(text);
    if (jt_type(text) != JT_OBJECT)
        return err_set(err, ERR_INVALID, "a task must be an object");
    /* All fields are read whatever is wrong with one: the three that an answer needs may still be there. */
    for (size_t i = 0; i < sizeof(TEXT_FIELDS) / sizeof(TEXT_FIELDS[0]); i++) {
        rc = read_text(text, &TEXT_FIELDS[i], arena, ret, first == ERR_OK ? err : &ignored);
        if (first == ERR_OK)
            first = rc;
    }
    rc = read_rest(text, arena, ret, first == ERR_OK ? err : &ignored);
    if (first == ERR_OK)
        first = rc;
    count_unknown(text);
    return first;
}

enum err_code control_decode(struct str type, struct str text, struct arena *arena, struct control *ret,
                             struct err *err)
{
    enum err_code rc = jt_check(text, &LIMITS, err);

    *ret = (struct control){0};
    if (rc != ERR_OK)
        return rc;
    text = str_trim(text);
    if (str_is(type, "grant"))
        ret->kind = CONTROL_GRANT;
    else if (str_is(type, "cancel"))
        ret->kind = CONTROL_CANCEL;
    else if (str_is(type, "drain"))
        ret->kind = CONTROL_DRAIN;
    else
        return err_set(err, ERR_INVALID, "a message of type '" STR_FMT "' is not for a worker", STR_ARG(type));
    rc = read_version(text, err);
    if (rc != ERR_OK || ret->kind == CONTROL_DRAIN)
        return rc;
    if (!jt_string(jt_get(text, "task_id"), arena, &ret->task_id) || ret->task_id.len == 0)
        return err_set(err, ERR_INVALID, "'task_id' must be a string");
    if (ret->kind == CONTROL_GRANT && !jt_bool(jt_get(text, "go"), &ret->go))
        return err_set(err, ERR_INVALID, "'go' must be a boolean");
    return ERR_OK;
}
