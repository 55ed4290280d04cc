/* The HTTP server of the gateway with nothing behind it: every request is answered 202 at once, as a webhook that was
 * taken is. What a webhook costs is told beside it. Prints its port. */
#include "common/io/http_server.h"
#include <stdio.h>

#include "common/base/banned.h"

static void on_request(void *ctx, struct http_request *request)
{
    const struct http_header location = {STR("location"), STR("/v1/runs/01939e9c-0000-7000-8000-000000000000")};

    (void)ctx;
    http_respond(
        request, 202, "application/json", &location, 1,
        STR("{\"run_id\":\"01939e9c-0000-7000-8000-000000000000\",\"id\":\"01939e9c-0000-7000-8000-000000000000\","
            "\"status\":\"pending\"}"));
}

int main(void)
{
    uv_loop_t loop;
    struct http_options options = {.loop = &loop,
                                   .listen = "127.0.0.1:0",
                                   .max_body_bytes = 1 << 20,
                                   .max_connections = 2000,
                                   .on_request = on_request};
    struct http_server *server;
    struct err err = {0};

    uv_loop_init(&loop);
    if (http_server_new(&options, &server, &err) != ERR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    printf("%d\n", http_server_port(server));
    fflush(stdout);
    return uv_run(&loop, UV_RUN_DEFAULT);
}
