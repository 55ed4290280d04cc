/* A call's query, roles, and the batches it makes. Answers: problem.c. */
#include "gateway/call.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

static const char *const role_names[] = {"none", "viewer", "trigger", "operator", "editor", "admin"};

bool role_parse(struct str name, enum role *ret)
{
    for (int i = ROLE_VIEWER; i <= ROLE_ADMIN; i++)
        if (str_is(name, role_names[i])) {
            *ret = (enum role)i;
            return true;
        }
    return false;
}

const char *role_name(enum role role)
{
    return role_names[role];
}

bool role_may(enum role role, int32_t organisation, enum right right)
{
    switch (right) {
    case RIGHT_PUBLIC:
        return true;
    case RIGHT_READ:
        return role == ROLE_VIEWER || role >= ROLE_OPERATOR;
    case RIGHT_READ_RUN:
        return role >= ROLE_VIEWER;
    case RIGHT_START:
        return role >= ROLE_TRIGGER;
    case RIGHT_OPERATE:
        return role >= ROLE_OPERATOR;
    case RIGHT_EDIT:
        return role >= ROLE_EDITOR;
    case RIGHT_ADMIN:
        return role >= ROLE_ADMIN;
    case RIGHT_FOUND:
        return role >= ROLE_ADMIN && organisation == FIRST_ORGANISATION;
    }
    return false;
}

struct str call_query(const struct call *call, const char *name)
{
    for (size_t i = 0; i < call->query_count; i++)
        if (str_is(call->query[i].name, name))
            return call->query[i].value;
    return STR_NONE;
}

bool call_run_id(struct call *call, size_t param, struct run_id *ret)
{
    if (run_id_parse(call->params[param], ret))
        return true;
    call_problem(call, 404, "not_found", "there is no such run");
    return false;
}

struct pg_batch *call_batch_by_index(struct call *call)
{
    struct pg_batch *batch = pg_batch_new(false);

    ENSURE(call->caller.organisation > 0);
    pg_batch_organisation_by_index(batch, call->caller.organisation);
    return batch;
}

struct pg_batch *call_batch(struct call *call, bool transaction)
{
    struct pg_batch *batch = pg_batch_new(transaction);

    ENSURE(call->caller.organisation > 0);
    pg_batch_organisation(batch, call->caller.organisation);
    return batch;
}
