/* What the files that compile a plan share. Not for callers. */
#pragma once
#include "common/engine/plan.h"

#define FAULTS_MAX 200 /* more are not told */
#define MEMBERS_KEPT 32

struct compile {
    struct plan *plan;
    struct plan_faults *faults;
    const struct plan_limits *limits;
    struct str *objects; /* JSON of each step, in the order of plan->steps */
    bool faulty;         /* something was refused, also when there was no room to say so */
    struct {             /* an object whose members are asked for one by one; see plan_fields_of */
        struct str object;
        size_t count;
        struct {
            struct str key, value;
        } items[MEMBERS_KEPT];
    } open;
    bool cyclic; /* there is no order, and so no upstream to speak of */
};

/* Takes an object apart, so that plan_field does not read past all of its members, bodies of loops among them, for each
 * that it is asked for. */
void plan_fields_of(struct compile *c, struct str object);
/* jt_get, of any object; cheap of the one that was opened last. */
struct str plan_field(const struct compile *c, struct str object, const char *field);

/* A fault at the pointer that the format makes; the hint may be NULL. */
void plan_fault(struct compile *c, const char *code, const char *hint, const char *message, const char *pointer_format,
                ...) PRINTF_LIKE(5, 6);
/* The same for what is only odd. */
void plan_warning(struct compile *c, const char *hint, const char *message, const char *pointer_format, ...)
    PRINTF_LIKE(4, 5);
/* With a code of its own instead of no_effect. */
void plan_warning_of(struct compile *c, const char *code, const char *hint, const char *message,
                     const char *pointer_format, ...) PRINTF_LIKE(5, 6);
/* A text that lives until the faults have been read: pointers and messages. */
#define plan_text(c, ...) arena_printf((c)->faults->arena, __VA_ARGS__)
/* Where a step stands in the document: "/steps/NAME" with the name escaped for a JSON Pointer,
 * "/steps/each/with/steps/NAME",
 * "/steps/NAME/compensate", "/on_failure_notify". */
const char *plan_pointer(struct compile *c, uint32_t step);
void plan_write_pointer(const struct plan *plan, uint32_t step, struct buf *out); /* plan_walk.c */

/* Compiles the template at a pointer; faults are reported with it as prefix. `request_at` is the place in it of what an
 * http call sends, whose url is encoded and whose headers may take secrets; NULL: there is no such thing. */
bool plan_template(struct compile *c, struct str value, const char *pointer, const char *request_at,
                   struct template *ret);
/* `when` and `if`: a boolean, or a string that is exactly one expression. */
bool plan_condition(struct compile *c, struct str value, const char *pointer, struct template *ret);
/* `until`, and `items` that are no list: a string that is exactly one expression. */
bool plan_expression(struct compile *c, struct str value, const char *pointer, const char *what, struct template *ret);
/* Is it this string? Escapes in it count as what they stand for. */
bool plan_string_is(struct compile *c, struct str value, const char *literal);
int64_t plan_duration(struct compile *c, struct str object, const char *field, const char *pointer, int64_t fallback);
/* A duration in a `with`, unless an expression makes it: it must be one, and one that a run can live through. */
void plan_check_duration(struct compile *c, struct str value, const char *pointer);
void plan_retry(struct compile *c, struct str object, const char *pointer, struct plan_retry *retry);
uint8_t plan_outcome(struct str name); /* OUT_* or 0 */

/* plan_scope.c: which steps there are, and in which scopes. False when there are too many to go on. */
bool plan_collect(struct compile *c, struct str steps, struct str notify);
/* Any step of that name in some loop, for a message; NO_NODE: none, or there are more faults already than are told. */
uint32_t plan_find_anywhere(const struct compile *c, struct str name);

/* plan_call.c: `call` and `with` of a step. */
void plan_call(struct compile *c, uint32_t step, struct str object);
/* A call inside another thing (a poll, an action), which must be one that a worker does: checks it and its `with`,
 * which are at `pointer`. False when it is none. */
bool plan_task_call(struct compile *c, struct str call, struct str with, const char *pointer, struct str *ret_task);
bool plan_is_expression(struct str value);

/* plan_concurrency.c: how many runs at a time. */
void plan_concurrency(struct compile *c, struct str concurrency);

/* plan_trigger.c, when the steps are known; plan_webhook.c: one kind of them. */
void plan_triggers(struct compile *c, struct str triggers);
void plan_webhook(struct compile *c, struct plan_webhook *hook, struct str object, const char *pointer);
/* plan_hold.c: of a trigger whose kind is known. */
void plan_hold(struct compile *c, struct plan_trigger *trigger, struct str object, const char *pointer);

/* plan_wait.c: calls that wait for something outside of the run. */
void plan_signal(struct compile *c, struct plan_step *step, struct str with, const char *pointer);
void plan_wait_event(struct compile *c, struct plan_step *step, struct str with, const char *pointer);
void plan_poll(struct compile *c, struct plan_step *step, struct str with, const char *pointer);
void plan_child(struct compile *c, struct plan_step *step, struct str with, const char *pointer);
/* plan_loop.c: foreach. The second part, when the graph is known. */
void plan_loop(struct compile *c, struct plan_step *step, struct str with, const char *pointer);
void plan_loop_outputs(struct compile *c);
/* plan_effect.c: classes of effects; those of loops when all steps are compiled. */
void plan_effect(struct compile *c, struct str object, const char *pointer, struct plan_step *step);
void plan_loop_effects(struct compile *c);
/* plan_literal.c: what looks like a secret in what an http call sends, at its pointer. */
void plan_literal_secrets(struct compile *c, struct str request, const char *pointer);
/* plan_action.c: what undoes a step, and what tells of a run's failure. */
void plan_action(struct compile *c, uint32_t action);

/* plan_graph.c: edges, cycles, depth, branches that exclude each other. */
void plan_graph(struct compile *c);
/* plan_reads.c: expressions that read what is not upstream, or does not exist. */
void plan_check_reads(struct compile *c);

/* Which of a step's templates: they do not all see the same steps. */
enum template_part { PART_BEFORE /* rendered before the step runs */, PART_UNTIL, PART_ITEM_OUTPUT };
typedef void (*plan_part_fn)(void *ctx, const struct template *t, struct str pointer, enum template_part part);
void plan_each_part(const struct plan *plan, uint32_t step, plan_part_fn fn, void *ctx); /* plan_walk.c */
