/* Answers of a call: JSON, and problems as RFC 9457 has them. */
#include "common/base/log.h"
#include <inttypes.h>
#include "gateway/call.h"
#include "gateway/route.h"

#include "common/base/banned.h"

#define PROBLEM_MAX ((size_t)8 << 20)

static const char *title(int status)
{
    switch (status) {
    case 400:
        return "Bad request";
    case 401:
        return "Not authenticated";
    case 403:
        return "Not allowed";
    case 404:
        return "Not found";
    case 405:
        return "Method not allowed";
    case 409:
        return "Conflict";
    case 412:
        return "Precondition failed";
    case 413:
        return "Too large";
    case 415:
        return "Unsupported media type";
    case 422:
        return "Not valid";
    case 429:
        return "Too many requests";
    case 503:
        return "Not available for now";
    case 504:
        return "Took too long";
    default:
        return "Internal error";
    }
}

/* Of a call that the gateway makes itself. False: it came by HTTP. */
static bool tell_ourselves(struct call *call, int status, const char *code, const char *detail, struct str errors)
{
    if (call->answered != NULL)
        call->answered(call, status, code, detail, errors);
    return call->answered != NULL;
}

void call_json(struct call *call, int status, struct str body)
{
    struct http_header headers[] = {{STR("cache-control"), STR("no-store")}};

    if (!tell_ourselves(call, status, NULL, NULL, STR_NONE))
        http_respond(call->http, status, "application/json", headers, 1, body);
}

void call_json_at(struct call *call, int status, const char *location, struct str body)
{
    struct http_header headers[] = {{STR("location"), str_of(location)}, {STR("cache-control"), STR("no-store")}};

    if (!tell_ourselves(call, status, NULL, NULL, STR_NONE))
        http_respond(call->http, status, "application/json", headers, 2, body);
}

static struct http_header extra_header(int status)
{
    if (status == 401)
        return (struct http_header){STR("www-authenticate"), STR("Bearer realm=\"ropewalk\"")};
    if (status == 503)
        return (struct http_header){STR("retry-after"), STR("1")};
    return (struct http_header){STR("cache-control"), STR("no-store")};
}

static void answer_problem(struct call *call, int status, const char *code, const char *detail, struct str errors,
                           struct http_header header)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    if (tell_ourselves(call, status, code, detail, errors))
        return;
    buf_init(&body, PROBLEM_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kcstr(&w, "type", "about:blank");
    jw_kcstr(&w, "title", title(status));
    jw_ki64(&w, "status", status);
    jw_kcstr(&w, "code", code);
    jw_kcstr(&w, "detail", detail);
    if (errors.ptr != NULL)
        jw_kraw(&w, "errors", errors);
    jw_end_obj(&w);
    http_respond(call->http, status, "application/problem+json", &header, 1, buf_str(&body));
}

void call_problem_errors(struct call *call, int status, const char *code, const char *detail, struct str errors)
{
    answer_problem(call, status, code, detail, errors, extra_header(status));
}

void call_problem_later(struct call *call, int status, const char *code, int64_t after_s, const char *detail)
{
    char seconds[24];

    snprintf(seconds, sizeof(seconds), "%" PRId64, after_s);
    answer_problem(call, status, code, detail, STR_NONE, (struct http_header){STR("retry-after"), str_of(seconds)});
}

void call_problem(struct call *call, int status, const char *code, const char *detail)
{
    call_problem_errors(call, status, code, detail, STR_NONE);
}

void call_problemf(struct call *call, int status, const char *code, const char *format, ...)
{
    char detail[512];
    va_list args;

    va_start(args, format);
    vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    call_problem(call, status, code, detail);
}

static void log_failure(const struct call *call, const struct err *err)
{
    log_event(LOG_ERROR, "request.failed", log_cstr("method", call->route->method),
              log_cstr("route", call->route->pattern), log_cstr("organisation", call->caller.organisation_name),
              log_err(err));
}

void call_error(struct call *call, const struct err *err)
{
    int status = err_http_status(err->code);

    switch (err_class_of(err->code)) {
    case ERR_CLASS_CALLER:
        call_problem(call, status, err_code_name(err->code), err->message);
        break;
    case ERR_CLASS_TRANSIENT:
        log_event(LOG_WARN, "request.unavailable", log_cstr("method", call->route->method),
                  log_cstr("route", call->route->pattern), log_err(err));
        call_problem(call, status == 504 ? 504 : 503, "unavailable",
                     "the database cannot be reached or is too busy for now; nothing is lost, try again");
        break;
    case ERR_CLASS_NONE:
    case ERR_CLASS_BUG:
        log_failure(call, err);
        call_problem(call, 500, "internal", "an error of ours; the gateway's log says more");
        break;
    }
}

bool call_committed(struct call *call, const struct pg_outcome *outcome)
{
    if (outcome->rc == ERR_OK)
        return true;
    if (outcome->unknown) {
        call_problem(
            call, 503, "outcome_unclear",
            "the connection to the database broke while this was being saved: it may or may not have happened; "
            "look, then try again");
        return false;
    }
    if (err_class_of(outcome->rc) == ERR_CLASS_CALLER) { /* a statement of ours broke a rule: nothing the client did */
        log_failure(call, outcome->err);
        call_problem(call, 500, "internal", "an error of ours; the gateway's log says more");
        return false;
    }
    call_error(call, outcome->err);
    return false;
}
