/* fold-check [--api]: folds every run of a database and compares with what the tables beside history say, and with
 * --api with what GET /v1/runs/{id} answers. Uses the engine's fold, the rules of history_rules.h and libpq. Reads
 * ROPEWALK_ADMIN_PG_URL; --api also ROPEWALK_URL, ROPEWALK_API_KEY and ROPEWALK_ORG, the organisation of the key, whose
 * runs alone are asked for.
 *
 * Checked for each run: sequence numbers without a gap; the fold accepts every event; run.status equals the folded
 * status; the rows of open_work are exactly what the fold says is open, of the same step, attempt and time; an open run
 * has open work beside its timeout, or a command; an ended run has none; what history_rules.h knows (a step runs only
 * after its needs, iterations within their limit and before what follows the loop, actions in order, a signal taken
 * once, ...); a step that waits for a child run has one that runs, or a command that says how it ended; a child run is
 * known to its parent; no event, open work or command is of a run that is not there. */
#include "tests/tools/fold_api.h"
#include "tests/tools/fold_stream.h"
#include "tests/tools/history_rules.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WAITS_MAX 1000

struct wait { /* a step of `parent` waits for `child` */
    char parent[UUID_TEXT_SIZE], child[UUID_TEXT_SIZE];
};

struct check {
    PGconn *conn, *now; /* the snapshot; what has happened since */
    struct fold_stream run, event, work, command;
    struct fold_api *api; /* NULL: not asked */
    const char *organisation;
    struct map *plans;   /* "organisation/workflow/version" -> struct plan */
    struct arena *arena; /* of one run */
    struct wait waits[WAITS_MAX];
    size_t wait_count;
    size_t runs, events, open, asked, moved, violations;
    char id[UUID_TEXT_SIZE];
};

static void violation_of(struct check *c, const char *run, const char *format, ...) PRINTF_LIKE(3, 4);
static void violation_of(struct check *c, const char *run, const char *format, ...)
{
    va_list args;

    printf("violation: run %s: ", run);
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)putchar('\n');
    c->violations++;
}

/* Of the run in hand. */
#define violation(c, ...) violation_of(c, (c)->id, __VA_ARGS__)

static struct plan *plan_of(struct check *c, const char *organisation, const char *workflow, const char *version)
{
    const char *params[] = {organisation, workflow, version};
    const char *key = arena_printf(c->arena, "%s/%s/%s", organisation, workflow, version);
    struct plan *plan = map_get(c->plans, str_of(key));
    struct plan_faults faults = {.arena = c->arena};
    struct plan_limits limits = PLAN_LIMITS_DEFAULT;
    PGresult *res;

    if (plan != NULL)
        return plan;
    limits.max_steps = 1000000;
    limits.max_depth = 1000000;
    res = fold_query(
        c->conn,
        "SELECT convert_from(document, 'UTF8') FROM workflow_version WHERE organisation = $1 AND workflow = $2 "
        "AND version = $3",
        3, params);
    if (PQntuples(res) == 1)
        plan = plan_compile(fold_column(res, 0, 0), &limits, &faults);
    PQclear(res);
    if (plan != NULL)
        (void)map_put(c->plans, str_of(key), plan);
    return plan;
}

static void rule_broken(void *ctx, const char *text)
{
    struct check *c = ctx;

    violation(c, "%s", text);
}

/* The step whose row this is; NO_NODE for the run's timeout, or when history does not explain the row. */
static uint32_t step_of_row(const struct run_state *state, uint32_t seq)
{
    for (uint32_t i = 0; i < state->node_count; i++)
        if (run_step(state, i)->open_seq == seq)
            return i;
    return NO_NODE;
}

static bool is_open(const struct run_state *state, uint32_t node, uint32_t seq, int64_t kind)
{
    if (seq == state->timeout_seq)
        return kind == WORK_RUN_TIMEOUT;
    if (seq == state->admission_seq)
        return kind == WORK_ADMISSION;
    return node != NO_NODE && run_step(state, node)->open_kind == kind;
}

/* Row: run, seq, kind, attempt, step, due_at, reason. What a row says beside its key must be what history says of the
 * step. */
static void check_row(struct check *c, const struct run_state *state, const PGresult *res, int row)
{
    uint32_t seq = (uint32_t)fold_number(res, row, 1);
    uint32_t node = step_of_row(state, seq);
    const struct step_state *s = node == NO_NODE ? NULL : run_step(state, node);
    int64_t due_us = fold_number(res, row, 5);
    struct buf path;

    if (!is_open(state, node, seq, fold_number(res, row, 2)))
        violation(c, "open_work has row %" PRIu32 " of kind %s that history does not explain", seq,
                  PQgetvalue(res, row, 2));
    if (s == NULL)
        return;
    buf_init(&path, STEP_PATH_SIZE);
    run_step_path(state, node, &path);
    if (!str_eq(fold_column(res, row, 4), buf_str(&path)) || fold_number(res, row, 3) != s->attempt)
        violation(c, "open_work row %" PRIu32 " is of step '%s' attempt %s, history says " STR_FMT " %u", seq,
                  PQgetvalue(res, row, 4), PQgetvalue(res, row, 3), STR_ARG(buf_str(&path)), (unsigned)s->attempt);
    buf_deinit(&path);
    /* tasks that were deferred, and loops that have more to begin, are due when their rows say so */
    if (s->open_kind != WORK_TASK && due_us != s->due_at.us && !str_is(fold_column(res, row, 6), "more_items"))
        violation(c, "open_work row %" PRIu32 " is due at %" PRId64 ", history says %" PRId64, seq, due_us,
                  s->due_at.us);
    else if (s->deadline.us != 0 && (due_us == 0 || due_us > s->deadline.us))
        violation(c, "open_work row %" PRIu32 " is not due by its step's deadline", seq);
}

static void check_open_work(struct check *c, const struct run_state *state)
{
    size_t expected = engine_open_count(state), found = 0, commands = 0;

    for (; fold_stream_at(&c->work, c->id); fold_stream_next(&c->work)) {
        check_row(c, state, c->work.res, c->work.row);
        found++;
    }
    for (; fold_stream_at(&c->command, c->id); fold_stream_next(&c->command))
        commands++;
    if (found != expected)
        violation(c, "open_work has %zu rows, history says %zu", found, expected);
    if (!run_ended((enum run_status)state->status) && state->open_steps == 0 && state->admission_seq == 0 &&
        commands == 0)
        violation(c, "is open without open work or command: nothing will ever move it");
    c->open += found;
}

/* --- parents and children ----------------------------------------------------------------------------------------- */

static void append_ids(struct buf *out, const struct check *c, bool children)
{
    buf_append_char(out, '{');
    for (size_t i = 0; i < c->wait_count; i++)
        buf_printf(out, "%s%s", i == 0 ? "" : ",", children ? c->waits[i].child : c->waits[i].parent);
    buf_append_char(out, '}');
}

/* A step that waits for a child run: it runs, or a command brings the news of its end. */
static void check_waits(struct check *c)
{
    struct buf parents, children;
    const char *params[2];
    PGresult *res;

    buf_init(&parents, (size_t)WAITS_MAX * 64);
    buf_init(&children, (size_t)WAITS_MAX * 64);
    append_ids(&parents, c, false);
    append_ids(&children, c, true);
    params[0] = parents.ptr;
    params[1] = children.ptr;
    res = fold_query(
        c->conn,
        "SELECT parent, child, runs, commands FROM unnest($1::uuid[], $2::uuid[]) w(parent, child), LATERAL (SELECT "
        "(SELECT count(*) FROM run r WHERE r.id = child AND r.ended_at IS NULL AND r.parent = w.parent) AS runs, "
        "(SELECT count(*) FROM command m WHERE m.run_id = w.parent AND kind = 'child_ended' AND body ->> 'child' = "
        "child::text) AS commands) n WHERE runs + commands <> 1",
        2, params);
    for (int i = 0; i < PQntuples(res); i++) {
        violation_of(c, PQgetvalue(res, i, 0), "waits for child run %s: %s open, %s commands that tell of its end",
                     PQgetvalue(res, i, 1), PQgetvalue(res, i, 2), PQgetvalue(res, i, 3));
    }
    PQclear(res);
    buf_deinit(&parents);
    buf_deinit(&children);
    c->wait_count = 0;
}

static void note_wait(void *ctx, struct run_id child)
{
    struct check *c = ctx;
    struct wait *wait;

    if (c->wait_count == WAITS_MAX)
        check_waits(c);
    wait = &c->waits[c->wait_count++];
    memcpy(wait->parent, c->id, sizeof(wait->parent));
    run_id_format(child, wait->child);
}

/* A parent knows its child by exactly one event. */
static void check_parents(struct check *c)
{
    PGresult *res = fold_query(
        c->conn,
        "SELECT c.id, c.parent_step, c.parent, count(e.seq) FROM run c LEFT JOIN event e ON e.run_id = c.parent AND "
        "e.type = 22 AND e.step = c.parent_step AND e.data ->> 'child' = c.id::text WHERE c.parent IS NOT NULL "
        "GROUP BY 1, 2, 3 HAVING count(e.seq) <> 1",
        0, NULL);

    for (int i = 0; i < PQntuples(res); i++) {
        violation_of(c, PQgetvalue(res, i, 0), "is the child of step '%s' of run %s, which says so in %s events",
                     PQgetvalue(res, i, 1), PQgetvalue(res, i, 2), PQgetvalue(res, i, 3));
    }
    PQclear(res);
}

/* --- the API ------------------------------------------------------------------------------------------------------ */

struct asked {
    struct check *c;
    struct buf text; /* what differs */
    size_t count;
};

static void note_difference(void *ctx, const char *text)
{
    struct asked *asked = ctx;

    buf_printf(&asked->text, "%s%s", asked->count++ == 0 ? "" : "; ", text);
}

/* The gateway reads now, and the snapshot is of then. */
static bool has_moved(struct check *c, const struct run_state *state)
{
    const char *params[] = {c->id};
    PGresult *res = fold_query(c->now, "SELECT coalesce(max(seq), 0) FROM ropewalk.event WHERE run_id = $1", 1, params);
    bool moved = fold_number(res, 0, 0) != state->last_seq;

    PQclear(res);
    return moved;
}

static void ask_api(struct check *c, const struct fold_row *row, const struct run_state *state)
{
    struct asked asked = {.c = c};

    buf_init(&asked.text, 1 << 20);
    fold_api_compare(c->api, row, state, note_difference, &asked);
    c->asked++;
    if (asked.count > 0 && has_moved(c, state))
        c->moved++;
    else if (asked.count > 0)
        violation(c, STR_FMT, STR_ARG(buf_str(&asked.text)));
    buf_deinit(&asked.text);
}

/* --- one run ------------------------------------------------------------------------------------------------------ */

static void fold_events(struct check *c, struct run_state *state, struct history *history)
{
    struct err err = {.code = ERR_OK};
    bool good = true;

    for (; fold_stream_at(&c->event, c->id); fold_stream_next(&c->event)) {
        const PGresult *res = c->event.res;
        int i = c->event.row;
        struct event event = {.seq = (uint32_t)fold_number(res, i, 1),
                              .type = (enum event_type)fold_number(res, i, 2),
                              .at.us = fold_number(res, i, 3),
                              .step = str_arena(c->arena, fold_column(res, i, 4)),
                              .attempt = (uint16_t)fold_number(res, i, 5),
                              .output_bytes = (uint32_t)fold_number(res, i, 7)};

        c->events++;
        if (!good)
            continue; /* what follows makes no sense */
        good = event_decode_data(str_arena(c->arena, fold_column(res, i, 6)), c->arena, &event, &err) == ERR_OK &&
               engine_fold(state, &event, &err) == ERR_OK;
        if (good)
            history_event(history, &event);
        else
            violation(c, "%s", err.message);
    }
}

/* Row: id, organisation, workflow, version, status, created_at, ended_at, error_code, error_step, organisation's name.
 */
static void check_run(struct check *c, const PGresult *runs, int row)
{
    struct plan *plan;
    struct run_state *state;
    struct history *history;
    struct run_id id;

    (void)snprintf(c->id, sizeof(c->id), "%s", PQgetvalue(runs, row, 0));
    plan = plan_of(c, PQgetvalue(runs, row, 1), PQgetvalue(runs, row, 2), PQgetvalue(runs, row, 3));
    if (plan == NULL || !run_id_parse(str_of(c->id), &id)) {
        violation(c, "its workflow version cannot be compiled");
        return;
    }
    state = run_state_new(id, 1, plan, (struct wall_us){fold_number(runs, row, 5)});
    history = history_new(c->arena, plan, rule_broken, c);
    fold_events(c, state, history);
    if (strcmp(run_status_name((enum run_status)state->status), PQgetvalue(runs, row, 4)) != 0)
        violation(c, "run says '%s', its history '%s'", PQgetvalue(runs, row, 4),
                  run_status_name((enum run_status)state->status));
    if (run_ended((enum run_status)state->status) == (PQgetisnull(runs, row, 6) != 0))
        violation(c, "its row and its history differ on whether it has ended");
    check_open_work(c, state);
    history_each_child(history, note_wait, c);
    if (c->api != NULL && strcmp(PQgetvalue(runs, row, 9), c->organisation) == 0)
        ask_api(c,
                &(struct fold_row){.run = c->id,
                                   .version = fold_number(runs, row, 3),
                                   .ended = !PQgetisnull(runs, row, 6),
                                   .error_code = fold_column(runs, row, 7),
                                   .error_step = fold_column(runs, row, 8)},
                state);
    run_state_free(state);
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

static void stray(void *ctx, const char *name, const char *run)
{
    violation_of(ctx, run, "is not there, but has a row of %s", name);
}

static void open_streams(struct check *c)
{
    const struct fold_stream stream = {.conn = c->conn, .stray = stray, .ctx = c};

    c->run = c->event = c->work = c->command = stream;
    c->run.name = "run_rows";
    c->event.name = "event_rows";
    c->work.name = "open_work_rows";
    c->command.name = "command_rows";
    /* one snapshot: what runs meanwhile must not look like a violation */
    PQclear(fold_query(c->conn, "SET search_path = ropewalk", 0, NULL));
    PQclear(fold_query(c->conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0, NULL));
    fold_stream_open(&c->run, "SELECT r.id, r.organisation, r.workflow, r.version, r.status, (extract(epoch FROM "
                              "r.created_at) * 1000000)::bigint, r.ended_at, r.error_code, r.error_step, o.name FROM "
                              "run r JOIN organisation o ON o.id = r.organisation ORDER BY r.id");
    fold_stream_open(&c->event, "SELECT run_id, seq, type, (extract(epoch FROM at) * 1000000)::bigint, step, attempt, "
                                "data, octet_length(output::text) FROM event ORDER BY run_id, seq");
    fold_stream_open(&c->work, "SELECT run_id, seq, kind, attempt, step, (extract(epoch FROM due_at) * "
                               "1000000)::bigint, reason FROM open_work ORDER BY run_id, seq");
    fold_stream_open(&c->command, "SELECT run_id FROM command ORDER BY run_id");
}

static void check_all(struct check *c)
{
    open_streams(c);
    for (; fold_stream_more(&c->run); fold_stream_next(&c->run)) {
        check_run(c, c->run.res, c->run.row);
        c->runs++;
        arena_reset(c->arena);
    }
    fold_stream_close(&c->run);
    fold_stream_close(&c->event);
    fold_stream_close(&c->work);
    fold_stream_close(&c->command);
    check_waits(c);
    check_parents(c);
}

static PGconn *connect_or_exit(const char *url)
{
    PGconn *conn = PQconnectdb(url);

    if (PQstatus(conn) == CONNECTION_OK)
        return conn;
    fprintf(stderr, "fold-check: %s", PQerrorMessage(conn));
    exit(2);
}

int main(int argc, char **argv)
{
    const char *url = getenv("ROPEWALK_ADMIN_PG_URL"), *organisation = getenv("ROPEWALK_ORG");
    static struct check c;
    size_t pos = 0;
    struct str key;
    void *plan;

    if (url == NULL || argc > 2 || (argc == 2 && strcmp(argv[1], "--api") != 0)) {
        fprintf(stderr, url == NULL ? "fold-check: ROPEWALK_ADMIN_PG_URL is not set\n" : "usage: fold-check [--api]\n");
        return 2;
    }
    c.conn = connect_or_exit(url);
    c.now = connect_or_exit(url);
    c.api = argc == 2 ? fold_api_new() : NULL;
    c.organisation = organisation == NULL ? "default" : organisation;
    c.plans = map_new();
    c.arena = arena_new(1 << 16);
    check_all(&c);
    while (map_next(c.plans, &pos, &key, &plan))
        plan_unref(plan);
    map_free(c.plans);
    arena_free(c.arena);
    fold_api_free(c.api);
    PQfinish(c.now);
    PQfinish(c.conn);
    printf("fold-check: %zu runs, %zu events, %zu rows of open work", c.runs, c.events, c.open);
    if (argc == 2)
        printf(", %zu answers of the API (%zu of runs that have moved on)", c.asked, c.moved);
    printf(", %zu violations\n", c.violations);
    return c.violations == 0 ? 0 : 1;
}
