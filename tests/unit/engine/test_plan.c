/* What a document becomes: scopes, calls with their templates, actions. Bad documents are in bad_documents.txt. */
#include "common/base/clock.h"
#include "tests/unit/engine/saved.h"
#include <stdio.h>

/* JSON is written with single quotes here, which are easier to read. */
static const char *requoted(struct arena *arena, const char *quoted)
{
    char *text = arena_dup(arena, quoted, strlen(quoted));

    for (char *at = text; *at != '\0'; at++)
        if (*at == '\'')
            *at = '"';
    return text;
}

static struct plan *compile(const char *quoted)
{
    struct arena *arena = arena_new(4096);
    struct plan *plan = good(requoted(arena, quoted));

    arena_free(arena);
    return plan;
}

static uint32_t step_in(const struct plan *plan, uint32_t scope, const char *name)
{
    uint32_t found = plan_find_in(plan, scope, str_of(name));

    if (found == NO_NODE)
        fail_msg("no step %s in scope %u", name, scope);
    return found;
}

static const char nested[] =
    "{'name':'x','on_failure_notify':{'call':'noop'},'steps':{"
    "'charge':{'call':'noop','pool':'slow','priority':'high','compensate':{'call':'crm.undo','with':{'id':1},"
    "'timeout':'5s','retry':{'max_attempts':20,'initial':'2s'},'on':['succeeded','outcome_unknown']}},"
    "'each':{'call':'foreach','needs':['charge'],'with':{'items':[1],'steps':{"
    "'a':{'call':'noop'},"
    "'in':{'call':'foreach','needs':['a'],'with':{'items':[],'steps':{'go':{'call':'noop','compensate':{'call':'http',"
    "'with':{'url':'http://x/${ .item }'}}}}}}}}},"
    "'quiet':{'call':'foreach','with':{'items':[],'steps':{'a':{'call':'noop'}}}}}}";

static void steps_are_laid_out_scope_after_scope_and_actions_last(void **state)
{
    struct plan *plan = compile(nested);
    uint32_t each = step_in(plan, 0, "each"), inner, go;
    const struct plan_scope *scopes = plan->scopes;

    (void)state;
    assert_int_equal(plan->root_count, 3);
    assert_int_equal(plan->step_count, 3 + 2 + 1 + 1 + 3);
    assert_int_equal(plan->scope_count, 1 + 3 + 3);
    for (uint32_t scope = 0, next = 0; scope < plan->scope_count; scope++) {
        assert_int_equal(scopes[scope].first, next);
        next += scopes[scope].count;
        for (uint32_t i = scopes[scope].first; i < next; i++) {
            assert_int_equal(plan->steps[i].scope, scope);
            assert_int_equal(plan->steps[i].role, scopes[scope].role);
        }
    }
    assert_int_equal(scopes[0].owner, NO_NODE);
    assert_int_equal(scopes[0].parent, NO_NODE);
    assert_int_equal(plan->steps[each].body, 1);
    assert_int_equal(scopes[1].owner, each);
    assert_int_equal(scopes[1].parent, 0);
    inner = plan->steps[step_in(plan, 1, "in")].body;
    assert_int_equal(scopes[inner].parent, 1);
    go = step_in(plan, inner, "go");
    assert_int_equal(plan->steps[go].body, NO_NODE);
    /* the same name in two scopes */
    assert_int_not_equal(step_in(plan, 1, "a"), step_in(plan, plan->steps[step_in(plan, 0, "quiet")].body, "a"));
    assert_int_equal(plan_find(plan, STR("go")), NO_NODE);
    assert_int_equal(plan_find(plan, STR("quiet")), 2);
    /* what holds a compensation is kept, however deep it is */
    assert_false(scopes[0].keep);
    assert_true(scopes[1].keep);
    assert_true(scopes[inner].keep);
    assert_false(scopes[plan->steps[2].body].keep);
    plan_unref(plan);
}

static void a_compensation_belongs_to_its_step(void **state)
{
    struct plan *plan = compile(nested);
    const struct plan_step *charge = &plan->steps[0], *undo = &plan->steps[charge->compensate], *inner;
    const struct plan_scope *scope = &plan->scopes[undo->scope];
    uint32_t go = step_in(plan, plan->steps[step_in(plan, 1, "in")].body, "go");

    (void)state;
    assert_int_equal(undo->role, ROLE_COMPENSATE);
    assert_int_equal(undo->of, 0);
    assert_str_eq(undo->name, "charge");
    assert_int_equal(undo->kind, CALL_TASK);
    assert_str_eq(undo->call, "crm.undo");
    assert_str_eq(undo->task, "crm.undo");
    assert_str_eq(undo->with.literal, "{\"id\":1}");
    assert_int_equal(undo->timeout_us, 5 * US_PER_S);
    assert_int_equal(undo->retry.max_attempts, 20);
    assert_int_equal(undo->retry.initial_us, 2 * US_PER_S);
    assert_int_equal(undo->compensate_on, OUT_SUCCEEDED | OUT_UNKNOWN);
    assert_str_eq(undo->pool, "slow");
    assert_int_equal(undo->priority, 1);
    assert_int_equal(undo->compensate, NO_NODE);
    assert_int_equal(undo->edge_count, 0);
    assert_int_equal(scope->owner, 0);
    assert_int_equal(scope->parent, 0);
    assert_int_equal(scope->count, 1);
    assert_int_equal(scope->topological[0], charge->compensate);
    assert_null(scope->by_name);
    assert_int_equal(plan_find_in(plan, undo->scope, STR("charge")), NO_NODE);

    inner = &plan->steps[plan->steps[go].compensate];
    assert_int_equal(inner->of, go);
    assert_int_equal(plan->scopes[inner->scope].parent, plan->steps[go].scope);
    assert_int_equal(inner->compensate_on, OUT_SUCCEEDED);
    assert_int_equal(inner->timeout_us, 30 * US_PER_S); /* of an http call */
    assert_int_equal(inner->with.exprs[0].place, EXPR_IN_URL);
    assert_int_equal(inner->priority, PRIORITY_OF_RUN);
    plan_unref(plan);
}

static void the_notification_is_the_last_step(void **state)
{
    struct plan *plan = compile(nested);
    const struct plan_step *notify = &plan->steps[plan->notify];

    (void)state;
    assert_int_equal(plan->notify, plan->step_count - 1);
    assert_int_equal(notify->role, ROLE_NOTIFY);
    assert_int_equal(notify->of, NO_NODE);
    assert_int_equal(notify->name.len, 0);
    assert_str_eq(notify->task, "noop");
    assert_int_equal(notify->timeout_us, 0);
    assert_int_equal(plan->scopes[notify->scope].parent, 0);
    assert_int_equal(plan->scopes[notify->scope].owner, NO_NODE);
    plan_unref(plan);
    plan = compile("{'name':'x','steps':{'a':{'call':'noop'}}}");
    assert_int_equal(plan->notify, NO_NODE);
    assert_int_equal(plan->steps[0].compensate, NO_NODE);
    plan_unref(plan);
}

static void a_signal_has_its_name_or_an_expression_for_it(void **state)
{
    struct plan *plan =
        compile("{'name':'x','steps':{"
                "'a':{'call':'wait_signal','with':{'signal':'it\\u0027s ok','timeout':'2d','once':true}},"
                "'b':{'call':'wait_signal','with':{'signal':'go-${ .input.id }'}},"
                "'c':{'call':'wait_signal','with':{'signal':'$${x}','timeout':'${ .input.t }'}}}}");

    (void)state;
    assert_int_equal(plan->steps[0].kind, CALL_SIGNAL);
    assert_str_eq(plan->steps[0].signal, "it's ok");
    assert_true(plan->steps[0].once);
    assert_null(plan->steps[0].task.ptr);
    assert_str_eq(jt_get(plan->steps[0].with.literal, "timeout"), "\"2d\"");
    assert_null(plan->steps[1].signal.ptr);
    assert_false(plan->steps[1].once);
    assert_int_equal(plan->steps[1].with.expr_count, 1);
    assert_str_eq(plan->steps[2].signal, "${x}");
    assert_int_equal(plan->steps[2].with.expr_count, 1);
    plan_unref(plan);
}

static void a_wait_for_an_event_is_fixed_but_for_its_filter_and_timeout(void **state)
{
    struct plan *plan = compile(
        "{'name':'x','steps':{"
        "'a':{'call':'wait_event','with':{'type':'paid','source':'$${x}','timeout':'${ .input.t }','look_back':'0s',"
        "'filter':'${ .event.data.id == .input.id }'}},"
        "'b':{'call':'wait_event','with':{'type':'paid'}},"
        "'c':{'call':'wait_event','with':{'type':'paid','look_back':'7d'}}}}");
    const struct plan_step *a = &plan->steps[0], *b = &plan->steps[1];

    (void)state;
    assert_int_equal(a->kind, CALL_EVENT);
    assert_int_equal(a->effect, EFFECT_PURE);
    assert_str_eq(a->event.type, "paid");
    assert_str_eq(a->event.source, "${x}");
    assert_true(a->event.has_filter);
    assert_true(a->event.filter.exprs[0].uses_event);
    assert_int_equal(a->with.expr_count, 1);
    assert_int_equal(a->look_back_us, 0);
    assert_null(a->task.ptr);
    assert_null(b->event.source.ptr);
    assert_false(b->event.has_filter);
    assert_true(b->with.constant);
    assert_int_equal(b->look_back_us, -1);
    assert_int_equal(plan->steps[2].look_back_us, LOOK_BACK_MAX_US);
    assert_int_equal(plan->format, event_format(EVENT_STEP_LISTENING));
    plan_unref(plan);
}

static void a_poll_renders_all_that_a_try_needs(void **state)
{
    struct plan *plan = compile(
        "{'name':'x','steps':{"
        "'a':{'call':'poll','on_unknown':'wait','with':{'until':'${ .output.body.done and (.steps.a.status != null) }',"
        "'timeout':'5m','call':'http','with':{'headers':{'h':'${ .input.h }'},'url':'http://x/${ .input.id }'}}},"
        "'b':{'call':'poll','timeout':'1s','with':{'call':'noop','until':'${ .output }'}}}}");
    const struct plan_step *a = &plan->steps[0], *b = &plan->steps[1];

    (void)state;
    assert_int_equal(a->kind, CALL_POLL);
    assert_str_eq(a->call, "poll");
    assert_str_eq(a->task, "http");
    assert_true(a->hold_unknown);
    assert_int_equal(a->timeout_us, 30 * US_PER_S); /* of a try */
    assert_int_equal(a->with.expr_count, 2);
    assert_str_eq(a->with.exprs[0].pointer, "/with/headers/h");
    assert_str_eq(a->with.exprs[1].pointer, "/with/url");
    assert_int_equal(a->with.exprs[1].place, EXPR_IN_URL);
    assert_str_eq(jt_get(a->with.source, "interval"), "\"10s\"");
    assert_str_eq(jt_get(a->with.source, "timeout"), "\"5m\"");
    assert_true(template_is_expression(&a->until));
    assert_str_eq(b->task, "noop");
    assert_int_equal(b->timeout_us, US_PER_S);
    assert_str_eq(b->with.literal, "{\"with\":{},\"interval\":\"10s\",\"timeout\":\"120s\"}");
    assert_true(b->until.exprs[0].native);
    plan_unref(plan);
}

static void a_loop_has_items_bounds_and_an_output(void **state)
{
    struct plan *plan = compile(
        "{'name':'x','steps':{"
        "'a':{'call':'foreach','with':{'items':['${ .input.a }',0.10],'concurrency':3,'on_item_failure':'continue',"
        "'steps':{'g':{'call':'noop'}},'output':{'k':'${ .steps.g.output.x }'}}},"
        "'b':{'call':'foreach','with':{'items':'${ .input.list }','steps':{'g':{'call':'noop'}},'output':null}}}}");
    const struct plan_step *a = &plan->steps[0], *b = &plan->steps[1];

    (void)state;
    assert_int_equal(a->kind, CALL_FOREACH);
    assert_int_equal(a->concurrency, 3);
    assert_true(a->continue_on_item);
    assert_str_eq(a->with.source, "[\"${ .input.a }\",0.10]");
    assert_str_eq(a->with.exprs[0].pointer, "/0");
    assert_str_eq(a->item_output.exprs[0].pointer, "/k");
    assert_int_equal(a->item_output_of, NO_NODE);
    assert_int_equal(b->concurrency, 10);
    assert_false(b->continue_on_item);
    assert_true(template_is_expression(&b->with));
    assert_str_eq(b->item_output.literal, "null");
    assert_int_equal(b->item_output_of, NO_NODE);
    plan_unref(plan);
}

/* The loop's body, and the expected template and step of its output. */
static const struct {
    const char *body, *source, *of;
} outputs[] = {
    {"'steps':{'g':{'call':'noop'}}", "\"${ .steps[\\\"g\\\"].output }\"", "g"},
    {"'steps':{'g':{'call':'noop'},'h':{'call':'noop','needs':['g']}}", "\"${ .steps[\\\"h\\\"].output }\"", "h"},
    {"'steps':{'g':{'call':'noop'},'h':{'call':'noop'}}",
     "{\"g\":\"${ .steps[\\\"g\\\"].output }\",\"h\":\"${ .steps[\\\"h\\\"].output }\"}", NULL},
    {"'steps':{'g':{'call':'noop'}},'output':'${ .steps.g.output }'", NULL, "g"},
    {"'steps':{'g':{'call':'noop'}},'output':'${.steps[\\\"g\\\"][\\\"output\\\"]}'", NULL, "g"},
    {"'steps':{'g':{'call':'noop'}},'output':'${ .steps.g.output.body }'", NULL, NULL},
    {"'steps':{'g':{'call':'noop'}},'output':'${ .steps.g.status }'", NULL, NULL},
    {"'steps':{'g':{'call':'noop'}},'output':['${ .steps.g.output }']", NULL, NULL},
    {"'steps':{'g':{'call':'noop'}},'output':'x${ .steps.g.output }'", NULL, NULL},
    {"'steps':{'g':{'call':'noop'}},'output':'${ .steps.g.output | . }'", NULL, NULL},
    {"'steps':{'g':{'call':'noop'}},'output':'${ .steps.outer.output }'", NULL, NULL},
    /* a loop's output is put together where it is read: there is no body to point at */
    {"'steps':{'g':{'call':'foreach','with':{'items':[],'steps':{'i':{'call':'noop'}}}}}",
     "\"${ .steps[\\\"g\\\"].output }\"", NULL},
};

static void an_iteration_gives_its_last_steps_unless_it_says_what(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(outputs) / sizeof(outputs[0]); i++) {
        char text[1000];
        struct plan *plan;
        const struct plan_step *loop;

        (void)snprintf(text, sizeof(text),
                       "{'name':'x','steps':{'outer':{'call':'noop'},'each':{'call':'foreach','needs':['outer'],"
                       "'with':{'items':[],%s}}}}",
                       outputs[i].body);
        plan = compile(text);
        loop = &plan->steps[1];
        if (outputs[i].source != NULL && !str_is(loop->item_output.source, outputs[i].source))
            fail_msg("%s: " STR_FMT, outputs[i].body, STR_ARG(loop->item_output.source));
        if (loop->item_output_of != (outputs[i].of == NULL ? NO_NODE : step_in(plan, loop->body, outputs[i].of)))
            fail_msg("%s: is that of step %u", outputs[i].body, loop->item_output_of);
        plan_unref(plan);
    }
}

static void a_child_is_told_its_name_version_and_input(void **state)
{
    struct plan *plan = compile("{'name':'x','steps':{'a':{'call':'workflow','with':{'name':'y','version':2,'input':"
                                "{'n':'${ .input.n }'}}}}}");

    (void)state;
    assert_int_equal(plan->steps[0].kind, CALL_WORKFLOW);
    assert_str_eq(jt_get(plan->steps[0].with.source, "name"), "\"y\"");
    assert_str_eq(plan->steps[0].with.exprs[0].pointer, "/input/n");
    plan_unref(plan);
}

static void retries_can_be_for_some_errors_only(void **state)
{
    struct plan *plan = compile("{'name':'x','steps':{'a':{'call':'noop','retry':{'on':['http_5xx','reset']}},"
                                "'b':{'call':'noop','retry':{'on':['reset','transient']}},'c':{'call':'noop'}}}");

    (void)state;
    assert_int_equal(plan->steps[0].retry.on_count, 2);
    assert_str_eq(plan->steps[0].retry.on[0], "http_5xx");
    assert_str_eq(plan->steps[0].retry.on[1], "reset");
    assert_int_equal(plan->steps[1].retry.on_count, 0); /* all of them */
    assert_int_equal(plan->steps[2].retry.on_count, 0);
    assert_int_equal(plan->steps[2].retry.max_attempts, 5);
    plan_unref(plan);
}

/* Escapes are another way to write the same text. */
static void words_are_read_whatever_their_escapes(void **state)
{
    struct plan *plan =
        compile("{'name':'x','priority':'h\\u0069gh','steps':{'a':{'call':'no\\u006fp','join':'\\u0061ny',"
                "'on_failure':'c\\u006fntinue','delivery':'\\u0061t_most_once'},"
                "'b':{'call':'for\\u0065ach','with':{'items':[],'steps':{'g':{'call':'noop'}}}}}}");

    (void)state;
    assert_int_equal(plan->priority, 1);
    assert_str_eq(plan->steps[0].task, "noop");
    assert_true(plan->steps[0].join_any);
    assert_true(plan->steps[0].continue_on_failure);
    assert_true(plan->steps[0].at_most_once);
    assert_int_equal(plan->steps[1].body, 1);
    plan_unref(plan);
}

static void parents_come_first_in_each_scope(void **state)
{
    struct plan *plan =
        compile("{'name':'x','steps':{'b':{'call':'noop','needs':['each']},'each':{'call':'foreach','with':{"
                "'items':[],'steps':{'z':{'call':'noop','needs':['y']},'y':{'call':'noop','needs':['x']},"
                "'x':{'call':'noop'}}}}}}");
    const struct plan_scope *body = &plan->scopes[1];

    (void)state;
    assert_int_equal(plan->scopes[0].topological[0], 1);
    assert_int_equal(plan->scopes[0].topological[1], 0);
    assert_int_equal(body->topological[0], step_in(plan, 1, "x"));
    assert_int_equal(body->topological[1], step_in(plan, 1, "y"));
    assert_int_equal(body->topological[2], step_in(plan, 1, "z"));
    assert_int_equal(plan->steps[step_in(plan, 1, "x")].children[0], step_in(plan, 1, "y"));
    plan_unref(plan);
}

static void good_documents_compile(void **state)
{
    static const char *const documents[] = {
        "{'name':'x','steps':{'a':{'call':'crm.lookup','with':{'anything':1}}}}",
        /* skipped is an outcome like any other: none is held to be impossible */
        "{'name':'x','steps':{'c':{'call':'condition','with':{'if':true}},'y':{'call':'noop','needs':{'c':['true']}},"
        "'n':{'call':'noop','needs':{'c':['false']}},"
        "'e':{'call':'noop','needs':{'y':['succeeded','skipped'],'n':['succeeded','skipped']}}}}",
        "{'name':'x','steps':{'a':{'call':'noop'},'b':{'call':'noop','needs':['a'],'when':'${ .steps.a.output.x }'}}}",
        /* a step in a loop reads what is upstream of its loop, and in its own scope */
        "{'name':'x','steps':{'a':{'call':'noop'},'b':{'call':'noop','needs':['a']},'each':{'call':'foreach','needs':['"
        "b'],"
        "'with':{'items':'${ .steps.a.output }','steps':{'c':{'call':'transform','with':{'value':'${ .steps.a.output "
        "}'}},"
        "'in':{'call':'foreach','needs':['c'],'with':{'items':'${ .steps.c.output }','steps':{'d':{'call':'transform',"
        "'with':{'value':['${ .item }','${ .index }','${ .steps.c.output }','${ .steps.b.output }']}}}}}}}}}}",
        /* the nearest of two steps of one name is meant */
        "{'name':'x','steps':{'a':{'call':'noop'},'each':{'call':'foreach','with':{'items':[],'steps':{'a':{'call':'"
        "noop'},"
        "'b':{'call':'transform','needs':['a'],'with':{'value':'${ .steps.a.output }'}}}}}}}",
        "{'name':'x','steps':{'each':{'call':'foreach','with':{'items':[],'steps':{'a':{'call':'noop'},'b':{'call':'"
        "noop'}},"
        "'output':'${ [.steps.a.output, .steps.b.status] }'}},"
        "'after':{'call':'transform','needs':{'each':['succeeded','failed']},'with':{'value':['${ .steps.each.failed "
        "}',"
        "'${ .steps.each.output[0] }']}}}}",
        /* what undoes a step reads it and what is upstream of it */
        "{'name':'x','steps':{'a':{'call':'noop'},'b':{'call':'noop','needs':['a'],'compensate':{'call':'http','with':{"
        "'url':'http://x/${ .steps.b.output.id }/${ .steps.a.output.id }'}}}}}",
        "{'name':'x','steps':{'a':{'call':'noop'},'each':{'call':'foreach','needs':['a'],'with':{'items':[],'steps':{"
        "'b':{'call':'noop','compensate':{'call':'http','with':{'url':'http://x/${ .item }/${ .index }',"
        "'body':['${ .steps.b.output }','${ .steps.a.output }']}}}}}}}}",
        "{'name':'x','steps':{'each':{'call':'foreach','with':{'items':[],'steps':{'b':{'call':'noop'}}},"
        "'compensate':{'call':'http','with':{'url':'http://x','body':'${ .steps.each.output }'}}}}}",
        /* when all is over everything may be read */
        "{'name':'x','on_failure_notify':{'call':'http','with':{'url':'http://x','body':{'r':'${ .run.status }',"
        "'e':'${ .run.error.step }','a':'${ .steps.a.status }','b':'${ .steps.b.error "
        "}'}}},'steps':{'a':{'call':'noop'},"
        "'b':{'call':'noop'}},'output':['${ .steps.a.output }','${ .steps.b.output }']}",
        /* names of a workflow that only begin like this one */
        "{'name':'x','steps':{'a':{'call':'workflow','with':{'name':'xy'}}}}",
        "{'name':'x','steps':{'a':{'call':'wait_signal','with':{'signal':'${ .input.s }','timeout':'366d'}}}}",
        "{'name':'x','triggers':{},'steps':{'a':{'call':'noop'}}}",
        "{'name':'x','steps':{'a':{'call':'noop','on_unknown':'wait','delivery':'at_most_once'},"
        "'b':{'call':'delay','on_unknown':'fail','with':{'duration':'1ms'}}}}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
        plan_unref(compile(documents[i]));
}

struct seen {
    struct buf text;
};

static void note_template(void *ctx, const struct template *t, struct str pointer)
{
    struct seen *seen = ctx;

    for (size_t i = 0; i < t->expr_count; i++)
        buf_printf(&seen->text, STR_FMT STR_FMT "\n", STR_ARG(pointer), STR_ARG(t->exprs[i].pointer));
}

static void every_template_is_walked_with_its_place(void **state)
{
    struct plan *plan = compile(
        "{'name':'x','on_failure_notify':{'call':'http','with':{'url':'${ .input.u }'}},'output':['${ .input.o "
        "}'],'steps':{"
        "'t':{'call':'transform','with':{'value':{'a/b':'${ .input.a }'}},'when':'${ .input.w }'},"
        "'k':{'call':'noop','idempotency':{'key':'${ .input.k }'},'compensate':{'call':'http','with':{'url':'http://x',"
        "'body':['${ .input.c }']}}},"
        "'s':{'call':'switch','with':{'cases':[{'name':'a','if':true},{'name':'b','if':'${ .input.b }'}]}},"
        "'c':{'call':'condition','with':{'if':'${ .input.i }'}},"
        "'d':{'call':'delay','with':{'duration':'${ .input.d }'}},'e':{'call':'delay','with':{'until':'${ .input.e "
        "}'}},"
        "'g':{'call':'wait_signal','with':{'signal':'${ .input.s }','timeout':'${ .input.t }'}},"
        "'p':{'call':'poll','with':{'call':'http','timeout':'${ .input.t }','until':'${ .output }','interval':'${ "
        ".input.i }',"
        "'with':{'url':'${ .input.u }'}}},"
        "'w':{'call':'workflow','with':{'name':'y','input':'${ .input.w }'}},"
        "'f':{'call':'foreach','with':{'items':'${ .input.f }','output':{'o':'${ .item }'},'steps':{"
        "'in':{'call':'foreach','with':{'items':['${ .item }'],'steps':{'h':{'call':'http','with':{'url':'${ .item }'},"
        "'compensate':{'call':'http','with':{'url':'${ .index }'}}}}}}}}}}}");
    struct seen seen = {0};

    (void)state;
    buf_init(&seen.text, 1 << 16);
    plan_each_template(plan, note_template, &seen);
    assert_string_equal(buf_str(&seen.text).ptr, "/steps/t/with/value/a~1b\n"
                                                 "/steps/t/when\n"
                                                 "/steps/k/idempotency/key\n"
                                                 "/steps/s/with/cases/1/if\n"
                                                 "/steps/c/with/if\n"
                                                 "/steps/d/with/duration\n"
                                                 "/steps/e/with/until\n"
                                                 "/steps/g/with/signal\n"
                                                 "/steps/g/with/timeout\n"
                                                 "/steps/p/with/with/url\n"
                                                 "/steps/p/with/interval\n"
                                                 "/steps/p/with/timeout\n"
                                                 "/steps/p/with/until\n"
                                                 "/steps/w/with/input\n"
                                                 "/steps/f/with/items\n"
                                                 "/steps/f/with/output/o\n"
                                                 "/steps/f/with/steps/in/with/items/0\n"
                                                 "/steps/f/with/steps/in/with/output\n"
                                                 "/steps/f/with/steps/in/with/steps/h/with/url\n"
                                                 "/steps/k/compensate/with/body/0\n"
                                                 "/steps/f/with/steps/in/with/steps/h/compensate/with/url\n"
                                                 "/on_failure_notify/with/url\n"
                                                 "/output/0\n");
    buf_deinit(&seen.text);
    plan_unref(plan);
}

/* Steps, and the pointers of what changes nothing in them. */
static const struct {
    const char *document, *pointers;
} odd[] = {
    {"{'name':'x','steps':{'a':{'call':'noop','timeout':'1s','delivery':'at_most_once','pool':'p'},'b':{'call':'poll',"
     "'timeout':'1s','with':{'call':'noop','until':'${ .output }'}}}}",
     ""},
    {"{'name':'x','steps':{'a':{'call':'transform','with':{'value':1},'timeout':'1s','deadline':'1s','pool':'p'}}}",
     "/steps/a/timeout /steps/a/pool "},
    {"{'name':'x','steps':{'a':{'call':'delay','with':{'duration':'1s'},'delivery':'at_most_once'},'each':{'call':"
     "'foreach','idempotency':{'per':'step'},'with':{'items':[],'steps':{'b':{'call':'wait_signal','pool':'p',"
     "'with':{'signal':'s'}}}}}}}",
     "/steps/a/delivery /steps/each/idempotency /steps/each/with/steps/b/pool "},
    {"{'name':'x','output':'${ .index }','on_failure_notify':{'call':'http','with':{'url':'http://x/${ .item.id }'}},"
     "'steps':{'a':{'call':'transform','with':{'value':['${ .item }']}}}}",
     "/steps/a/with/value/0 /on_failure_notify/with/url /output "},
    {"{'name':'x','steps':{'each':{'call':'foreach','with':{'items':[],'output':'${ .item "
     "}','steps':{'b':{'call':'http',"
     "'with':{'url':'http://x/${ .index }'},'compensate':{'call':'http','with':{'url':'http://x/${ .item }'}}}}}}}}",
     ""},
    {"{'name':'x','steps':{'each':{'call':'foreach','with':{'items':['${ .item }'],'steps':{'b':{'call':'noop'}}}}}}",
     "/steps/each/with/items/0 "},
};

static void what_changes_nothing_is_warned_of(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct arena *arena = arena_new(4096);
        struct plan_faults faults = {.arena = arena};
        const char *pointers = "";

        plan_unref(plan_compile(str_of(requoted(arena, odd[i].document)), &PLAN_LIMITS_DEFAULT, &faults));
        assert_int_equal(faults.count, 0);
        for (size_t k = 0; k < faults.warning_count; k++) {
            assert_string_equal(faults.warnings[k].code, "no_effect");
            pointers = arena_printf(arena, "%s" STR_FMT " ", pointers, STR_ARG(faults.warnings[k].pointer));
        }
        assert_string_equal(pointers, odd[i].pointers);
        arena_free(arena);
    }
}

RUN(TEST(steps_are_laid_out_scope_after_scope_and_actions_last), TEST(a_compensation_belongs_to_its_step),
    TEST(the_notification_is_the_last_step), TEST(a_signal_has_its_name_or_an_expression_for_it),
    TEST(a_wait_for_an_event_is_fixed_but_for_its_filter_and_timeout), TEST(a_poll_renders_all_that_a_try_needs),
    TEST(a_loop_has_items_bounds_and_an_output), TEST(an_iteration_gives_its_last_steps_unless_it_says_what),
    TEST(a_child_is_told_its_name_version_and_input), TEST(retries_can_be_for_some_errors_only),
    TEST(words_are_read_whatever_their_escapes), TEST(parents_come_first_in_each_scope), TEST(good_documents_compile),
    TEST(every_template_is_walked_with_its_place), TEST(what_changes_nothing_is_warned_of))
