/* A workflow document as a request brings it: is it JSON, has it the schema's shape, can it run? All faults at once. */
#pragma once
#include "common/engine/plan.h"
#include "gateway/call.h"

struct document {
    struct str text;
    struct str name;
    struct plan *plan;   /* NULL when there were faults; the holder's to unref */
    struct str errors;   /* JSON array */
    struct str warnings; /* JSON array */
    size_t error_count;
};

/* The request's body as checked JSON, "{}" when it is empty. False: answered 400 or 413. */
bool call_body(struct call *call, struct str *ret);
/* The same with something else for an empty one. */
bool call_body_or(struct call *call, struct str empty, struct str *ret);
bool idempotency_key_is_valid(struct str key); /* 1 to 255 bytes of printable ASCII */
/* The Idempotency-Key header, STR_NONE without one. False: answered. */
bool call_idempotency_key(struct call *call, struct str *ret);
/* A body that is an object of nothing but the fields named (separated by a space). False: answered. */
bool call_body_object(struct call *call, const char *fields, struct str *ret);
/* One fault of a body: answers 422. */
void call_fault(struct call *call, const char *code, const char *pointer, const char *message);

/* Checks `text` (JSON already). All memory is the arena's but for the plan. */
void document_check(struct arena *arena, const struct limits *most, struct str text, struct document *ret);
/* The document without `metadata` of its own and of its steps. Initialises `out`. */
void document_content(struct str text, struct buf *out);
/* sha256 of the canonical form without `metadata` of document and steps: what makes a version. */
void document_hash(struct str text, uint8_t ret[32]);
bool name_is_valid(struct str name); /* ^[a-z0-9][a-z0-9-]{0,62}$ */
