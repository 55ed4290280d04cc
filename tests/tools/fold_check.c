/* fold-check: folds every run of a database and compares with what the tables beside history say. Uses the engine's
 * fold and libpq, nothing else of ours. Reads ROPEWALK_ADMIN_PG_URL.
 *
 * Checked for each run: sequence numbers without a gap; the fold accepts every event; run.status equals the folded
 * status; the rows of open_work are exactly what the fold says is open, of the same step, attempt and time; an open run
 * has open work beside its timeout, or a command; an ended run has none; no attempt ended twice; no step began before
 * what it needs had ended. */
#include "common/engine/engine.h"
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

static void check_needs(struct check *c, const struct run_state *state, uint32_t node, const struct event *event)
{
    const struct plan_step *step = &state->plan->steps[node];

    for (size_t e = 0; e < step->edge_count; e++)
        if (!step_ended((enum step_status)state->steps[step->edges[e].parent].status))
            violation(c, "step " STR_FMT " had event %" PRIu32 " before step " STR_FMT " had ended",
                      STR_ARG(step->name), event->seq, STR_ARG(state->plan->steps[step->edges[e].parent].name));
}

static bool ends_attempt(enum event_type type)
{
    return type == EVENT_ATTEMPT_FAILED || type == EVENT_STEP_SUCCEEDED || type == EVENT_STEP_FAILED;
}

static void check_event(struct check *c, const struct run_state *state, const struct event *events, size_t index)
{
    const struct event *event = &events[index];
    uint32_t node = event->step.ptr == NULL ? NO_NODE : plan_find(state->plan, event->step);

    if (node == NO_NODE)
        return;
    if (event->type == EVENT_STEP_DISPATCHED || event->type == EVENT_STEP_SUCCEEDED ||
        event->type == EVENT_STEP_WAITING)
        check_needs(c, state, node, event);
    if (!ends_attempt(event->type) || event->attempt == 0)
        return;
    for (size_t i = 0; i < index; i++)
        if (ends_attempt(events[i].type) && events[i].attempt == event->attempt &&
            str_eq(events[i].step, event->step) && !str_is(events[i].code, "worker_lost"))
            violation(c, "attempt %u of step " STR_FMT " ended twice, with events %" PRIu32 " and %" PRIu32,
                      (unsigned)event->attempt, STR_ARG(event->step), events[i].seq, event->seq);
}

/* The step whose row this is; NO_NODE for the run's timeout, or when history does not explain the row. */
static uint32_t step_of_row(const struct run_state *state, uint32_t seq)
{
    for (uint32_t i = 0; i < state->plan->step_count; i++)
        if (state->steps[i].open_seq == seq)
            return i;
    return NO_NODE;
}

static bool is_open(const struct run_state *state, uint32_t seq, int64_t kind)
{
    uint32_t node = step_of_row(state, seq);

    if (seq == state->timeout_seq)
        return kind == WORK_RUN_TIMEOUT;
    return node != NO_NODE && state->steps[node].open_kind == kind;
}

/* Row: seq, kind, attempt, step, due_at. What a row says beside its key must be what history says of the step. */
static void check_row(struct check *c, const struct run_state *state, const PGresult *res, int row)
{
    uint32_t node = step_of_row(state, (uint32_t)number(res, row, 0));
    const struct step_state *s = node == NO_NODE ? NULL : &state->steps[node];
    int64_t due_us = number(res, row, 4);
    int64_t deadline_us;

    if (s == NULL)
        return;
    if (!str_eq(column(res, row, 3), state->plan->steps[node].name) || number(res, row, 2) != s->attempt)
        violation(c, "open_work row %s is of step '%s' attempt %s, history says " STR_FMT " %u",
                  PQgetvalue(res, row, 0), PQgetvalue(res, row, 3), PQgetvalue(res, row, 2),
                  STR_ARG(state->plan->steps[node].name), (unsigned)s->attempt);
    deadline_us = state->plan->steps[node].deadline_us;
    if (s->open_kind != WORK_TASK && due_us != s->due_at.us)
        violation(c, "open_work row %s is due at %" PRId64 ", history says %" PRId64, PQgetvalue(res, row, 0), due_us,
                  s->due_at.us);
    else if (deadline_us != 0 && (due_us == 0 || due_us > s->ready_at.us + deadline_us))
        violation(c, "open_work row %s is not due by its step's deadline", PQgetvalue(res, row, 0));
}

static void check_open_work(struct check *c, const struct run_state *state)
{
    const char *params[] = {c->run};
    PGresult *res =
        query(c,
              "SELECT seq, kind, attempt, step, (extract(epoch FROM due_at) * 1000000)::bigint FROM open_work "
              "WHERE run_id = $1",
              1, params);
    PGresult *commands = query(c, "SELECT count(*) FROM command WHERE run_id = $1", 1, params);
    size_t expected = state->open_steps + (state->timeout_seq != 0 ? 1 : 0);

    for (int i = 0; i < PQntuples(res); i++) {
        check_row(c, state, res, i);
        if (!is_open(state, (uint32_t)number(res, i, 0), number(res, i, 1)))
            violation(c, "open_work has row %s of kind %s that history does not explain", PQgetvalue(res, i, 0),
                      PQgetvalue(res, i, 1));
    }
    if ((size_t)PQntuples(res) != expected)
        violation(c, "open_work has %d rows, history says %zu", PQntuples(res), expected);
    if (!run_ended((enum run_status)state->status) && state->open_steps == 0 && number(commands, 0, 0) == 0)
        violation(c, "is open without open work or command: nothing will ever move it");
    c->open += (size_t)PQntuples(res);
    PQclear(res);
    PQclear(commands);
}

static void check_run(struct check *c, const PGresult *runs, int row)
{
    const char *params[] = {c->run};
    struct plan *plan;
    struct run_state *state;
    struct run_id id;
    struct event *events;
    PGresult *res;
    struct err err;
    int count;

    (void)snprintf(c->run, sizeof(c->run), "%s", PQgetvalue(runs, row, 0));
    plan = plan_of(c, PQgetvalue(runs, row, 1), PQgetvalue(runs, row, 2), PQgetvalue(runs, row, 3));
    if (plan == NULL || !run_id_parse(str_of(c->run), &id)) {
        violation(c, "its workflow version cannot be compiled");
        return;
    }
    state = run_state_new(id, 1, plan, (struct wall_us){number(runs, row, 5)});
    res = query(
        c,
        "SELECT seq, type, (extract(epoch FROM at) * 1000000)::bigint, step, attempt, data, octet_length(output::text) "
        "FROM event WHERE run_id = $1 ORDER BY seq",
        1, params);
    count = PQntuples(res);
    events = arena_array(c->arena, (size_t)count + 1, sizeof(*events));
    for (int i = 0; i < count; i++) {
        events[i] = (struct event){.seq = (uint32_t)number(res, i, 0),
                                   .type = (enum event_type)number(res, i, 1),
                                   .at.us = number(res, i, 2),
                                   .step = column(res, i, 3),
                                   .attempt = (uint16_t)number(res, i, 4),
                                   .output_bytes = (uint32_t)number(res, i, 6)};
        if (event_decode_data(column(res, i, 5), c->arena, &events[i], &err) != ERR_OK) {
            violation(c, "%s", err.message);
            break;
        }
        check_event(c, state, events, (size_t)i);
        if (engine_fold(state, &events[i], &err) != ERR_OK) {
            violation(c, "%s", err.message);
            break;
        }
    }
    c->events += (size_t)count;
    if (strcmp(run_status_name((enum run_status)state->status), PQgetvalue(runs, row, 4)) != 0)
        violation(c, "run says '%s', its history '%s'", PQgetvalue(runs, row, 4),
                  run_status_name((enum run_status)state->status));
    check_open_work(c, state);
    PQclear(res);
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
                 "1000000)::bigint FROM run ORDER BY id",
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
