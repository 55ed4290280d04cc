/* From a request to its handler, by the table. */
#include "gateway/route.h"
#include "common/base/ensure.h"
#include "gateway/auth.h"

#include "common/base/banned.h"

#define ROUTE(method, pattern, right, query, handler)                                                                  \
    {#method, pattern, RIGHT_##right, query, route_##handler, #handler},
const struct route routes[] = {
#include "gateway/routes.def"
};
#undef ROUTE
const size_t route_count = sizeof(routes) / sizeof(routes[0]);

bool route_match(const char *pattern, struct str path, struct str params[CALL_PARAMS])
{
    size_t pos = 0, count = 0;

    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (pos >= path.len || path.ptr[pos] != *pattern)
                return false;
            pattern++;
            pos++;
            continue;
        }
        size_t begin = pos;

        while (pos < path.len && path.ptr[pos] != '/' && path.ptr[pos] != ':')
            pos++;
        if (pos == begin)
            return false;
        ENSURE(count < CALL_PARAMS);
        params[count++] = (struct str){path.ptr + begin, pos - begin};
        pattern = strchr(pattern, '}') + 1;
    }
    return pos == path.len;
}

/* Is `name` among the words of the route's query? */
static bool takes_query(const struct route *route, struct str name)
{
    struct str rest = str_of(route->query);

    while (rest.len > 0) {
        struct str word = str_cut(&rest, ' ');

        if (word.len > 0 && word.ptr[word.len - 1] == '*') {
            if (name.len >= word.len - 1 && memcmp(name.ptr, word.ptr, word.len - 1) == 0)
                return true;
        } else if (str_eq(word, name)) {
            return true;
        }
    }
    return false;
}

/* False: the call has been answered. */
static bool read_query(struct call *call)
{
    struct str rest = http_query(call->http);

    call->query = arena_array(call->arena, CALL_QUERY_MAX, sizeof(*call->query));
    while (rest.len > 0) {
        struct str value = str_cut(&rest, '&');
        struct str name = str_cut(&value, '=');
        struct query_value *q = &call->query[call->query_count];

        if (name.len == 0)
            continue;
        if (call->query_count == CALL_QUERY_MAX) {
            call_problem(call, 400, "too_many_parameters", "more than 64 query parameters");
            return false;
        }
        if (!http_decode(call->arena, name, true, &q->name) ||
            !http_decode(call->arena, value.ptr == NULL ? STR("") : value, true, &q->value)) {
            call_problem(call, 400, "bad_query", "the query is not percent-encoded UTF-8");
            return false;
        }
        if (!takes_query(call->route, q->name)) {
            call_problemf(call, 400, "unknown_parameter", "there is no query parameter '" STR_FMT "' here%s%s",
                          STR_ARG(utf8_prefix(q->name, 100)),
                          call->route->query[0] == '\0' ? "" : "; there are: ", call->route->query);
            return false;
        }
        if (call_query(call, arena_printf(call->arena, STR_FMT, STR_ARG(q->name))).ptr != NULL) {
            call_problemf(call, 400, "repeated_parameter", "the query parameter '" STR_FMT "' is there twice",
                          STR_ARG(utf8_prefix(q->name, 100)));
            return false;
        }
        call->query_count++;
    }
    return true;
}

static bool decode_params(struct call *call)
{
    for (size_t i = 0; i < CALL_PARAMS && call->params[i].ptr != NULL; i++)
        if (!http_decode(call->arena, call->params[i], false, &call->params[i])) {
            call_problem(call, 400, "bad_path", "the path is not percent-encoded UTF-8");
            return false;
        }
    return true;
}

static void serve_known(struct call *call)
{
    if (!role_may(call->caller.role, call->caller.organisation, call->route->right)) {
        call_problemf(call, 403, "forbidden", "the role of this API key, %s, does not allow %s %s",
                      role_name(call->caller.role), call->route->method, call->route->pattern);
        return;
    }
    if (decode_params(call) && read_query(call))
        call->route->handler(call);
}

static void no_route(struct gateway *gw, struct http_request *request, struct str allow)
{
    static const struct route unknown = {"", "", RIGHT_PUBLIC, "", NULL, ""};
    struct call call = {.gw = gw, .http = request, .arena = http_arena(request), .route = &unknown};
    struct http_header header = {STR("allow"), allow};

    if (allow.len == 0)
        call_problem(&call, 404, "no_such_route", "there is nothing at this path; /openapi.json lists what there is");
    else
        http_respond(request, 405, "application/problem+json", &header, 1,
                     STR("{\"type\":\"about:blank\",\"title\":\"Method not allowed\",\"status\":405,\"code\":"
                         "\"method_not_allowed\",\"detail\":\"this path has other methods: see the Allow header\"}"));
}

void route_serve(struct gateway *gw, struct http_request *request)
{
    struct str method = str_is(http_method(request), "HEAD") ? STR("GET") : http_method(request);
    struct arena *arena = http_arena(request);
    struct str params[CALL_PARAMS] = {0};
    CLEANUP(buf_deinit) struct buf allow = {0};

    buf_init(&allow, 1024);
    for (size_t i = 0; i < route_count; i++) {
        memset(params, 0, sizeof(params));
        if (!route_match(routes[i].pattern, http_path(request), params))
            continue;
        if (!str_is(method, routes[i].method)) {
            buf_printf(&allow, "%s%s%s", allow.len > 0 ? ", " : "", routes[i].method,
                       strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "");
            continue;
        }
        struct call *call = arena_alloc(arena, sizeof(*call));

        call->gw = gw;
        call->http = request;
        call->arena = arena;
        call->route = &routes[i];
        limits_of(&gw->config.limits, STR_NONE, &call->caller.limits); /* until a key says whose */
        memcpy(call->params, params, sizeof(params));
        if (call->route->right == RIGHT_PUBLIC)
            serve_known(call);
        else
            auth_call(gw->auth, call, serve_known);
        return;
    }
    no_route(gw, request, buf_str(&allow));
}

void routes_print(void)
{
    static const char *const rights[] = {"public", "read", "read_run", "start", "operate", "edit", "admin", "found"};

    for (size_t i = 0; i < route_count; i++)
        printf("{\"method\":\"%s\",\"path\":\"%s\",\"right\":\"%s\",\"query\":\"%s\",\"handler\":\"%s\"}\n",
               routes[i].method, routes[i].pattern, rights[routes[i].right], routes[i].query, routes[i].handler_name);
}

void route_not_available(struct call *call)
{
    call_problem(call, 422, "not_available", "this is in the contract but not in this release yet; nothing was done");
}

void route_health(struct call *call)
{
    ENSURE(service_handle_health(call->gw->service, call->http));
}
