/* The delivery log. What starts a run is written in its transaction; the rest goes in batches, behind the answer: a
 * flood of refused requests costs one commit for many, and never holds up what is taken. */
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "gateway/hooks/hook.h"
#include "gateway/json_more.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define BATCH_MAX 128
#define WAITING_MAX 4096
#define WAITING_BYTES_MAX ((size_t)64 << 20)

struct line {
    struct line *next;
    struct arena *arena;
    int32_t organisation;
    struct run_id id, run, again;
    struct wall_us at;
    struct str workflow, trigger, stage, reason, address, request, excerpt, body, audit, nonce;
    int16_t status;
    int32_t body_bytes, took_us;
    bool has_run, old_secret, is_again, genuine;
    size_t bytes;
};

static struct {
    struct line *first, **end;
    size_t count, bytes;
    bool in_flight;
} queue;

static struct str excerpt_of(const struct hook *hook)
{
    CLEANUP(buf_deinit) struct buf quoted = {0};
    struct str text, start = hook->has_body ? hook->raw : http_body_begun(hook->call->http);

    start.len = start.len < HOOK_EXCERPT_MAX ? start.len : HOOK_EXCERPT_MAX;

    /* as JSON writes it: what is no text is replaced */
    buf_init(&quoted, start.len * 6 + 16);
    json_quote(&quoted, start);
    return jt_string(buf_str(&quoted), hook->call->arena, &text) ? str_arena(hook->call->arena, text) : STR_NONE;
}

/* As it came, or as its sender says where it was not read. */
static int64_t body_bytes(const struct hook *hook)
{
    return hook->has_body ? (int64_t)hook->raw.len : (int64_t)http_body_length(hook->call->http);
}

static int32_t took_us(const struct hook *hook)
{
    int64_t us = clock_mono().us - http_received_at(hook->call->http).us;

    return us > INT32_MAX ? INT32_MAX : (int32_t)us;
}

static struct str address_text(const struct hook *hook)
{
    char *text = arena_alloc(hook->call->arena, ADDRESS_TEXT_SIZE);

    address_format(hook->address, text);
    return str_of(text);
}

static struct str audit_text(const struct hook *hook)
{
    return hook->audit.len == 0 ? STR_NONE : buf_str(&hook->audit);
}

struct str hook_log_json(struct hook *hook)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    char id[UUID_TEXT_SIZE], at[WALL_TEXT_SIZE];
    struct jw w;

    run_id_format(hook->id, id);
    wall_format(hook->at, at);
    buf_init(&out, hook->request.len + (size_t)8 * HOOK_EXCERPT_MAX);
    w = jw_to(&out);
    jw_obj(&w);
    jw_kcstr(&w, "id", id);
    jw_kcstr(&w, "at", at);
    jw_kstr(&w, "trigger", hook->trigger->name);
    jw_kstr(&w, "address", address_text(hook));
    jw_kraw(&w, "request", hook->request);
    jw_ki64(&w, "body_bytes", body_bytes(hook));
    jw_kstr(&w, "excerpt", excerpt_of(hook));
    jw_ki64(&w, "took_us", took_us(hook));
    if (hook->again != NULL)
        jw_krun(&w, "redelivered_from", hook->again->of);
    jw_kbool(&w, "old_secret", hook->verdict.secret > 0);
    jw_kstr(&w, "audit", audit_text(hook));
    jw_end_obj(&w);
    ENSURE(!out.overflow);
    return str_arena(hook->call->arena, buf_str(&out));
}

struct writing {
    struct gateway *gw;
    struct line *lines;
    size_t count;
};

static void write_some(struct gateway *gw);

static void on_written(void *ctx, const struct pg_outcome *outcome)
{
    struct writing *writing = ctx;
    struct gateway *gw = writing->gw;

    queue.in_flight = false;
    if (outcome->rc != ERR_OK) {
        metric_add(METRIC_HOOKS_UNLOGGED, (int64_t)writing->count);
        log_event(LOG_WARN, "hook.log_failed", log_i64("deliveries", (int64_t)writing->count), log_err(outcome->err));
    }
    FAULT_POINT(gateway_hook_lines_written);
    while (writing->lines != NULL) {
        struct line *line = writing->lines;

        writing->lines = line->next;
        arena_free(line->arena);
    }
    mem_free(writing);
    write_some(gw);
}

static void add_line(struct pg_batch *batch, const struct line *l)
{
    pg_batch_organisation(batch, l->organisation);
    pg_add(batch, SQL_DELIVERY_INSERT, pg_uuid(l->id), pg_time(l->at), pg_text(l->workflow), pg_text(l->trigger),
           pg_i16(l->status), pg_text(l->stage), pg_text(l->reason), pg_text(l->address), pg_json(l->request),
           pg_i32(l->body_bytes), pg_text(l->excerpt), pg_bytea(l->body), pg_i32(l->took_us),
           l->has_run ? pg_uuid(l->run) : pg_null(), l->is_again ? pg_uuid(l->again) : pg_null(),
           pg_bool(l->old_secret), pg_text(l->audit), pg_bool(l->genuine), pg_text(l->nonce));
}

static void write_some(struct gateway *gw)
{
    struct writing *writing;
    struct pg_batch *batch;
    struct line **end;

    if (queue.in_flight || queue.first == NULL)
        return;
    writing = mem_alloc(sizeof(*writing));
    batch = pg_batch_new(true);
    writing->gw = gw;
    end = &writing->lines;
    while (queue.first != NULL && writing->count < BATCH_MAX) {
        struct line *line = queue.first;

        queue.first = line->next;
        line->next = NULL;
        *end = line;
        end = &line->next;
        queue.count--;
        queue.bytes -= line->bytes;
        writing->count++;
        add_line(batch, line);
    }
    queue.in_flight = true;
    pg_submit(gw->writes, batch, on_written, writing);
    FAULT_POINT(gateway_hook_lines_sent);
}

static struct line *line_of(struct hook *hook, int status, const char *stage, const char *reason)
{
    struct arena *arena = arena_new(1024);
    struct line *line = arena_alloc(arena, sizeof(*line));

    *line = (struct line){.arena = arena,
                          .organisation = hook->start.organisation,
                          .id = hook->id,
                          .at = hook->at,
                          .workflow = str_arena(arena, hook->start.workflow),
                          .trigger = str_arena(arena, hook->trigger->name),
                          .stage = str_of(stage),
                          .reason = str_of(reason),
                          .address = str_arena(arena, address_text(hook)),
                          .request = str_arena(arena, hook->request),
                          .excerpt = str_arena(arena, excerpt_of(hook)),
                          .audit = str_arena(arena, audit_text(hook)),
                          .status = (int16_t)status,
                          .body_bytes = (int32_t)(body_bytes(hook) < INT32_MAX ? body_bytes(hook) : INT32_MAX),
                          .took_us = took_us(hook),
                          .old_secret = hook->verdict.secret > 0,
                          .is_again = hook->again != NULL,
                          .genuine = hook->genuine && !hook->raw_is_lost && status >= 300};
    if (hook->again != NULL)
        line->again = hook->again->of;
    if (line->genuine)
        line->nonce = str_arena(arena, hook_nonce(hook));
    if (line->genuine && hook->raw.len > 0)
        line->body = str_arena(arena, hook->raw);
    line->bytes = arena_bytes(arena);
    return line;
}

void hook_log(struct hook *hook, int status, const char *stage, const char *reason, const struct run_id *run)
{
    struct line *line;

    if (hook->trigger == NULL)
        return;
    FAULT_POINT(gateway_hook_refused);
    if (queue.count >= WAITING_MAX || queue.bytes >= WAITING_BYTES_MAX) {
        metric_add(METRIC_HOOKS_UNLOGGED, 1);
        return;
    }
    line = line_of(hook, status, stage, reason);
    if (run != NULL) {
        line->has_run = true;
        line->run = *run;
    }
    if (queue.first == NULL)
        queue.end = &queue.first;
    *queue.end = line;
    queue.end = &line->next;
    queue.count++;
    queue.bytes += line->bytes;
    write_some(hook->call->gw);
}
