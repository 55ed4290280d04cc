/* Calls that wait for something outside of the run: a signal, an answer that says what is hoped for, a child run. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"

#define POLL_INTERVAL STR("\"10s\"")
#define POLL_TIMEOUT STR("\"120s\"")

#define SIGNAL_NAME_MAX 255

bool plan_signal_name(struct str name)
{
    bool good = name.len >= 1 && name.len <= SIGNAL_NAME_MAX;

    for (size_t i = 0; i < name.len && good; i++)
        good = (unsigned char)name.ptr[i] >= 0x20 && name.ptr[i] != 0x7f;
    return good;
}

void plan_signal(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    struct str name = jt_get(with, "signal");
    const char *at = plan_text(c, "%s/signal", pointer);
    struct template alone;

    (void)jt_bool(jt_get(with, "once"), &step->once);
    plan_check_duration(c, jt_get(with, "timeout"), plan_text(c, "%s/timeout", pointer));
    if (!plan_template(c, with, pointer, NULL, &step->with) || jt_type(name) != JT_STRING ||
        !plan_template(c, name, at, NULL, &alone) || !alone.constant)
        return;
    if (!jt_string(alone.literal, c->plan->arena, &step->signal) || !plan_signal_name(step->signal))
        plan_fault(c, "out_of_range", NULL, "a signal's name has 1 to 255 bytes and no control characters", "%s", at);
}

/* What events are chosen by before anybody looks at them: fixed in the document, so that they can be looked up. */
static void fixed_text(struct compile *c, struct str value, const char *pointer, struct str *ret)
{
    struct template alone;

    if (jt_type(value) != JT_STRING || !plan_template(c, value, pointer, NULL, &alone))
        return;
    if (!alone.constant)
        plan_fault(c, "bad_expression", "compare it in 'filter': \"${ .event.source == .input.shop }\"",
                   "is fixed, and takes no expression", "%s", pointer);
    else
        (void)jt_string(alone.literal, c->plan->arena, ret);
}

static int64_t look_back(struct compile *c, struct str value, const char *pointer)
{
    struct str text;
    int64_t us = -1;

    if (!jt_string(value, c->faults->arena, &text))
        return us; /* absent, or refused before */
    if (!duration_parse(text, &us))
        plan_fault(c, "bad_duration", "\"10m\"; \"0s\" for none", "is no duration, and takes no expression", "%s",
                   pointer);
    else if (us > LOOK_BACK_MAX_US)
        plan_fault(c, "out_of_range", "\"7d\"", "events are kept for 7 days", "%s", pointer);
    return us;
}

/* The engine renders the timeout alone: the filter is asked of each event. */
static struct str event_object(struct compile *c, struct str with)
{
    struct str timeout = jt_get(with, "timeout");

    return timeout.ptr == NULL ? STR("{}")
                               : str_of(arena_printf(c->plan->arena, "{\"timeout\":" STR_FMT "}", STR_ARG(timeout)));
}

void plan_wait_event(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    struct str filter = jt_get(with, "filter");
    const char *at = plan_text(c, "%s/filter", pointer);

    fixed_text(c, jt_get(with, "type"), plan_text(c, "%s/type", pointer), &step->event.type);
    fixed_text(c, jt_get(with, "source"), plan_text(c, "%s/source", pointer), &step->event.source);
    step->look_back_us = look_back(c, jt_get(with, "look_back"), plan_text(c, "%s/look_back", pointer));
    plan_check_duration(c, jt_get(with, "timeout"), plan_text(c, "%s/timeout", pointer));
    (void)plan_template(c, event_object(c, with), pointer, NULL, &step->with);
    if (jt_type(filter) == JT_STRING)
        step->event.has_filter = plan_expression(c, filter, at, "must be exactly one expression", &step->event.filter);
}

/* The engine renders one object of what a try needs and how long to wait, which are left out here and there. */
static struct str poll_object(struct compile *c, struct str with)
{
    struct str inner = jt_get(with, "with"), interval = jt_get(with, "interval"), timeout = jt_get(with, "timeout");
    struct str text;
    struct buf buf;
    struct jw w;

    buf_init(&buf, with.len + 200);
    w = jw_to(&buf);
    jw_obj(&w);
    jw_kraw(&w, "with", inner.ptr == NULL ? STR("{}") : inner);
    jw_kraw(&w, "interval", interval.ptr == NULL ? POLL_INTERVAL : interval);
    jw_kraw(&w, "timeout", timeout.ptr == NULL ? POLL_TIMEOUT : timeout);
    jw_end_obj(&w);
    text = str_arena(c->plan->arena, buf_str(&buf));
    buf_deinit(&buf);
    return text;
}

void plan_poll(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    struct str until = jt_get(with, "until");

    if (plan_task_call(c, jt_get(with, "call"), jt_get(with, "with"), pointer, &step->task))
        (void)plan_template(c, poll_object(c, with), pointer, str_is(step->task, "http") ? "/with" : NULL, &step->with);
    plan_check_duration(c, jt_get(with, "interval"), plan_text(c, "%s/interval", pointer));
    plan_check_duration(c, jt_get(with, "timeout"), plan_text(c, "%s/timeout", pointer));
    if (jt_type(until) == JT_STRING)
        (void)plan_expression(c, until, plan_text(c, "%s/until", pointer), "must be exactly one expression",
                              &step->until);
}

static bool is_workflow_name(struct str name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] == '\0' || strchr(allowed, name.ptr[i]) == NULL)
            return false;
    return name.len >= 1 && name.len <= 63 && name.ptr[0] != '-';
}

void plan_child(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    struct str name;

    (void)plan_template(c, with, pointer, NULL, &step->with);
    if (!jt_string(jt_get(with, "name"), c->faults->arena, &name))
        return;
    if (!is_workflow_name(name))
        plan_fault(c, "out_of_range", "lower-case letters, digits and hyphens; no expression",
                   "is no name of a workflow", "%s/name", pointer);
    else if (str_eq(name, c->plan->name))
        plan_fault(c, "cycle", "call another workflow, or use a loop", "a workflow cannot be its own child", "%s/name",
                   pointer);
}
