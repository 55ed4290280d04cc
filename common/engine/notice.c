/* See notice.h. */
#include "common/engine/notice.h"
#include <inttypes.h>

#include "common/base/banned.h"

static const char *const TYPES[NOTICE_COUNT] = {
    [NOTICE_NONE] = NULL,
#define NOTICE(id, type, sentence) [NOTICE_##id] = (type),
#include "common/engine/notice.def"
#undef NOTICE
};

/* An iteration fails with a step in it, which is told already. */
static bool is_iteration(struct str step)
{
    return step.len > 0 && step.ptr[step.len - 1] == ']';
}

enum notice notice_of(const struct event *event)
{
    if (event->type == EVENT_RUN_STARTED)
        return NOTICE_RUN_STARTED;
    if (event_ends_run(event->type))
        return NOTICE_RUN_ENDED;
    if (event->type == EVENT_STEP_FAILED || event->type == EVENT_STEP_TIMED_OUT ||
        event->type == EVENT_STEP_OUTCOME_UNKNOWN)
        return is_iteration(event->step) ? NOTICE_NONE : NOTICE_STEP_FAILED;
    if (event->type == EVENT_STEP_WAITING && str_is(event->waits, "signal"))
        return NOTICE_STEP_WAITING;
    return NOTICE_NONE;
}

const char *notice_type(enum notice notice)
{
    return TYPES[notice];
}

enum notice notice_find(struct str type)
{
    for (int i = NOTICE_NONE + 1; i < NOTICE_COUNT; i++)
        if (str_is(type, TYPES[i]))
            return (enum notice)i;
    return NOTICE_NONE;
}

void notice_id(struct run_id run, uint32_t seq, char ret[NOTICE_ID_SIZE])
{
    char text[UUID_TEXT_SIZE];

    run_id_format(run, text);
    snprintf(ret, NOTICE_ID_SIZE, "%s-%06" PRIu32, text, seq);
}

static void put_time(struct jw *w, const char *key, struct wall_us at)
{
    char text[WALL_TEXT_SIZE];

    wall_format(at, text);
    jw_kcstr(w, key, text);
}

/* What every CloudEvent says first. `source` is a path: no name in it needs escaping. */
static void begin(struct jw *w, struct str id, const char *type, const char *source, struct wall_us at)
{
    jw_obj(w);
    jw_kcstr(w, "specversion", "1.0");
    jw_kstr(w, "id", id);
    jw_kcstr(w, "source", source);
    jw_kcstr(w, "type", type);
    put_time(w, "time", at);
    jw_kcstr(w, "datacontenttype", "application/json");
}

/* "succeeded", of "run.succeeded" */
static const char *outcome(const struct event *event)
{
    return event->type == EVENT_RUN_STARTED ? "running" : strchr(event_type_name(event->type), '.') + 1;
}

static void put_error(struct jw *w, const struct event *event)
{
    if (event->code.ptr == NULL)
        return;
    jw_key(w, "error");
    jw_obj(w);
    jw_kstr(w, "code", event->code);
    if (event->error_class.ptr != NULL)
        jw_kstr(w, "class", event->error_class);
    jw_end_obj(w);
}

static void put_step(struct jw *w, enum notice notice, const struct event *event)
{
    if (event->step.ptr != NULL)
        jw_kstr(w, "step", event->step); /* of an end: the step whose failure explains it */
    if (event->attempt > 0)
        jw_ki64(w, "attempt", event->attempt);
    if (notice != NOTICE_STEP_WAITING)
        return;
    jw_kstr(w, "signal", event->name);
    if (event->due_at.us != 0)
        put_time(w, "until", event->due_at);
}

void notice_write(const struct notice_source *source, const struct event *event, struct buf *out)
{
    CLEANUP(buf_deinit) struct buf from = {0};
    enum notice notice = notice_of(event);
    char run[UUID_TEXT_SIZE], parent[UUID_TEXT_SIZE], id[NOTICE_ID_SIZE];
    struct jw w = jw_to(out);

    buf_init(&from, 512);
    buf_printf(&from, "/organisations/%s/workflows/" STR_FMT, source->organisation, STR_ARG(source->workflow));
    run_id_format(source->run->id, run);
    notice_id(source->run->id, event->seq, id);
    begin(&w, str_of(id), notice_type(notice), from.ptr, event->at);
    jw_kcstr(&w, "subject", run);
    jw_key(&w, "data");
    jw_obj(&w);
    jw_kcstr(&w, "organisation", source->organisation);
    jw_kstr(&w, "workflow", source->workflow);
    jw_ki64(&w, "version", source->version);
    jw_kcstr(&w, "run_id", run);
    if (source->run->has_parent) {
        run_id_format(source->run->parent, parent);
        jw_kcstr(&w, "parent_run_id", parent);
    }
    jw_kcstr(&w, "status", notice == NOTICE_STEP_WAITING ? "waiting" : outcome(event));
    put_step(&w, notice, event);
    if (notice != NOTICE_STEP_WAITING)
        put_error(&w, event);
    jw_end_obj(&w);
    jw_end_obj(&w);
}

void notice_write_test(const char *organisation, struct str endpoint, struct str id, struct wall_us at, struct buf *out)
{
    CLEANUP(buf_deinit) struct buf from = {0};
    struct jw w = jw_to(out);

    buf_init(&from, 512);
    buf_printf(&from, "/organisations/%s", organisation);
    begin(&w, id, NOTICE_TEST, from.ptr, at);
    jw_kstr(&w, "subject", endpoint);
    jw_key(&w, "data");
    jw_obj(&w);
    jw_kcstr(&w, "organisation", organisation);
    jw_kstr(&w, "endpoint", endpoint);
    jw_end_obj(&w);
    jw_end_obj(&w);
}
