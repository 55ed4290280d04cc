/* Compiling a schema: each subschema becomes a node; nodes that are still to be read wait in a queue, so that neither
 * depth nor references make this recurse. What the keywords mean is in keywords.c. */
#include "common/schema/compile.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

#define MAX_TEXT_BYTES (128 * 1024)
#define MAX_NODES 4096
#define MAX_REFS 500
#define MAX_IN_PLACE 64

void *pool_add(struct schema_compiler *c, struct pool *pool, size_t size, size_t count)
{
    void *added;

    if (pool->ptr == NULL || pool->count + count > pool->cap) {
        size_t cap = (pool->count + count) * 2 + 16;
        char *grown = arena_array(c->arena, cap, size);

        if (pool->ptr != NULL)
            memcpy(grown, pool->ptr, pool->count * size);
        pool->ptr = grown;
        pool->cap = cap;
    }
    added = (char *)pool->ptr + pool->count * size;
    pool->count += count;
    return added;
}

static void pointer_of(const struct schema_compiler *c, uint32_t node, struct buf *out)
{
    const struct pending *at;

    ENSURE(c->pending.ptr != NULL);
    at = &((const struct pending *)c->pending.ptr)[node];
    if (at->keyword == NULL) {
        buf_append_str(out, at->pointer);
        return;
    }
    pointer_of(c, at->parent, out);
    jt_pointer_add(out, str_of(at->keyword));
    if (at->key.ptr != NULL)
        jt_pointer_add(out, at->key);
    else if (at->index != SIZE_MAX)
        buf_printf(out, "/%zu", at->index);
}

void compile_fault(struct schema_compiler *c, const char *keyword, const char *code, const char *message,
                   const char *hint)
{
    CLEANUP(buf_deinit) struct buf pointer = {0};

    c->faults++;
    if (c->fault == NULL || c->faults > 1000)
        return;
    buf_init(&pointer, 1 << 20);
    pointer_of(c, c->node, &pointer);
    if (keyword != NULL)
        jt_pointer_add(&pointer, str_of(keyword));
    c->fault(c->ctx, code, buf_str(&pointer).ptr == NULL ? STR("") : buf_str(&pointer), message, hint);
}

/* The node of the subschema `value`; queued when it is new. */
static uint32_t queue_node(struct schema_compiler *c, struct str value, struct pending pending)
{
    struct str address = {(const char *)&value.ptr, sizeof(value.ptr)};
    uintptr_t known = (uintptr_t)map_get(c->known, address);
    struct schema_node *node;
    struct pending *slot;

    if (known != 0)
        return (uint32_t)(known - 1);
    if (c->nodes.count >= MAX_NODES) {
        if (!c->too_many)
            compile_fault(c, pending.keyword, "out_of_range", "the schema has more than 4096 subschemas", "");
        c->too_many = true;
        return 0;
    }
    node = pool_add(c, &c->nodes, sizeof(*node), 1);
    *node = (struct schema_node){
        .types = SCHEMA_ANY,
        .ref = SCHEMA_NO,
        .max_length = UINT32_MAX,
        .pattern = SCHEMA_NO,
        .minimum = SCHEMA_NO,
        .maximum = SCHEMA_NO,
        .above = SCHEMA_NO,
        .below = SCHEMA_NO,
        .multiple_of = SCHEMA_NO,
        .max_items = UINT32_MAX,
        .items = SCHEMA_NO,
        .contains = SCHEMA_NO,
        .min_contains = 1,
        .max_contains = UINT32_MAX,
        .max_properties = UINT32_MAX,
        .additional = SCHEMA_NO,
        .names = SCHEMA_NO,
        .not_ = SCHEMA_NO,
        .if_ = SCHEMA_NO,
        .then_ = SCHEMA_NO,
        .else_ = SCHEMA_NO,
        .code = SCHEMA_NO,
        .hint = SCHEMA_NO,
        .max_bytes = UINT32_MAX,
    };
    slot = pool_add(c, &c->pending, sizeof(*slot), 1);
    *slot = pending;
    slot->value = value;
    /* The map holds no NULL: indexes are kept one higher. */
    (void)map_put(c->known, address, (void *)(uintptr_t)c->nodes.count); // NOLINT(performance-no-int-to-ptr)
    return (uint32_t)(c->nodes.count - 1);
}

uint32_t compile_child(struct schema_compiler *c, struct str value, const char *keyword, struct str key, size_t index)
{
    struct pending pending = {.parent = c->node, .keyword = keyword, .key = key, .index = index};

    return queue_node(c, str_trim(value), pending);
}

static int hex_digit(char c)
{
    char lower = (char)(c | 0x20);

    if (c >= '0' && c <= '9')
        return c - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Decodes one part of a JSON Pointer: ~1 and ~0, and %XX before (it came in a URI fragment). */
static struct str pointer_part(struct arena *arena, struct str raw)
{
    size_t len = 0;
    char *out;

    if (raw.ptr == NULL)
        raw = STR("");
    out = arena_dup(arena, raw.ptr, raw.len);
    for (size_t i = 0; i < raw.len; i++) {
        bool escape = raw.ptr[i] == '%' && raw.len - i > 2;
        int high = escape ? hex_digit(raw.ptr[i + 1]) : -1;
        int low = escape ? hex_digit(raw.ptr[i + 2]) : -1;

        if (high >= 0 && low >= 0) {
            out[len++] = (char)(high * 16 + low);
            i += 2;
        } else {
            out[len++] = raw.ptr[i];
        }
    }
    raw = (struct str){out, len};
    len = 0;
    for (size_t i = 0; i < raw.len; i++) {
        bool escape = raw.ptr[i] == '~' && i + 1 < raw.len && (raw.ptr[i + 1] == '0' || raw.ptr[i + 1] == '1');

        out[len++] = !escape ? raw.ptr[i] : raw.ptr[i + 1] == '0' ? '~' : '/';
        i += escape ? 1 : 0;
    }
    return (struct str){out, len};
}

/* What the fragment "/a/0/b" names within the text, STR_NONE when nothing. */
static struct str find_pointer(struct schema_compiler *c, struct str pointer)
{
    struct str at = c->text;
    struct str rest = pointer;

    if (pointer.len == 0)
        return at;
    ENSURE(pointer.ptr != NULL);
    if (pointer.ptr[0] != '/')
        return STR_NONE;
    (void)str_cut(&rest, '/');
    for (bool more = true; more && at.ptr != NULL;) {
        struct str part;
        uint32_t index;

        more = rest.ptr != NULL && memchr(rest.ptr, '/', rest.len) != NULL;
        part = pointer_part(c->arena, more ? str_cut(&rest, '/') : rest);
        if (jt_type(at) == JT_ARRAY)
            at = parse_u32(part, 0, UINT32_MAX, &index) ? jt_at(at, index) : STR_NONE;
        else
            at = jt_get_str(at, part);
    }
    return at;
}

void compile_ref(struct schema_compiler *c, struct str value)
{
    struct str ref, target;
    uint32_t node;

    if (!jt_string(value, c->arena, &ref)) {
        compile_fault(c, "$ref", "wrong_type", "must be a string", "");
        return;
    }
    if (ref.len == 0 || ref.ptr[0] != '#' || (ref.len > 1 && ref.ptr[1] != '/')) {
        compile_fault(c, "$ref", "not_available", "only references into the same schema by pointer are supported",
                      "\"#/$defs/name\"");
        return;
    }
    ref = (struct str){ref.ptr + 1, ref.len - 1};
    if (++c->refs > MAX_REFS && map_get(c->ref_texts, ref) == NULL) {
        compile_fault(c, "$ref", "out_of_range", "the schema has too many references", "");
        return;
    }
    node = (uint32_t)(uintptr_t)map_get(c->ref_texts, ref);
    if (node == 0) {
        target = str_trim(find_pointer(c, ref));
        if (target.ptr == NULL) {
            compile_fault(c, "$ref", "out_of_range", "names nothing in this schema", "");
            return;
        }
        node = queue_node(c, target, (struct pending){.pointer = ref, .index = SIZE_MAX}) + 1;
        (void)map_put(c->ref_texts, ref, (void *)(uintptr_t)node); // NOLINT(performance-no-int-to-ptr)
    }
    ((struct schema_node *)c->nodes.ptr)[c->node].ref = node - 1;
}

/* The longest way through references and combinations that look at the same value; a way without end would make the
 * check run for ever, a long one deep. */
static unsigned in_place_height(struct schema_compiler *c, uint32_t index, uint8_t *heights, unsigned depth)
{
    enum { ON_THE_WAY = 255 };
    const struct schema_node *node = &((const struct schema_node *)c->nodes.ptr)[index];
    const uint32_t *lists = c->lists.ptr;
    const struct schema_edge *edges = c->edges.ptr;
    const uint32_t single[] = {node->ref, node->not_, node->if_, node->then_, node->else_};
    const struct schema_range ranges[] = {node->all_of, node->any_of, node->one_of};
    unsigned height = 0;

    if (heights[index] == ON_THE_WAY || depth > MAX_IN_PLACE) {
        c->node = index;
        if (!c->endless)
            compile_fault(c, NULL, depth > MAX_IN_PLACE ? "too_deep" : "cycle",
                          depth > MAX_IN_PLACE ? "too many references and combinations inside each other"
                                               : "refers to itself without looking into the value",
                          "");
        c->endless = true;
        return 0;
    }
    if (heights[index] != 0)
        return heights[index];
    heights[index] = ON_THE_WAY;
#define VISIT(child)                                                                                                   \
    do {                                                                                                               \
        unsigned h = c->endless ? 0 : in_place_height(c, (child), heights, depth + 1);                                 \
        height = h > height ? h : height;                                                                              \
    } while (0)
    for (size_t i = 0; i < sizeof(single) / sizeof(single[0]); i++) {
        if (single[i] != SCHEMA_NO)
            VISIT(single[i]);
    }
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        for (uint32_t k = 0; k < ranges[i].count; k++)
            VISIT(lists[ranges[i].first + k]);
    }
    for (uint32_t k = 0; k < node->dependent_schemas.count; k++)
        VISIT(edges[node->dependent_schemas.first + k].node);
#undef VISIT
    heights[index] = (uint8_t)(height + 1 < ON_THE_WAY ? height + 1 : ON_THE_WAY - 1);
    return heights[index];
}

static void check_in_place(struct schema_compiler *c)
{
    uint8_t *heights = arena_alloc(c->arena, c->nodes.count);

    for (size_t i = 0; i < c->nodes.count && !c->endless; i++) {
        if (in_place_height(c, (uint32_t)i, heights, 0) > MAX_IN_PLACE && !c->endless) {
            c->node = (uint32_t)i;
            compile_fault(c, NULL, "too_deep", "too many references and combinations inside each other", "");
            return;
        }
    }
}

static const struct schema *finish(struct schema_compiler *c)
{
    struct schema *schema = arena_alloc(c->arena, sizeof(*schema));

    *schema = (struct schema){
        .name = c->options.name,
        .own_keywords = c->options.own_keywords,
        .nodes = c->nodes.ptr,
        .node_count = (uint32_t)c->nodes.count,
        .properties = c->properties.ptr,
        .property_count = (uint32_t)c->properties.count,
        .edges = c->edges.ptr,
        .edge_count = (uint32_t)c->edges.count,
        .dependents = c->dependents.ptr,
        .dependent_count = (uint32_t)c->dependents.count,
        .lists = c->lists.ptr,
        .list_count = (uint32_t)c->lists.count,
        .texts = c->texts.ptr,
        .text_count = (uint32_t)c->texts.count,
        .patterns = c->patterns.ptr,
        .pattern_count = (uint32_t)c->patterns.count,
    };
    return schema;
}

const struct schema *schema_compile(struct arena *arena, struct str json, const struct schema_options *options,
                                    schema_fault_fn fault, void *ctx)
{
    struct schema_compiler c = {.arena = arena, .fault = fault, .ctx = ctx};
    struct str root;

    if (options != NULL)
        c.options = *options;
    c.text = str_trim(str_arena(arena, json));
    c.known = map_new();
    c.ref_texts = map_new();
    root = c.text;
    if (c.options.subpath != NULL)
        root = str_trim(find_pointer(&c, str_of(c.options.subpath)));
    ENSURE(root.ptr != NULL);
    (void)queue_node(
        &c, root,
        (struct pending){.pointer = str_of(c.options.subpath == NULL ? "" : c.options.subpath), .index = SIZE_MAX});
    if (json.len > MAX_TEXT_BYTES)
        compile_fault(&c, NULL, "out_of_range", "the schema is longer than 128 KiB", "");
    for (size_t i = 0; i < c.nodes.count && json.len <= MAX_TEXT_BYTES; i++) {
        c.node = (uint32_t)i;
        compile_node(&c, ((struct pending *)c.pending.ptr)[i].value);
    }
    if (c.faults == 0)
        check_in_place(&c);
    map_free(c.known);
    map_free(c.ref_texts);
    return c.faults == 0 ? finish(&c) : NULL;
}
