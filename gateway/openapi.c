/* The API's description, as it was built in. */
#include "proto/openapi.h"
#include "gateway/route.h"

#include "common/base/banned.h"

void route_openapi(struct call *call)
{
    http_respond(call->http, 200, "application/json", NULL, 0, PROTO_OPENAPI);
}
