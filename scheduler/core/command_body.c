/* Bodies of commands: from JSON to what the engine takes. Those of people have been checked by the gateway; what gets
 * here all the same and says nothing is refused. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define SIGNAL_NAME_MAX 255

static bool text_of(struct command *command, const char *key, struct str *ret)
{
    if (command->arena == NULL)
        command->arena = arena_new(1024);
    return jt_string(jt_get(command->body, key), command->arena, ret);
}

/* STR_NONE for null, as outputs have it. */
static struct str value_of(const struct command *command, const char *key)
{
    struct str value = jt_get(command->body, key);

    return str_is(value, "null") ? STR_NONE : value;
}

/* Each gives what is wrong, or NULL. */
static const char *read_nothing(struct command *command, struct engine_input *in)
{
    (void)command;
    (void)in;
    return NULL;
}

static const char *read_cancel(struct command *command, struct engine_input *in)
{
    struct str compensate = value_of(command, "compensate");
    struct str by = value_of(command, "superseded_by"), id;
    struct run_id newer;

    if (compensate.ptr != NULL && !jt_bool(compensate, &in->compensate))
        return "'compensate' is not true or false";
    if (by.ptr == NULL)
        return NULL;
    if (!text_of(command, "superseded_by", &id) || !run_id_parse(id, &newer))
        return "'superseded_by' is no id of a run";
    in->code = STR("concurrency_limit");
    in->message = str_of(
        arena_printf(command->arena, "run " STR_FMT " took its place: 'on_limit' is 'cancel_oldest'", STR_ARG(id)));
    return NULL;
}

static const char *read_pause(struct command *command, struct engine_input *in)
{
    struct str parent = value_of(command, "parent");

    (void)text_of(command, "by", &in->by); /* nobody need be named */
    return parent.ptr == NULL || jt_bool(parent, &in->of_parent) ? NULL : "'parent' is not true or false";
}

static const char *read_signal(struct command *command, struct engine_input *in)
{
    if (!text_of(command, "name", &in->name) || in->name.len == 0 || in->name.len > SIGNAL_NAME_MAX)
        return "'name' is no text of 1 to 255 bytes";
    in->value = value_of(command, "payload");
    return NULL;
}

static const char *read_step(struct command *command, struct engine_input *in)
{
    if (!text_of(command, "step", &in->step) || in->step.len == 0 || in->step.len >= STEP_PATH_SIZE)
        return "'step' is no path of a step";
    return NULL;
}

static const char *read_settle(struct command *command, struct engine_input *in)
{
    const char *fault = read_step(command, in);
    struct str as;

    if (fault != NULL)
        return fault;
    if (!text_of(command, "as", &as) || (!str_is(as, "succeeded") && !str_is(as, "failed")))
        return "'as' is neither 'succeeded' nor 'failed'";
    in->as_failed = str_is(as, "failed");
    in->value = in->as_failed ? STR_NONE : value_of(command, "output");
    return NULL;
}

static const char *read_grant(struct command *command, struct engine_input *in)
{
    struct str refused = value_of(command, "refused");
    int64_t seq;

    if (!jt_i64(jt_get(command->body, "seq"), &seq) || seq < 1 || seq > UINT32_MAX)
        return "'seq' is no number of an event";
    if (refused.ptr != NULL && !jt_bool(refused, &in->failed))
        return "'refused' is not true or false";
    in->seq = (uint32_t)seq;
    return NULL;
}

/* An event, for the wait that it may be for; without it where it is not kept any more. */
static const char *read_event(struct command *command, struct engine_input *in)
{
    int64_t seq;

    if (command->body.ptr == NULL || jt_type(jt_get(command->body, "event")) != JT_OBJECT)
        return "the event is not kept any more";
    if (!jt_i64(jt_get(command->body, "seq"), &seq) || seq < 1 || seq > UINT32_MAX)
        return "'seq' is no number of an event";
    in->seq = (uint32_t)seq;
    in->value = jt_get(command->body, "event");
    return NULL;
}

static bool end_named(struct str name, enum run_status *ret)
{
    for (enum run_status status = RUN_SUCCEEDED; status <= RUN_COMPENSATION_FAILED; status++) {
        if (str_is(name, run_status_name(status))) {
            *ret = status;
            return true;
        }
    }
    return false;
}

static bool read_retries(struct command *command, struct engine_input *in)
{
    struct str retries = value_of(command, "retries");
    int64_t number = 0;

    if (retries.ptr != NULL && (!jt_i64(retries, &number) || number < 0 || number > UINT32_MAX))
        return false;
    in->retries = (uint32_t)number;
    return true;
}

static const char *read_child(struct command *command, struct engine_input *in)
{
    const char *fault = read_step(command, in);
    struct str child, status, error;

    if (fault != NULL)
        return fault;
    if (!text_of(command, "child", &child) || !run_id_parse(child, &in->child))
        return "'child' is no id of a run";
    if (!text_of(command, "status", &status) || !end_named(status, &in->child_status))
        return "'status' is none that a run ends with";
    if (!read_retries(command, in))
        return "'retries' is no number";
    in->refused_retry = str_is(value_of(command, "refused"), "true");
    in->output = value_of(command, "output");
    error = jt_get(command->body, "error");
    (void)jt_string(jt_get(error, "code"), command->arena, &in->code);
    (void)jt_string(jt_get(error, "message"), command->arena, &in->message);
    return NULL;
}

/* A start that is not whole: where it begins, and outcomes that it is given. A kind of its own, so that a release that
 * does not know it does not start the run from its beginning. */
static const char *read_begin(struct command *command, struct engine_input *in)
{
    struct str step = value_of(command, "start_at_step");

    in->given = value_of(command, "given");
    if (in->given.ptr != NULL && jt_type(in->given) != JT_ARRAY)
        return "'given' is no list";
    if (step.ptr != NULL && !text_of(command, "start_at_step", &in->start_at))
        return "'start_at_step' is no name of a step";
    return NULL;
}

static const char *read_retry(struct command *command, struct engine_input *in)
{
    if (!read_retries(command, in))
        return "'retries' is no number";
    in->of_parent = in->retries != 0;
    in->confirm = value_of(command, "confirm");
    if (in->confirm.ptr == NULL || jt_type(in->confirm) == JT_ARRAY)
        return NULL;
    if (!jt_bool(in->confirm, &in->confirm_all))
        return "'confirm' is neither true or false nor a list of steps";
    in->confirm = STR_NONE;
    return NULL;
}

static const struct kind {
    const char *name;
    enum engine_input_kind kind;
    const char *(*read)(struct command *command, struct engine_input *in);
} kinds[] = {{"start", IN_START, read_nothing},     {"cancel", IN_CANCEL, read_cancel},
             {"signal", IN_SIGNAL, read_signal},    {"settle", IN_SETTLE, read_settle},
             {"child_ended", IN_CHILD, read_child}, {"compensate", IN_COMPENSATE, read_nothing},
             {"retry", IN_RETRY, read_retry},       {"pause", IN_PAUSE, read_pause},
             {"resume", IN_RESUME, read_pause},     {"begin", IN_START, read_begin},
             {"slot_grant", IN_ADMIT, read_grant},  {"event", IN_EVENT, read_event}};

static const char *read_body(const struct kind *kind, struct command *command)
{
    struct err err;

    if (command->body.ptr != NULL && jt_check(command->body, &JT_LIMITS_MESSAGE, &err) != ERR_OK)
        return "its body is not JSON, or beyond a limit";
    return kind->read(command, &command->input.in);
}

bool command_decode(struct command *command)
{
    struct input *input = &command->input;
    const struct kind *kind = NULL;
    const char *fault;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && kind == NULL; i++)
        if (str_is(command->kind, kinds[i].name))
            kind = &kinds[i];
    if (kind == NULL)
        return false;
    input->in.kind = kind->kind;
    fault = read_body(kind, command);
    if (fault != NULL && (kind->kind == IN_CHILD || kind->kind == IN_ADMIT || kind->kind == IN_EVENT)) {
        input->kind = INPUT_NOTHING;
        input->dead = fault;
    } else if (fault != NULL) {
        input->kind = INPUT_REFUSED;
        input->refusal = fault;
    }
    return true;
}

bool command_unwrap(struct command *command)
{
    struct str body = command->body, letter, as, type;
    struct err err;

    if (body.ptr == NULL || jt_check(body, &JT_LIMITS_MESSAGE, &err) != ERR_OK)
        return false;
    if (!text_of(command, "letter", &letter) || !run_id_parse(letter, &command->letter) || !text_of(command, "as", &as))
        return false;
    command->requeued = true;
    command->message = !str_is(as, "command");
    if (!command->message && !text_of(command, "type", &type))
        return false;
    command->kind = command->message ? as : type;
    command->body = jt_get(body, "message");
    if (jt_type(command->body) == JT_NULL)
        command->body = STR_NONE;
    return !command->message || command->body.ptr != NULL;
}
