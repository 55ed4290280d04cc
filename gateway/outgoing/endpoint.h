/* Endpoints: where an organisation has events of its runs sent to. Loop thread only. */
#pragma once
#include "common/engine/notice.h"
#include "gateway/call.h"

#define ENDPOINT_URL_MAX ((size_t)2048)
#define ENDPOINT_DESCRIPTION_MAX ((size_t)500)
#define ENDPOINT_WORKFLOWS_MAX 100
#define ENDPOINT_SECRET_SIZE 64      /* of "whsec_..." */
#define ENDPOINT_SECRET_NAME_SIZE 52 /* of "#ID.NUMBER", under which it is sealed */

/* What a body says of one. */
struct endpoint_body {
    bool exchange;
    struct str url, description; /* STR_NONE: not said */
    bool has_types, has_workflows, has_enabled, enabled;
    size_t type_count, workflow_count; /* 0: all */
    struct str types[NOTICE_COUNT], workflows[ENDPOINT_WORKFLOWS_MAX];
};
/* endpoint_body.c. Reads the call's body; what is read lives as long as the call. False: answered. */
bool endpoint_body_read(struct call *call, bool creating, struct endpoint_body *ret);
/* The column of the statement: NULL for all. */
struct pg_param endpoint_names(struct pg_batch *batch, const struct str *names, size_t count);

/* endpoint_json.c: columns as sql/endpoint_get.sql has them. */
void endpoint_put(struct jw *w, const struct pg_result *rows, size_t row);
/* The path's endpoint; false: answered 404. */
bool endpoint_id(struct call *call, struct run_id *ret);
void endpoint_unknown(struct call *call);

/* endpoint_secret.c: a new secret in the endpoint's name, sealed with the organisation's data key. `next` is not called
 * when the call has been answered. What it gets lives as long as the call. */
struct endpoint_secret {
    int32_t number, key_version;
    char name[ENDPOINT_SECRET_NAME_SIZE];
    char text[ENDPOINT_SECRET_SIZE]; /* wiped with the call */
    struct str box;
};
typedef void (*endpoint_secret_fn)(void *ctx, const struct endpoint_secret *secret);
void endpoint_secret_make(struct call *call, struct run_id endpoint, endpoint_secret_fn next, void *ctx);
void endpoint_secret_name(struct run_id endpoint, int32_t number, char ret[ENDPOINT_SECRET_NAME_SIZE]);
