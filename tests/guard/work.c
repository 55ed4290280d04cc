/* work NAME COUNT: does one kind of work of the hot path COUNT times, and nothing else; guard counts its instructions.
 */
#include "common/base/ensure.h"
#include "common/engine/engine.h"
#include "proto/results.h"
#include "tests/unit/expr/helper.h"
#include "tests/unit/scheduler/script.h"
#include "worker/task.h"
#include <stdio.h>
#include <stdlib.h>

#define STEPS 10

static struct str chain_document(struct arena *arena)
{
    CLEANUP(buf_deinit) struct buf text = {0};

    buf_init(&text, SIZE_MAX / 2);
    buf_printf(&text, "{\"name\":\"w\",\"steps\":{\"s0\":{\"call\":\"noop\"}");
    for (int i = 1; i < STEPS; i++)
        buf_printf(&text, ",\"s%d\":{\"needs\":[\"s%d\"],\"call\":\"noop\"}", i, i - 1);
    buf_printf(&text, "}}");
    return str_arena(arena, buf_str(&text));
}

/* The engine alone: a run of ten steps, each begun by the end of the one before. */
static void engine_run(long count)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1 << 16), *scratch = arena_new(1 << 16);
    struct plan_faults faults = {.arena = arena};
    struct plan *plan = plan_compile(chain_document(arena), &PLAN_LIMITS_DEFAULT, &faults);
    struct wall_us now = {INT64_C(1790000000) * US_PER_S};

    ENSURE(plan != NULL);
    while (count-- > 0) {
        struct run_state *state = run_state_new(run_id_make(now, 7), 1, plan, now);
        struct engine_input in = {.kind = IN_START};

        for (uint32_t i = 0; i <= STEPS; i++) {
            struct effects fx;
            struct err err;

            arena_reset(scratch);
            effects_init(&fx, scratch);
            ENSURE(engine_apply(state, &in, now, &fx, &err) == ERR_OK);
            if (i < STEPS)
                in = (struct engine_input){.kind = IN_RESULT,
                                           .step = plan->steps[i].name,
                                           .attempt = 1,
                                           .dispatch = 1,
                                           .worker = STR("w"),
                                           .result = RESULT_SUCCEEDED,
                                           .output = STR("null")};
        }
        ENSURE(state->status == RUN_SUCCEEDED);
        run_state_free(state);
    }
    plan_unref(plan);
}

/* The scheduler's core: messages are decoded, batches made and followed, tasks written. */
static void scheduler_run(long count)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1 << 16);
    const char *document = chain_document(arena).ptr;
    struct script *s = script_new();

    script_own(s, 0, 1);
    while (count-- > 0) {
        script_run(s, 0, document);
        script_deliver(s, 0, "nudge", "n", "{\"v\":1,\"shard\":0}");
        script_settle(s);
        for (int i = 0; i < STEPS; i++) {
            script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
            script_settle(s);
        }
        ENSURE(script_events(s, &s->runs[s->run_count - 1], EVENT_RUN_SUCCEEDED) == 1);
    }
    script_free(s);
}

static void task_read(long count)
{
    static const char text[] =
        "{\"v\":1,\"task_id\":\"0190f3a2-0000-7000-8000-000000000001/charge/1/"
        "1\",\"token\":\"c2VjcmV0\",\"publication\":1,"
        "\"run_id\":\"0190f3a2-0000-7000-8000-000000000001\",\"step\":\"charge\",\"attempt\":1,\"workflow\":\"order\","
        "\"organisation\":\"first\",\"call\":\"http\",\"with\":{\"method\":\"POST\",\"url\":\"https://pay.example/"
        "charges\","
        "\"body\":{\"order\":\"A-1\",\"total\":12.50,\"lines\":[{\"sku\":\"x\",\"n\":1},{\"sku\":\"y\",\"n\":2}]}},"
        "\"timeout\":\"20s\",\"delivery\":\"at_least_once\",\"idempotency_key\":\"abc\",\"reply_to\":\"ropewalk.inbox."
        "7\"}";
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);

    while (count-- > 0) {
        struct task task;
        struct err err;

        arena_reset(arena);
        ENSURE(task_decode(str_of(text), arena, &task, &err) == ERR_OK);
    }
}

static void results_read(long count)
{
    struct str text =
        STR("{\"v\":1,\"results\":["
            "{\"task_id\":\"0190f3a2-0000-7000-8000-000000000001/charge/1/1\",\"token\":\"c2VjcmV0\",\"worker\":\"w\","
            "\"status\":\"succeeded\",\"output\":{\"status\":200,\"body\":{\"id\":\"ch_1\",\"paid\":true}}},"
            "{\"task_id\":\"0190f3a2-0000-7000-8000-000000000002/charge/1/1\",\"token\":\"c2VjcmV0\",\"worker\":\"w\","
            "\"status\":\"succeeded\",\"output\":{\"status\":200,\"body\":{\"id\":\"ch_2\",\"paid\":true}}}]}");

    while (count-- > 0) {
        struct str fields[RESULT_ITEM_FIELDS];
        struct results results;
        enum err_code rc;
        struct err err;
        int found = 0;

        ENSURE(jt_check(text, &JT_LIMITS_MESSAGE, &err) == ERR_OK);
        ENSURE(results_open(&results, text, &err) == ERR_OK);
        while (results_next(&results, fields, &rc, &err))
            found += rc == ERR_OK;
        ENSURE(found == 2);
    }
}

/* A plain path, which no sandbox is asked for. */
static void path_read(long count)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096), *scratch = arena_new(4096);
    struct compiled c;
    struct document d;

    document_init(&d, arena, STR("{}"));
    d.doc.input = STR(
        "{\"order\":{\"lines\":[{\"sku\":\"x\",\"n\":1},{\"sku\":\"y\",\"n\":2}],\"total\":12.50},\"id\":\"ch_123\"}");
    compile_expr(&c, ".input.order.lines[1].sku");
    while (count-- > 0) {
        struct str value;
        struct err err;

        arena_reset(scratch);
        ENSURE(expr_eval_native(&c.template.exprs[0], &d.doc, scratch, &value, &err) == EXPR_OK &&
               str_is(value, "\"y\""));
    }
    compiled_free(&c);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(long count);
    } works[] = {{"engine_run", engine_run},
                 {"scheduler_run", scheduler_run},
                 {"task_read", task_read},
                 {"results_read", results_read},
                 {"path_read", path_read}};

    for (size_t i = 0; argc == 3 && i < sizeof(works) / sizeof(works[0]); i++)
        if (strcmp(works[i].name, argv[1]) == 0) {
            works[i].run(strtol(argv[2], NULL, 10));
            return 0;
        }
    fprintf(stderr, "usage: work NAME COUNT\n");
    return 2;
}
