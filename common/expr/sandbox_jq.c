/* libjq is met here and nowhere else. Its calls eat their argument; readers such as jv_string_value do not. */
#include "common/base/map.h"
#include "common/expr/sandbox_child.h"
#include "common/expr/sandbox_wire.h"
#include <jq.h>
#include <jv.h>

#include "common/base/banned.h"

/* Compiled programs that are kept; one takes about 100 KiB. */
#define PROGRAMS_MAX 256

struct program {
    struct program *newer, *older; /* by last use */
    struct buf key;
    jq_state *jq;
};

struct sandbox_jq {
    struct map *programs;
    struct program *newest, *oldest;
    size_t count;
    struct buf key;     /* organisation and source */
    struct buf message; /* of the compiler, its first */
};

struct sandbox_jq *sandbox_jq_new(void)
{
    struct sandbox_jq *s = mem_alloc(sizeof(*s));

    s->programs = map_new();
    buf_init(&s->key, SANDBOX_FRAME_MAX);
    buf_init(&s->message, 4096);
    return s;
}

/* --- messages --- */

static void cut_at(struct str *text, const char *mark)
{
    const char *at = memmem(text->ptr, text->len, mark, strlen(mark));

    if (at != NULL)
        text->len = (size_t)(at - text->ptr);
}

/* "jq: error: syntax error, unexpected '}' (Unix shell quoting issues?) at <top-level>, line 1:\n.a }" and the like. */
static void on_compile_message(void *data, jv message)
{
    struct sandbox_jq *s = data;
    struct str text = {jv_string_value(message), (size_t)jv_string_length_bytes(jv_copy(message))};

    if (s->message.len == 0) {
        if (str_starts(text, "jq: error: "))
            text = (struct str){text.ptr + 11, text.len - 11};
        cut_at(&text, " (Unix shell quoting");
        cut_at(&text, " at <top-level>");
        cut_at(&text, "\n");
        buf_append_str(&s->message, utf8_prefix(text, SANDBOX_MESSAGE_MAX));
    }
    jv_free(message);
}

/* The message of an error value: a string as it is, anything else as JSON. */
static void append_error(struct buf *out, jv invalid)
{
    jv message = jv_invalid_get_msg(invalid);

    if (jv_get_kind(message) != JV_KIND_STRING)
        message = jv_dump_string(message, 0);
    buf_append_str(out,
                   utf8_prefix((struct str){jv_string_value(message), (size_t)jv_string_length_bytes(jv_copy(message))},
                               SANDBOX_MESSAGE_MAX));
    jv_free(message);
}

/* --- compiled programs --- */

static void on_debug(void *data, jv message)
{
    (void)data;
    jv_free(message);
}

static jv on_input(jq_state *jq, void *data)
{
    (void)jq;
    (void)data;
    return jv_invalid();
}

/* Words that reach outside are refused when a document is saved. Should one come here all the same, it finds nothing,
 * instead of a callback that is missing. */
static void close_doors(jq_state *jq)
{
    jq_set_debug_cb(jq, on_debug, NULL);
    jq_set_input_cb(jq, on_input, NULL);
    jq_set_attr(jq, jv_string("JQ_LIBRARY_PATH"), jv_array());
    jq_set_attr(jq, jv_string("JQ_ORIGIN"), jv_string("/"));
    jq_set_attr(jq, jv_string("PROGRAM_ORIGIN"), jv_string("/"));
}

static jq_state *compile(struct sandbox_jq *s, struct str source)
{
    char *text = mem_dup(source.ptr, source.len);
    jq_state *jq = jq_init();

    buf_reset(&s->message);
    if (jq != NULL) {
        jq_set_error_cb(jq, on_compile_message, s);
        close_doors(jq);
        if (jq_compile(jq, text) == 0)
            jq_teardown(&jq); /* and sets it to NULL */
    }
    mem_free(text);
    return jq;
}

static void unlink_program(struct sandbox_jq *s, struct program *p)
{
    *(p->newer == NULL ? &s->newest : &p->newer->older) = p->older;
    *(p->older == NULL ? &s->oldest : &p->older->newer) = p->newer;
    p->newer = p->older = NULL;
}

static void link_newest(struct sandbox_jq *s, struct program *p)
{
    p->older = s->newest;
    *(s->newest == NULL ? &s->oldest : &s->newest->newer) = p;
    s->newest = p;
}

static void drop_oldest(struct sandbox_jq *s)
{
    struct program *p = s->oldest;

    unlink_program(s, p);
    map_del(s->programs, buf_str(&p->key));
    s->count--;
    jq_teardown(&p->jq);
    buf_deinit(&p->key);
    mem_free(p);
}

/* The organisation is in the key, so that nothing of one is left to be noticed by another. */
static struct program *find_program(struct sandbox_jq *s, int32_t organisation, struct str source)
{
    struct program *p;
    jq_state *jq;

    buf_reset(&s->key);
    buf_append(&s->key, &organisation, sizeof(organisation));
    buf_append_str(&s->key, source);
    p = map_get(s->programs, buf_str(&s->key));
    if (p == NULL) {
        jq = compile(s, source);
        if (jq == NULL)
            return NULL;
        if (s->count == PROGRAMS_MAX)
            drop_oldest(s);
        p = mem_alloc(sizeof(*p));
        p->jq = jq;
        buf_init(&p->key, SANDBOX_FRAME_MAX);
        buf_append_str(&p->key, buf_str(&s->key));
        (void)map_put(s->programs, buf_str(&p->key), p);
        s->count++;
    } else {
        unlink_program(s, p);
    }
    link_newest(s, p);
    return p;
}

/* --- evaluating --- */

static enum sandbox_status failed(struct buf *out, const char *message)
{
    buf_append_str(out, str_of(message));
    return SANDBOX_FAILED;
}

static enum sandbox_status print_value(jv value, size_t output_max, struct buf *out)
{
    jv text = jv_dump_string(value, 0);
    size_t len = (size_t)jv_string_length_bytes(jv_copy(text));
    enum sandbox_status status = SANDBOX_OK;

    if (len > output_max) {
        buf_printf(out, "the value has %zu bytes, %zu are allowed", len, output_max);
        status = SANDBOX_FAILED;
    } else {
        buf_append(out, jv_string_value(text), len);
    }
    jv_free(text);
    return status;
}

/* The program has been started; takes its first value and makes sure that nothing follows. */
static enum sandbox_status one_value(jq_state *jq, size_t output_max, struct buf *out)
{
    jv value = jq_next(jq);
    jv next;

    if (!jv_is_valid(value)) {
        if (!jv_invalid_has_msg(jv_copy(value))) {
            jv_free(value);
            return failed(out, "the expression gives no value");
        }
        append_error(out, value);
        return SANDBOX_FAILED;
    }
    next = jq_next(jq);
    if (jv_is_valid(next) || jv_invalid_has_msg(jv_copy(next))) {
        jv_free(value);
        if (jv_is_valid(next)) {
            jv_free(next);
            return failed(out, "the expression gives more than one value; [ ... ] makes them a list");
        }
        append_error(out, next);
        return SANDBOX_FAILED;
    }
    jv_free(next);
    return print_value(value, output_max, out);
}

enum sandbox_status sandbox_jq_eval(struct sandbox_jq *s, int32_t organisation, struct str source, struct str document,
                                    size_t output_max, struct buf *out)
{
    struct program *program = find_program(s, organisation, source);
    enum sandbox_status status;
    jv input;

    if (program == NULL) {
        buf_append_str(out, buf_str(&s->message));
        return SANDBOX_BAD_PROGRAM;
    }
    if (document.len > INT32_MAX)
        return failed(out, "the document is too large");
    input = jv_parse_sized(document.ptr, (int)document.len);
    if (!jv_is_valid(input)) {
        jv_free(input);
        return failed(out, "the document is nested too deeply");
    }
    jq_start(program->jq, input, 0);
    status = one_value(program->jq, output_max, out);
    jq_start(program->jq, jv_null(), 0); /* lets go of everything the last run held */
    return status;
}

enum sandbox_status sandbox_jq_check(struct sandbox_jq *s, struct str source, struct buf *out)
{
    jq_state *jq = compile(s, source);

    if (jq == NULL) {
        buf_append_str(out, buf_str(&s->message));
        return SANDBOX_BAD_PROGRAM;
    }
    jq_teardown(&jq);
    return SANDBOX_OK;
}
