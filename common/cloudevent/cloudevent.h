/* CloudEvents 1.0 (github.com/cloudevents/spec, v1.0.2): one event in its JSON format, or put together of what a
 * protocol carries beside its data (binary mode). Pure; whatever bytes come. */
#pragma once
#include "common/base/json_text.h"

#define CLOUDEVENT_ID_MAX 255
#define CLOUDEVENT_TYPE_MAX 255
#define CLOUDEVENT_SOURCE_MAX 1024 /* bytes, as of subject */
#define CLOUDEVENT_ATTRIBUTES_MAX 64

struct cloudevent {
    struct str id, source, type;
    struct str subject; /* STR_NONE: none */
    struct str data;    /* JSON: `data`, or `data_base64` as the text that it is; null without either */
    struct str json;    /* the whole event, in the JSON format */
};

/* Once per fault, all of them: code (missing_field, wrong_type, out_of_range, not_json), JSON Pointer below that of the
 * event, message. */
typedef void (*cloudevent_fault_fn)(void *ctx, const char *code, const char *pointer, const char *message);

/* Reads checked JSON. False when there was a fault. What *ret has is slices of `json`, or memory of the arena. */
bool cloudevent_read(struct str json, struct arena *arena, cloudevent_fault_fn fault, void *ctx,
                     struct cloudevent *ret);

struct cloudevent_attribute {
    struct str name, value; /* name without the protocol's prefix, value as text in UTF-8 */
};
/* Puts an event together: `content_type` (STR_NONE: none) is that of `data`, which becomes JSON when it says so, text
 * when it is text/..., else base64. limits: of data that is JSON. False when there was a fault. */
bool cloudevent_assemble(const struct cloudevent_attribute *attributes, size_t count, struct str content_type,
                         struct str data, const struct jt_limits *limits, struct arena *arena,
                         cloudevent_fault_fn fault, void *ctx, struct cloudevent *ret);

/* Is the media type this one, whatever its parameters and case? `type` in lower case. */
bool media_type_is(struct str media_type, const char *type);
