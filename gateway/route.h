/* The table of routes, and the way from a request to its handler. Rows: routes.def. */
#pragma once
#include "gateway/call.h"

struct route {
    const char *method;
    const char *pattern; /* "/v1/runs/{id}:cancel" */
    enum right right;
    const char *query; /* names it takes, separated by a space; "label.*" takes any with this beginning */
    void (*handler)(struct call *call);
    const char *handler_name;
};

extern const struct route routes[];
extern const size_t route_count;

/* Serves one request: finds the route, checks key, role and query, calls the handler. */
void route_serve(struct gateway *gw, struct http_request *request);
/* Does `path` fit the pattern? Parameters are raw slices of `path`, at most CALL_PARAMS. */
bool route_match(const char *pattern, struct str path, struct str params[CALL_PARAMS]);
/* The table as JSON lines, for tests: method, pattern, right, query, handler. */
void routes_print(void);

#define ROUTE(method, pattern, right, query, handler) void route_##handler(struct call *call);
#include "gateway/routes.def"
#undef ROUTE
