/* Expressions and templates. A template is a JSON value (text) whose strings may hold ${ jq }; it is compiled once per
 * workflow version into literal chunks and holes, so that numbers nobody touches keep their digits. Plain paths
 * (.steps.charge.output.body.id, .input["a b"][0]) are evaluated natively on JSON text; everything else is jq source
 * for the sandbox. Pure; no libjq here. Rules: api.md "Expressions"; pitfalls P3. */
#pragma once
#include "common/base/json_text.h"

enum expr_place {
    EXPR_WHOLE,   /* the string is exactly this expression: the value replaces it with its type */
    EXPR_IN_TEXT, /* interpolation: null is empty, strings as they are, other values as JSON text */
    EXPR_IN_URL,  /* the same, then percent-encoded */
};

struct expr_path_part {
    struct str key;
    int64_t index;
    bool is_index;
};

struct expr {
    struct str source;  /* jq text between the braces, trimmed */
    struct str pointer; /* JSON Pointer of the string that holds it, relative to the template's root */
    enum expr_place place;
    bool native; /* a plain path: `parts` says it all */
    size_t part_count;
    struct expr_path_part *parts; /* of the whole path: "steps" "charge" "output" ... */
    size_t step_count;            /* steps it reads by literal path, each once */
    struct str *steps;
    bool all_steps; /* uses .steps as a whole, or in a way that does not show which */
    bool uses_input, uses_trigger, uses_item, uses_output, uses_event;
    bool secret; /* ${ .secrets.NAME } as a whole string: left in place, resolved where it is used */
    struct str secret_name;
};

struct template_chunk {
    struct str literal;
    int expr; /* index into exprs, -1 when only literal */
};

struct template
{
    struct str source; /* the JSON value as written */
    bool constant;     /* no holes but secrets: rendered text is `literal` */
    struct str literal;
    size_t expr_count;
    struct expr *exprs;
    size_t chunk_count;
    struct template_chunk *chunks; /* in order: literal, then the value of the hole */
};

struct template_options {
    bool secrets_allowed; /* below the members "headers" and "auth" of the root object, nowhere else */
    bool url_at_root_url; /* interpolation under the member "url" of the root object is percent-encoded */
    const char *root;     /* JSON Pointer of what they mean by the root object; NULL: the template's own root */
};

/* Called once per fault: code ("bad_expression", ...), JSON Pointer relative to the template's root, message, hint. */
typedef void (*expr_fault_fn)(void *ctx, const char *code, struct str pointer, const char *message, const char *hint);

/* Compiles checked JSON. All memory is the arena's; `value` must live as long. Reports faults it can see without a jq
 * parser: unclosed ${, words that jq_refs.c refuses (clock readers, input, the environment, modules, debug, halt),
 * expressions over 16 KiB, secrets where they are not allowed. False when there was any. */
bool template_compile(struct arena *arena, struct str value, const struct template_options *options,
                      expr_fault_fn fault, void *ctx, struct template *ret);
/* Is it exactly one whole expression, as `when` and `if` want it? */
bool template_is_expression(const struct template *t);

/* What a document says of a step, as JSON text; STR_NONE reads as null. */
struct expr_step {
    struct str status, branch, output, error;
    struct str failed; /* of loops: the indexes of items that failed; other steps have no such member */
};

/* What an expression may read. Step lookups go through a callback, so that only what is read is brought in. Numbers
 * that a plain path hands over keep their digits; of equal keys in one object the last counts, as in jq. */
struct expr_doc {
    struct str trigger, input, item, run; /* JSON text; STR_NONE reads as null */
    struct str output; /* a poll's answer, for `until`; elsewhere STR_NONE: there is no such member */
    struct str event;  /* the event that is looked at, for filters; elsewhere STR_NONE: there is no such member */
    int64_t index;     /* -1: null */
    /* Fills *ret, which is empty, with what there is of step `name`. False: the body is not here yet (the caller brings
     * it and tries again). */
    bool (*step)(void *ctx, struct str name, struct expr_step *ret);
    /* Names of the steps that .steps as a whole holds (the ancestors), 0 and up; false behind the last. NULL: none. */
    bool (*step_name)(void *ctx, size_t index, struct str *ret);
    void *ctx;
};

enum expr_status { EXPR_OK, EXPR_NOT_HERE, EXPR_FAILED };

/* Evaluates a native expression: *ret is JSON text (a slice, or memory of the arena). EXPR_FAILED with the message that
 * jq gives (indexing a number with a string and so on). */
enum expr_status expr_eval_native(const struct expr *expr, const struct expr_doc *doc, struct arena *arena,
                                  struct str *ret, struct err *err);
/* The document a sandboxed expression gets: only what it reads. EXPR_FAILED with ERR_TOO_LARGE beyond max_bytes. */
enum expr_status expr_document(const struct expr *expr, const struct expr_doc *doc, size_t max_bytes, struct buf *out,
                               struct err *err);
/* ^[A-Za-z_][A-Za-z0-9_]{0,62}$: the names that secrets can have. */
bool expr_secret_name_is_valid(struct str name);

/* Puts values (JSON text, one per expr, in order; those of secrets are not looked at) into the holes. ERR_TOO_LARGE
 * beyond out->max. Whether text would break a header or URL is the caller's to check. */
enum err_code template_render(const struct template *t, const struct str *values, struct arena *arena, struct buf *out,
                              struct err *err) MUST_CHECK;
