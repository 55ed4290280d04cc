/* The walk: one value against one node. Objects, arrays and combinations have files of their own. */
#include "common/schema/check.h"
#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/schema/value.h"

#include "common/base/banned.h"

#define MAX_DEPTH 1500 /* of calls: JSON depth times combinations */
#define MAX_FAULTS 1000
#define VALUE_COST 4 /* looking at a value, where matching a character is 1 */

struct arena *walk_arena(struct walk *w)
{
    if (w->arena == NULL)
        w->arena = arena_new(4096);
    return w->arena;
}

const char *walk_hint(struct walk *w, struct str hint)
{
    return hint.ptr == NULL ? "" : arena_dup(walk_arena(w), hint.ptr, hint.len);
}

struct str walk_string(struct walk *w, struct str value)
{
    struct str text = STR("");

    if (value.len >= 2 && memchr(value.ptr, '\\', value.len) == NULL)
        return (struct str){value.ptr + 1, value.len - 2};
    w->budget -= (int64_t)value.len;
    if (w->budget <= 0)
        w->spent = true;
    else if (!jt_string(value, walk_arena(w), &text))
        text = STR("");
    return text;
}

/* Has this fault been told? Combinations may come to it by several ways. */
static bool told(struct walk *w, const char *code, struct str pointer)
{
    CLEANUP(buf_deinit) struct buf key;
    static char mark;

    if (w->reported == NULL)
        w->reported = map_new();
    buf_init(&key, pointer.len + 64);
    buf_append_str(&key, str_of(code));
    buf_append_str(&key, pointer);
    return map_put(w->reported, buf_str(&key), &mark) != NULL;
}

bool walk_fault(struct walk *w, const struct schema_place *place, const char *code, const char *hint,
                const char *format, ...)
{
    CLEANUP(buf_deinit) struct buf pointer = {0};
    struct str where;
    char message[512];
    va_list args;

    if (w->probing || w->faults >= MAX_FAULTS)
        return false;
    buf_init(&pointer, 1 << 20);
    schema_place_pointer(place, walk_arena(w), &pointer);
    where = pointer.len == 0 ? STR("") : buf_str(&pointer);
    if (told(w, code, where))
        return false;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    /* A cut may have split a character. */
    message[utf8_prefix(str_of(message), sizeof(message) - 1).len] = '\0';
    if (w->faults++ == 0)
        (void)err_set(w->err, ERR_INVALID, "%s: at '" STR_FMT "': %s", code, STR_ARG(utf8_prefix(where, 200)), message);
    if (w->fault != NULL)
        w->fault(w->ctx, code, where, message, hint);
    return false;
}

static uint8_t type_of(struct str value)
{
    switch (jt_type(value)) {
    case JT_NULL:
        return SCHEMA_NULL;
    case JT_FALSE:
    case JT_TRUE:
        return SCHEMA_BOOLEAN;
    case JT_NUMBER:
        return number_is_integer(value) ? SCHEMA_INTEGER : SCHEMA_FRACTION;
    case JT_STRING:
        return SCHEMA_STRING;
    case JT_ARRAY:
        return SCHEMA_ARRAY;
    case JT_OBJECT:
        return SCHEMA_OBJECT;
    case JT_NONE:
        return 0;
    }
    return 0;
}

static bool wrong_type(struct walk *w, const struct schema_node *node, struct str value,
                       const struct schema_place *place)
{
    static const struct {
        uint8_t bits;
        const char *name;
    } names[] = {{SCHEMA_NULL, "null"},
                 {SCHEMA_BOOLEAN, "true or false"},
                 {SCHEMA_STRING, "a string"},
                 {SCHEMA_ARRAY, "an array"},
                 {SCHEMA_OBJECT, "an object"}};
    char wanted[128] = "";
    size_t len = 0;

    if (w->probing)
        return false;
    if (node->types == 0)
        return walk_fault(w, place, "unknown_field", "", "nothing is allowed here");
    if ((node->types & SCHEMA_NUMBER) != 0)
        len = (size_t)snprintf(wanted, sizeof(wanted), "%s",
                               node->types & SCHEMA_FRACTION ? "a number" : "a whole number");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if ((node->types & names[i].bits) != 0)
            len += (size_t)snprintf(wanted + len, sizeof(wanted) - len, "%s%s", len == 0 ? "" : " or ", names[i].name);
    }
    return walk_fault(w, place, "wrong_type", "", "must be %s, not %s", wanted,
                      jt_type(value) == JT_NUMBER ? "a number" : jt_type_name(jt_type(value)));
}

/* "a", "b", "c" of the values, as far as they are short. */
static const char *list_values(struct walk *w, const struct schema_node *node)
{
    char *list = arena_alloc(walk_arena(w), 320);
    size_t len = 0;

    for (uint32_t i = 0; i < node->values.count; i++) {
        struct str text = w->schema->texts[node->values.first + i];

        if (len + text.len + 8 > 300) {
            (void)snprintf(list + len, 320 - len, ", ...");
            break;
        }
        len += (size_t)snprintf(list + len, 320 - len, "%s" STR_FMT, len == 0 ? "" : ", ", STR_ARG(text));
    }
    return list;
}

static const char *closest_value(struct walk *w, const struct schema_node *node, struct str value)
{
    struct schema_closest closest;

    schema_closest_init(&closest, value);
    for (uint32_t i = 0; i < node->values.count; i++)
        schema_closest_try(&closest, w->schema->texts[node->values.first + i]);
    if (closest.best.ptr == NULL)
        return "";
    return arena_printf(walk_arena(w), "did you mean " STR_FMT "?", STR_ARG(closest.best));
}

static bool check_values(struct walk *w, const struct schema_node *node, struct str value,
                         const struct schema_place *place)
{
    bool is_string = jt_type(value) == JT_STRING;
    struct str decoded = is_string ? walk_string(w, value) : STR_NONE;

    for (uint32_t i = 0; i < node->values.count && !w->spent; i++) {
        struct str text = w->schema->texts[node->values.first + i];
        enum jt_type type = jt_type(text);

        if (is_string ? type == JT_STRING && str_eq(walk_string(w, text), decoded)
                      : type == jt_type(value) && value_equal(text, value, walk_arena(w)))
            return true;
        w->budget -= is_string ? 1 : (int64_t)(text.len + value.len) / 8;
        w->spent = w->spent || w->budget <= 0;
    }
    if (w->probing || w->spent)
        return false;
    if (node->values.count == 1)
        return walk_fault(w, place, "out_of_range", "", "must be %s", list_values(w, node));
    return walk_fault(w, place, "out_of_range", closest_value(w, node, value), "must be one of %s",
                      list_values(w, node));
}

static size_t code_points(struct str text)
{
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += ((uint8_t)text.ptr[i] & 0xc0) != 0x80 ? 1 : 0;
    return count;
}

static bool check_pattern(struct walk *w, const struct schema_node *node, struct str text,
                          const struct schema_place *place)
{
    const struct pattern *pattern = &w->schema->patterns[node->pattern];
    bool found = pattern_matches(pattern, text, &w->scratch, &w->budget);

    w->spent = w->spent || w->budget <= 0;
    if (found || w->spent)
        return found;
    if (w->probing)
        return false;
    return walk_fault(w, place, node->code == SCHEMA_NO ? "out_of_range" : walk_hint(w, w->schema->texts[node->code]),
                      node->hint == SCHEMA_NO ? "" : walk_hint(w, w->schema->texts[node->hint]),
                      "does not have the form " STR_FMT, STR_ARG(utf8_prefix(pattern->source, 200)));
}

static bool check_string(struct walk *w, const struct schema_node *node, struct str value,
                         const struct schema_place *place)
{
    bool ok = true;
    struct str text;
    int64_t duration;

    if (node->min_length == 0 && node->max_length == UINT32_MAX && node->pattern == SCHEMA_NO && node->flags == 0)
        return true;
    text = walk_string(w, value);
    if (w->spent)
        return false;
    /* The pattern beside it only tells other validators what a duration looks like. */
    if ((node->flags & SCHEMA_DURATION) != 0)
        return duration_parse(text, &duration) ||
               walk_fault(w, place, "bad_duration", "500ms 30s 5m 2h 1d, at most 366d", "is not a duration");
    /* A text of n bytes has n / 4 to n characters: counting is seldom needed. */
    if (node->min_length > 0 && text.len < (uint64_t)node->min_length * 4 && code_points(text) < node->min_length)
        ok =
            walk_fault(w, place, "out_of_range", "",
                       node->min_length == 1 ? "must not be empty" : "is shorter than %u characters", node->min_length);
    if (text.len > node->max_length && code_points(text) > node->max_length)
        ok = walk_fault(w, place, "out_of_range", "", "is longer than %u characters", node->max_length);
    if (ok && node->pattern != SCHEMA_NO)
        ok = check_pattern(w, node, text, place);
    return ok;
}

static bool check_number(struct walk *w, const struct schema_node *node, struct str value,
                         const struct schema_place *place)
{
    const struct str *texts = w->schema->texts;
    bool ok = true;

    w->budget -= (int64_t)value.len;
    if (node->minimum != SCHEMA_NO && number_cmp(value, texts[node->minimum]) < 0)
        ok = walk_fault(w, place, "out_of_range", "", "must be at least " STR_FMT, STR_ARG(texts[node->minimum]));
    if (node->maximum != SCHEMA_NO && number_cmp(value, texts[node->maximum]) > 0)
        ok = walk_fault(w, place, "out_of_range", "", "must be at most " STR_FMT, STR_ARG(texts[node->maximum]));
    if (node->above != SCHEMA_NO && number_cmp(value, texts[node->above]) <= 0)
        ok = walk_fault(w, place, "out_of_range", "", "must be more than " STR_FMT, STR_ARG(texts[node->above]));
    if (node->below != SCHEMA_NO && number_cmp(value, texts[node->below]) >= 0)
        ok = walk_fault(w, place, "out_of_range", "", "must be less than " STR_FMT, STR_ARG(texts[node->below]));
    if (node->multiple_of != SCHEMA_NO && !number_is_multiple(value, texts[node->multiple_of]))
        ok = walk_fault(w, place, "out_of_range", "", "must be a multiple of " STR_FMT,
                        STR_ARG(texts[node->multiple_of]));
    return ok;
}

static bool check_by_type(struct walk *w, const struct schema_node *node, struct str value, uint8_t type,
                          const struct schema_place *place, bool main_path)
{
    switch ((enum schema_type)type) {
    case SCHEMA_STRING:
        return check_string(w, node, value, place);
    case SCHEMA_INTEGER:
    case SCHEMA_FRACTION:
        return check_number(w, node, value, place);
    case SCHEMA_ARRAY:
        return walk_array(w, node, value, place, main_path);
    case SCHEMA_OBJECT:
        return walk_object(w, node, value, place, main_path);
    case SCHEMA_NULL:
    case SCHEMA_BOOLEAN:
    case SCHEMA_NUMBER:
    case SCHEMA_ANY:
        break;
    }
    return true;
}

bool walk_node(struct walk *w, uint32_t index, struct str value, const struct schema_place *place, bool main_path)
{
    const struct schema_node *node = &w->schema->nodes[index];
    uint8_t type = type_of(value);
    bool ok = true;

    w->budget -= VALUE_COST;
    w->spent = w->spent || w->budget <= 0 || w->depth >= MAX_DEPTH;
    if (w->spent)
        return false;
    if ((node->types & type) == 0)
        return wrong_type(w, node, value, place);
    if (node->max_bytes < value.len)
        return walk_fault(w, place, "out_of_range", "", "is longer than %u bytes", node->max_bytes);
    w->depth++;
    if (node->ref != SCHEMA_NO)
        ok = walk_node(w, node->ref, value, place, main_path);
    if (node->values.count > 0 && !walk_enough(w, ok))
        ok = check_values(w, node, value, place) && ok;
    if (!walk_enough(w, ok))
        ok = check_by_type(w, node, value, type, place, main_path) && ok;
    if (!walk_enough(w, ok))
        ok = walk_combinations(w, node, value, place) && ok;
    w->depth--;
    return ok;
}

static enum err_code run_walk(struct walk *w, struct str json)
{
    struct schema_members members;
    struct schema_place root = {.members = &members, .key = STR_NONE};
    bool ok;

    members.of = NULL;
    ok = walk_node(w, 0, str_trim(json), &root, true);
    arena_cleanup(&w->arena);
    map_free(w->reported);
    pattern_scratch_deinit(&w->scratch);
    if (w->spent || w->budget <= 0)
        return err_set(w->err, ERR_TOO_LARGE, "checking it against its schema takes too long");
    return ok ? ERR_OK : ERR_INVALID;
}

enum err_code schema_check(const struct schema *schema, struct str json, schema_fault_fn fault, void *ctx,
                           struct err *err)
{
    struct walk w = {.schema = schema, .fault = fault, .ctx = ctx, .err = err, .budget = SCHEMA_BUDGET};

    w.decoding = false;
    return run_walk(&w, json);
}

enum err_code schema_decode(const struct schema *schema, struct str json, struct str *fields, struct err *err)
{
    struct walk w = {.schema = schema, .err = err, .budget = SCHEMA_BUDGET, .decoding = true, .fields = fields};
    enum err_code rc;

    for (size_t i = 0; i < schema_field_count(schema); i++)
        fields[i] = STR_NONE;
    rc = run_walk(&w, json);
    if (w.unknown > 0)
        metric_add(METRIC_MESSAGES_UNKNOWN_FIELDS, w.unknown);
    return rc;
}

static void put_slice(const struct schema *schema, struct str name, struct str value, struct str *fields)
{
    for (size_t i = 0; i < schema_field_count(schema); i++) {
        if (fields[i].ptr == NULL && str_eq(schema_field_name(schema, i), name)) {
            fields[i] = value;
            return;
        }
    }
}

void schema_slices(const struct schema *schema, struct str json, struct str *fields)
{
    struct arena *arena = NULL;
    struct str object = str_trim(json);
    struct jt_iter it;

    for (size_t i = 0; i < schema_field_count(schema); i++)
        fields[i] = STR_NONE;
    if (jt_type(object) != JT_OBJECT)
        return;
    for (jt_iter_init(&it, object); jt_next(&it);) {
        if (jt_type(it.value) == JT_NULL)
            continue;
        if (it.key_escaped && arena == NULL)
            arena = arena_new(256);
        put_slice(schema, jt_key(&it, arena), it.value, fields);
    }
    arena_cleanup(&arena);
}

size_t schema_field_count(const struct schema *schema)
{
    return schema->nodes[0].properties.count;
}

const char *schema_name(const struct schema *schema)
{
    return schema->name == NULL ? "" : schema->name;
}

struct str schema_field_name(const struct schema *schema, size_t index)
{
    return schema->properties[schema->nodes[0].properties.first + index].name;
}
