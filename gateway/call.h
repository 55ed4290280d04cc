/* A call: one API request on its way to its handler, with who asks and what the route said. Lives in the request's
 * arena until it is answered; exactly one of the answering functions ends it. Loop thread only. */
#pragma once
#include "common/base/id.h"
#include "common/base/json_text.h"
#include "gateway/gateway.h"

/* What a role may do; a route asks for one of them. */
enum right {
    RIGHT_PUBLIC,   /* no key */
    RIGHT_READ,     /* every GET but keys: viewer and up */
    RIGHT_READ_RUN, /* GET of a run: trigger, too */
    RIGHT_START,    /* start, signal */
    RIGHT_OPERATE,
    RIGHT_EDIT,
    RIGHT_ADMIN,
    RIGHT_FOUND, /* admins of the first organisation */
};
enum role { ROLE_NONE, ROLE_VIEWER, ROLE_TRIGGER, ROLE_OPERATOR, ROLE_EDITOR, ROLE_ADMIN };

struct caller {
    int32_t organisation;
    char organisation_name[64];
    enum role role;
    char prefix[24]; /* of the key */
    struct run_id key_id;
    struct limits limits; /* of the organisation, what holds */
};

struct query_value {
    struct str name, value; /* decoded */
};

#define CALL_PARAMS 4
#define CALL_QUERY_MAX 64
#define FIRST_ORGANISATION 1

struct call {
    struct gateway *gw;
    struct http_request *http;
    struct arena *arena;
    const struct route *route;
    struct caller caller;
    struct str params[CALL_PARAMS]; /* decoded, in the order of the pattern */
    size_t query_count;
    struct query_value *query;
    void *ctx; /* the handler's own */
    /* What the gateway asks of itself has no http, and this instead: once, with what would have been the answer. code
     * and detail of a problem, NULL without; errors as call_problem_errors has them. The call lives until it has
     * returned to the loop. */
    void (*answered)(struct call *call, int status, const char *code, const char *detail, struct str errors);
};

bool role_may(enum role role, int32_t organisation, enum right right);
bool role_parse(struct str name, enum role *ret);
const char *role_name(enum role role);

/* Query values; STR_NONE when absent. */
struct str call_query(const struct call *call, const char *name);

/* Answers. `code` is the problem's machine-readable reason. */
void call_json(struct call *call, int status, struct str body);
void call_json_at(struct call *call, int status, const char *location, struct str body);
void call_problem(struct call *call, int status, const char *code, const char *detail);
void call_problemf(struct call *call, int status, const char *code, const char *format, ...) PRINTF_LIKE(4, 5);
/* 429 or 503: with Retry-After. */
void call_problem_later(struct call *call, int status, const char *code, int64_t after_s, const char *detail);
/* A problem with members of its own: `errors` is a JSON array or STR_NONE. */
void call_problem_errors(struct call *call, int status, const char *code, const char *detail, struct str errors);
/* What PostgreSQL or a parser reported; logs what an operator should know and tells the client no more than it needs.
 */
void call_error(struct call *call, const struct err *err);
/* True when the batch went through; else the call has been answered. */
bool call_committed(struct call *call, const struct pg_outcome *outcome);

/* A path parameter or body field that must be a run id; false: the call has been answered 404. */
bool call_run_id(struct call *call, size_t param, struct run_id *ret);
/* A new batch for this call's organisation. */
struct pg_batch *call_batch(struct call *call, bool transaction);
struct pg_batch *call_batch_by_index(struct call *call); /* see pg_batch_organisation_by_index */
