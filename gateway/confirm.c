/* See confirm.h. */
#include "gateway/confirm.h"
#include "gateway/document.h"

#include "common/base/banned.h"

bool read_plan(struct call *call, bool *ret)
{
    struct str plan = call_query(call, "plan");

    *ret = str_is(plan, "true");
    if (plan.ptr == NULL || *ret || str_is(plan, "false"))
        return true;
    call_problem(call, 400, "bad_query", "plan is true or false");
    return false;
}

bool read_confirm(struct call *call, struct str body, struct str *ret)
{
    struct str given = jt_get(body, "confirm"), name;
    struct jt_iter it;
    bool flag;

    *ret = given.ptr == NULL ? STR("false") : given;
    if (given.ptr == NULL || jt_bool(given, &flag))
        return true;
    if (jt_type(given) != JT_ARRAY) {
        call_fault(call, "wrong_type", "/confirm", "confirm must be true, false or a list of steps");
        return false;
    }
    jt_iter_init(&it, given);
    while (jt_next(&it)) {
        if (jt_string(it.value, call->arena, &name))
            continue;
        call_fault(call, "wrong_type", arena_printf(call->arena, "/confirm/%zu", it.index), "is no name of a step");
        return false;
    }
    return true;
}

bool is_confirmed(struct call *call, struct str confirm, struct str step)
{
    struct jt_iter it;
    struct str name;
    bool flag;

    if (jt_bool(confirm, &flag))
        return flag;
    jt_iter_init(&it, confirm);
    while (jt_next(&it))
        if (jt_string(it.value, call->arena, &name) && str_eq(name, step))
            return true;
    return false;
}
