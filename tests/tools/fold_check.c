/* fold-check: folds every run of a database and compares with what the tables beside history say. Uses the engine's
 * fold, the rules of history_rules.h and libpq, nothing else of ours. Reads ROPEWALK_ADMIN_PG_URL.
 *
 * Checked for each run: sequence numbers without a gap; the fold accepts every event; run.status equals the folded
 * status; the rows of open_work are exactly what the fold says is open, of the same step, attempt and time; an open run
 * has open work beside its timeout, or a command; an ended run has none; what history_rules.h knows (a step runs only
 * after its needs, iterations within their limit and before what follows the loop, actions in order, a signal taken
 * once, ...); a step that waits for a child run has one that runs, or a command that says how it ended; a child run is
 * known to its parent. */
#include "tests/tools/history_rules.h"
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

struct check {
    PGconn *conn;
    struct map *plans;   /* "organisation/workflow/version" -> struct plan */
    struct arena *arena; /* of one run */
    size_t runs, events, open, violations;
    char run[UUID_TEXT_SIZE];
};

static void violation(struct check *c, const char *format, ...) PRINTF_LIKE(2, 3);
static void violation(struct check *c, const char *format, ...)
{
    va_list args;

    printf("violation: run %s: ", c->run);
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)putchar('\n');
    c->violations++;
}

static PGresult *query(struct check *c, const char *sql, int count, const char *const *params)
{
    PGresult *res = PQexecParams(c->conn, sql, count, NULL, params, NULL, NULL, 0);

    if (PQresultStatus(res) != PGRES_TUPLES_OK && PQresultStatus(res) != PGRES_COMMAND_OK) {
        fprintf(stderr, "fold-check: %s", PQerrorMessage(c->conn));
        exit(2);
    }
    return res;
}

static struct str column(const PGresult *res, int row, int col)
{
    if (PQgetisnull(res, row, col))
        return STR_NONE;
    return (struct str){PQgetvalue(res, row, col), (size_t)PQgetlength(res, row, col)};
}

static int64_t number(const PGresult *res, int row, int col)
{
    return PQgetisnull(res, row, col) ? 0 : strtoll(PQgetvalue(res, row, col), NULL, 10);
}

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
    res = query(c,
                "SELECT convert_from(document, 'UTF8') FROM workflow_version WHERE organisation = $1 AND workflow = $2 "
                "AND version = $3",
                3, params);
    if (PQntuples(res) == 1)
        plan = plan_compile(column(res, 0, 0), &limits, &faults);
    PQclear(res);
    if (plan != NULL)
        (void)map_put(c->plans, str_of(key), plan);
    return plan;
}

static void rule_broken(void *ctx, const char *text)
{
    violation(ctx, "%s", text);
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
    return node != NO_NODE && run_step(state, node)->open_kind == kind;
}

/* Row: seq, kind, attempt, step, due_at, reason. What a row says beside its key must be what history says of the step.
 */
static void check_row(struct check *c, const struct run_state *state, const PGresult *res, int row)
{
    uint32_t seq = (uint32_t)number(res, row, 0);
    uint32_t node = step_of_row(state, seq);
    const struct step_state *s = node == NO_NODE ? NULL : run_step(state, node);
    int64_t due_us = number(res, row, 4);
    struct buf path;

    if (!is_open(state, node, seq, number(res, row, 1)))
        violation(c, "open_work has row %" PRIu32 " of kind %s that history does not explain", seq,
                  PQgetvalue(res, row, 1));
    if (s == NULL)
        return;
    buf_init(&path, STEP_PATH_SIZE);
    run_step_path(state, node, &path);
    if (!str_eq(column(res, row, 3), buf_str(&path)) || number(res, row, 2) != s->attempt)
        violation(c, "open_work row %" PRIu32 " is of step '%s' attempt %s, history says " STR_FMT " %u", seq,
                  PQgetvalue(res, row, 3), PQgetvalue(res, row, 2), STR_ARG(buf_str(&path)), (unsigned)s->attempt);
    buf_deinit(&path);
    /* tasks that were deferred, and loops that have more to begin, are due when their rows say so */
    if (s->open_kind != WORK_TASK && due_us != s->due_at.us && !str_is(column(res, row, 5), "more_items"))
        violation(c, "open_work row %" PRIu32 " is due at %" PRId64 ", history says %" PRId64, seq, due_us,
                  s->due_at.us);
    else if (s->deadline.us != 0 && (due_us == 0 || due_us > s->deadline.us))
        violation(c, "open_work row %" PRIu32 " is not due by its step's deadline", seq);
}

static void check_open_work(struct check *c, const struct run_state *state)
{
    const char *params[] = {c->run};
    PGresult *res =
        query(c,
              "SELECT seq, kind, attempt, step, (extract(epoch FROM due_at) * 1000000)::bigint, reason FROM open_work "
              "WHERE run_id = $1",
              1, params);
    PGresult *commands = query(c, "SELECT count(*) FROM command WHERE run_id = $1", 1, params);
    size_t expected = state->open_steps + (state->timeout_seq != 0 ? 1 : 0);

    for (int i = 0; i < PQntuples(res); i++)
        check_row(c, state, res, i);
    if ((size_t)PQntuples(res) != expected)
        violation(c, "open_work has %d rows, history says %zu", PQntuples(res), expected);
    if (!run_ended((enum run_status)state->status) && state->open_steps == 0 && number(commands, 0, 0) == 0)
        violation(c, "is open without open work or command: nothing will ever move it");
    c->open += (size_t)PQntuples(res);
    PQclear(res);
    PQclear(commands);
}

/* A step waits for this child: it runs, or a command brings the news of its end. */
static void check_child(void *ctx, struct run_id child)
{
    struct check *c = ctx;
    char id[UUID_TEXT_SIZE];
    const char *params[] = {id, c->run};
    PGresult *res;

    run_id_format(child, id);
    res =
        query(c,
              "SELECT (SELECT count(*) FROM run WHERE id = $1 AND ended_at IS NULL AND parent = $2), (SELECT count(*) "
              "FROM command WHERE run_id = $2 AND kind = 'child_ended' AND body ->> 'child' = $1::text)",
              2, params);
    if (number(res, 0, 0) + number(res, 0, 1) != 1)
        violation(c, "waits for child run %s: %s open, %s commands that tell of its end", id, PQgetvalue(res, 0, 0),
                  PQgetvalue(res, 0, 1));
    PQclear(res);
}

/* The parent knows it, by exactly one event. */
static void check_parent(struct check *c, const char *parent, const char *step)
{
    const char *params[] = {parent, step, c->run};
    PGresult *res =
        query(c,
              "SELECT count(*) FROM event WHERE run_id = $1 AND type = 22 AND step = $2 AND data ->> 'child' "
              "= $3::text",
              3, params);

    if (number(res, 0, 0) != 1)
        violation(c, "is the child of step '%s' of run %s, which says so in %s events", step, parent,
                  PQgetvalue(res, 0, 0));
    PQclear(res);
}

static void fold_events(struct check *c, struct run_state *state, struct history *history)
{
    const char *params[] = {c->run};
    struct err err = {.code = ERR_OK};
    PGresult *res = query(
        c,
        "SELECT seq, type, (extract(epoch FROM at) * 1000000)::bigint, step, attempt, data, octet_length(output::text) "
        "FROM event WHERE run_id = $1 ORDER BY seq",
        1, params);

    for (int i = 0; i < PQntuples(res); i++) {
        struct event event = {.seq = (uint32_t)number(res, i, 0),
                              .type = (enum event_type)number(res, i, 1),
                              .at.us = number(res, i, 2),
                              .step = str_arena(c->arena, column(res, i, 3)),
                              .attempt = (uint16_t)number(res, i, 4),
                              .output_bytes = (uint32_t)number(res, i, 6)};

        if (event_decode_data(str_arena(c->arena, column(res, i, 5)), c->arena, &event, &err) != ERR_OK ||
            engine_fold(state, &event, &err) != ERR_OK) {
            violation(c, "%s", err.message);
            break;
        }
        history_event(history, &event);
    }
    c->events += (size_t)PQntuples(res);
    PQclear(res);
}

static void check_run(struct check *c, const PGresult *runs, int row)
{
    struct plan *plan;
    struct run_state *state;
    struct history *history;
    struct run_id id;

    (void)snprintf(c->run, sizeof(c->run), "%s", PQgetvalue(runs, row, 0));
    plan = plan_of(c, PQgetvalue(runs, row, 1), PQgetvalue(runs, row, 2), PQgetvalue(runs, row, 3));
    if (plan == NULL || !run_id_parse(str_of(c->run), &id)) {
        violation(c, "its workflow version cannot be compiled");
        return;
    }
    state = run_state_new(id, 1, plan, (struct wall_us){number(runs, row, 5)});
    history = history_new(c->arena, plan, rule_broken, c);
    fold_events(c, state, history);
    if (strcmp(run_status_name((enum run_status)state->status), PQgetvalue(runs, row, 4)) != 0)
        violation(c, "run says '%s', its history '%s'", PQgetvalue(runs, row, 4),
                  run_status_name((enum run_status)state->status));
    if (run_ended((enum run_status)state->status) == (PQgetisnull(runs, row, 6) != 0))
        violation(c, "its row and its history differ on whether it has ended");
    check_open_work(c, state);
    history_each_child(history, check_child, c);
    if (!PQgetisnull(runs, row, 7))
        check_parent(c, PQgetvalue(runs, row, 7), PQgetvalue(runs, row, 8));
    run_state_free(state);
}

int main(void)
{
    const char *url = getenv("ROPEWALK_ADMIN_PG_URL");
    struct check c = {.plans = map_new()};
    PGresult *runs;
    size_t pos = 0;
    struct str key;
    void *plan;

    if (url == NULL) {
        fprintf(stderr, "fold-check: ROPEWALK_ADMIN_PG_URL is not set\n");
        return 2;
    }
    c.conn = PQconnectdb(url);
    if (PQstatus(c.conn) != CONNECTION_OK) {
        fprintf(stderr, "fold-check: %s", PQerrorMessage(c.conn));
        return 2;
    }
    c.arena = arena_new(1 << 16);
    /* one snapshot: what runs meanwhile must not look like a violation */
    PQclear(query(&c, "SET search_path = ropewalk", 0, NULL));
    PQclear(query(&c, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0, NULL));
    runs = query(&c,
                 "SELECT id, organisation, workflow, version, status, (extract(epoch FROM created_at) * "
                 "1000000)::bigint, ended_at, parent, parent_step FROM run ORDER BY id",
                 0, NULL);
    for (int i = 0; i < PQntuples(runs); i++) {
        check_run(&c, runs, i);
        c.runs++;
        arena_reset(c.arena);
    }
    PQclear(runs);
    while (map_next(c.plans, &pos, &key, &plan))
        plan_unref(plan);
    map_free(c.plans);
    arena_free(c.arena);
    PQfinish(c.conn);
    printf("fold-check: %zu runs, %zu events, %zu rows of open work, %zu violations\n", c.runs, c.events, c.open,
           c.violations);
    return c.violations == 0 ? 0 : 1;
}
