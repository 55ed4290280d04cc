/* What an `http` step asks for, read from its rendered `with` and checked before anything is sent. Pure. */
#pragma once
#include "common/base/json_text.h"

struct http_field {
    struct str name, value; /* NUL behind each */
};

struct http_request_spec {
    struct str method, url; /* url with the query appended; NUL behind each */
    struct http_field *fields;
    size_t field_count;
    struct str body;       /* ptr NULL: none */
    const char *body_type; /* content type to send when the step names none; NULL without a body */
    size_t max_response_bytes;
    unsigned follow_redirects;
};

/* `with` is checked JSON or STR_NONE; everything in *ret lives in the arena or in `with`. ERR_INVALID: a message that
 * names the field; the step fails permanently with `invalid_request`. ERR_NOT_AVAILABLE: a secret reference. */
enum err_code http_request_read(struct str with, struct arena *arena, struct http_request_spec *ret,
                                struct err *err) MUST_CHECK;
/* Fields that carry identity or belong to the step's own API: not sent on to another origin. */
bool http_field_is_portable(struct str name);
