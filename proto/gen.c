/* Built first and run by the build: compiles the schemas of this folder to constant tables, with the same compiler that
 * serves workflows' own schemas at run time.
 *
 *   rw_proto_gen tables OUT_BASE NAME.v1.json...    OUT_BASE.h and OUT_BASE.c: SCHEMA_NAME and enum of its fields;
 *                                                   the same for its $defs with "x-table": true
 *   rw_proto_gen embed OUT.c SYMBOL FILE INCLUDED   `const struct str SYMBOL`: the file's bytes                    */
#include "common/base/ensure.h"
#include "common/schema/schema_internal.h"
#include <ctype.h>
#include <errno.h>

#include "common/base/banned.h"

#define MAX_FILE_BYTES ((size_t)4 << 20)

struct out {
    FILE *h, *c;
};

__attribute__((noreturn)) static void die(const char *file, const char *what)
{
    fprintf(stderr, "rw_proto_gen: %s: %s\n", file, what);
    exit(1);
}

static struct str read_file(struct arena *arena, const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = arena_alloc(arena, MAX_FILE_BYTES + 1);
    size_t len;

    if (file == NULL)
        die(path, strerror(errno));
    len = fread(text, 1, MAX_FILE_BYTES + 1, file);
    if (ferror(file) || len > MAX_FILE_BYTES)
        die(path, "cannot be read, or is longer than 4 MiB");
    (void)fclose(file);
    return (struct str){text, len};
}

static FILE *open_out(struct arena *arena, const char *base, const char *ending)
{
    const char *path = arena_printf(arena, "%s%s", base, ending);
    FILE *file = fopen(path, "wb");

    if (file == NULL)
        die(path, strerror(errno));
    return file;
}

static void close_out(FILE *file, const char *name)
{
    if (ferror(file) || fclose(file) != 0)
        die(name, "could not be written");
}

/* A C string literal; bytes beyond ASCII in octal, trigraphs impossible. */
static void put_literal(FILE *file, struct str s)
{
    (void)fputc('"', file);
    for (size_t i = 0; i < s.len; i++) {
        unsigned char ch = (unsigned char)s.ptr[i];

        if (ch < 0x20 || ch >= 0x7f || ch == '"' || ch == '\\' || ch == '?')
            fprintf(file, "\\%03o", ch);
        else
            (void)fputc(ch, file);
    }
    (void)fputc('"', file);
}

static void put_str(FILE *file, struct str s)
{
    (void)fputs("{", file);
    put_literal(file, s);
    fprintf(file, ", %zu}", s.len);
}

/* "with_http" to "WITH_HTTP"; what is no letter or digit becomes an underscore. */
static char *upper(struct arena *arena, struct str name)
{
    char *out = arena_dup(arena, name.ptr, name.len);

    for (size_t i = 0; i < name.len; i++)
        out[i] = isalnum((unsigned char)out[i]) ? (char)toupper((unsigned char)out[i]) : '_';
    return out;
}

static void put_range(FILE *file, const char *name, struct schema_range range)
{
    if (range.count > 0)
        fprintf(file, ", .%s = {%u, %u}", name, range.first, range.count);
}

/* Every field but those that are what {0} would be. */
static void put_node(FILE *file, const struct schema_node *n)
{
    fprintf(file, "    {.types = %u, .flags = %u, .ref = %uu", n->types, n->flags, n->ref);
    fprintf(file, ", .min_length = %u, .max_length = %uu, .pattern = %uu", n->min_length, n->max_length, n->pattern);
    fprintf(file, ", .minimum = %uu, .maximum = %uu, .above = %uu, .below = %uu, .multiple_of = %uu", n->minimum,
            n->maximum, n->above, n->below, n->multiple_of);
    fprintf(file,
            ",\n     .min_items = %u, .max_items = %uu, .items = %uu, .contains = %uu, .min_contains = %u, "
            ".max_contains = %uu",
            n->min_items, n->max_items, n->items, n->contains, n->min_contains, n->max_contains);
    fprintf(file, ",\n     .min_properties = %u, .max_properties = %uu, .additional = %uu, .names = %uu",
            n->min_properties, n->max_properties, n->additional, n->names);
    fprintf(file, ", .not_ = %uu, .if_ = %uu, .then_ = %uu, .else_ = %uu", n->not_, n->if_, n->then_, n->else_);
    fprintf(file, ",\n     .code = %uu, .hint = %uu, .max_bytes = %uu", n->code, n->hint, n->max_bytes);
    put_range(file, "values", n->values);
    put_range(file, "prefix", n->prefix);
    put_range(file, "properties", n->properties);
    put_range(file, "required", n->required);
    put_range(file, "pattern_properties", n->pattern_properties);
    put_range(file, "dependent_required", n->dependent_required);
    put_range(file, "dependent_schemas", n->dependent_schemas);
    put_range(file, "all_of", n->all_of);
    put_range(file, "any_of", n->any_of);
    put_range(file, "one_of", n->one_of);
    (void)fputs("},\n", file);
}

static void put_patterns(FILE *file, const char *name, const struct schema *s)
{
    for (uint32_t i = 0; i < s->pattern_count; i++) {
        const struct pattern *p = &s->patterns[i];

        fprintf(file, "static const struct pattern_inst %s_insts_%u[] = {", name, i);
        for (uint32_t k = 0; k < p->inst_count; k++)
            fprintf(file, "{%u, %s, %uu, %uu},", p->insts[k].op, p->insts[k].negated ? "true" : "false", p->insts[k].a,
                    p->insts[k].b);
        (void)fputs("};\n", file);
        if (p->range_count == 0)
            continue;
        fprintf(file, "static const struct pattern_range %s_ranges_%u[] = {", name, i);
        for (uint32_t k = 0; k < p->range_count; k++)
            fprintf(file, "{%uu, %uu},", p->ranges[k].low, p->ranges[k].high);
        (void)fputs("};\n", file);
    }
    if (s->pattern_count == 0)
        return;
    fprintf(file, "static const struct pattern %s_patterns[] = {\n", name);
    for (uint32_t i = 0; i < s->pattern_count; i++) {
        const struct pattern *p = &s->patterns[i];

        (void)fputs("    {", file);
        put_str(file, p->source);
        fprintf(file, ", %s_insts_%u, %u, ", name, i, p->inst_count);
        if (p->range_count == 0)
            (void)fputs("NULL, 0},\n", file);
        else
            fprintf(file, "%s_ranges_%u, %u},\n", name, i, p->range_count);
    }
    (void)fputs("};\n", file);
}

static void put_pools(FILE *file, const char *name, const struct schema *s)
{
    fprintf(file, "static const struct schema_node %s_nodes[] = {\n", name);
    for (uint32_t i = 0; i < s->node_count; i++)
        put_node(file, &s->nodes[i]);
    (void)fputs("};\n", file);
    if (s->property_count > 0) {
        fprintf(file, "static const struct schema_property %s_properties[] = {\n", name);
        for (uint32_t i = 0; i < s->property_count; i++) {
            (void)fputs("    {", file);
            put_str(file, s->properties[i].name);
            fprintf(file, ", %u, %s},\n", s->properties[i].node, s->properties[i].required ? "true" : "false");
        }
        (void)fputs("};\n", file);
    }
    if (s->edge_count > 0) {
        fprintf(file, "static const struct schema_edge %s_edges[] = {", name);
        for (uint32_t i = 0; i < s->edge_count; i++)
            fprintf(file, "{%u, %u},", s->edges[i].key, s->edges[i].node);
        (void)fputs("};\n", file);
    }
    if (s->dependent_count > 0) {
        fprintf(file, "static const struct schema_dependent %s_dependents[] = {", name);
        for (uint32_t i = 0; i < s->dependent_count; i++) {
            (void)fputs("{", file);
            put_str(file, s->dependents[i].name);
            fprintf(file, ", {%u, %u}},", s->dependents[i].required.first, s->dependents[i].required.count);
        }
        (void)fputs("};\n", file);
    }
    if (s->list_count > 0) {
        fprintf(file, "static const uint32_t %s_lists[] = {", name);
        for (uint32_t i = 0; i < s->list_count; i++)
            fprintf(file, "%u,", s->lists[i]);
        (void)fputs("};\n", file);
    }
    if (s->text_count > 0) {
        fprintf(file, "static const struct str %s_texts[] = {\n", name);
        for (uint32_t i = 0; i < s->text_count; i++) {
            (void)fputs("    ", file);
            put_str(file, s->texts[i]);
            (void)fputs(",\n", file);
        }
        (void)fputs("};\n", file);
    }
    put_patterns(file, name, s);
}

static void put_pool_field(FILE *file, const char *name, const char *pool, const char *count, uint32_t n)
{
    if (n > 0)
        fprintf(file, "    .%s = %s_%s, .%s = %u,\n", pool, name, pool, count, n);
}

static void put_schema(struct out *out, struct arena *arena, struct str name, const struct schema *s)
{
    const char *constant = upper(arena, name);
    const struct schema_node *root = &s->nodes[0];

    fprintf(out->h, "\nextern const struct schema SCHEMA_%s;\nenum " STR_FMT "_field {\n", constant, STR_ARG(name));
    for (uint32_t i = 0; i < root->properties.count; i++)
        fprintf(out->h, "    %s_%s,\n", constant, upper(arena, s->properties[root->properties.first + i].name));
    fprintf(out->h, "    %s_FIELDS /* how many */\n};\n", constant);

    fprintf(out->c, "\n/* " STR_FMT " */\n", STR_ARG(name));
    put_pools(out->c, constant, s);
    fprintf(out->c, "const struct schema SCHEMA_%s = {\n    .name = \"" STR_FMT "\",\n    .own_keywords = true,\n",
            constant, STR_ARG(name));
    put_pool_field(out->c, constant, "nodes", "node_count", s->node_count);
    put_pool_field(out->c, constant, "properties", "property_count", s->property_count);
    put_pool_field(out->c, constant, "edges", "edge_count", s->edge_count);
    put_pool_field(out->c, constant, "dependents", "dependent_count", s->dependent_count);
    put_pool_field(out->c, constant, "lists", "list_count", s->list_count);
    put_pool_field(out->c, constant, "texts", "text_count", s->text_count);
    put_pool_field(out->c, constant, "patterns", "pattern_count", s->pattern_count);
    (void)fputs("};\n", out->c);
}

static void on_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    fprintf(stderr, "%s: %s at '" STR_FMT "': %s %s\n", (const char *)ctx, code, STR_ARG(pointer), message, hint);
}

static void compile_one(struct out *out, struct arena *arena, const char *path, struct str text, struct str name,
                        const char *subpath)
{
    struct schema_options options = {
        .name = arena_dup(arena, name.ptr, name.len), .own_keywords = true, .subpath = subpath};
    const struct schema *schema = schema_compile(arena, text, &options, on_fault, arena_printf(arena, "%s", path));

    if (schema == NULL)
        die(path, "is not a schema of the subset");
    put_schema(out, arena, name, schema);
}

/* A file, and those of its $defs that want tables of their own. */
static void compile_file(struct out *out, struct arena *arena, const char *path)
{
    static const struct jt_limits limits = {.max_bytes = MAX_FILE_BYTES, .max_depth = 128, .refuse_duplicates = true};
    const char *slash = strrchr(path, '/');
    struct str rest = str_of(slash == NULL ? path : slash + 1);
    struct str name = str_cut(&rest, '.');
    struct str text = read_file(arena, path);
    struct jt_iter it;
    struct err err;

    if (jt_check(text, &limits, &err) != ERR_OK)
        die(path, err.message);
    compile_one(out, arena, path, text, name, NULL);
    jt_iter_init(&it, jt_get(text, "$defs"));
    while (jt_next(&it)) {
        bool wanted = false;
        const char *full;

        if (!jt_bool(jt_get(it.value, "x-table"), &wanted) || !wanted)
            continue;
        full = arena_printf(arena, STR_FMT "_" STR_FMT, STR_ARG(name), STR_ARG(it.key));
        compile_one(out, arena, path, text, str_of(full), arena_printf(arena, "/$defs/" STR_FMT, STR_ARG(it.key)));
    }
}

static void make_tables(struct arena *arena, const char *base, char **files, int count)
{
    struct out out = {open_out(arena, base, ".h"), open_out(arena, base, ".c")};

    (void)fputs("/* Made by proto/gen.c from proto/ *.v1.json. SCHEMA_X is for schema_check and schema_decode; enum "
                "x_field gives\n"
                " * the order of the fields that schema_decode fills: struct str fields[X_FIELDS]. */\n"
                "#pragma once\n#include \"common/schema/schema.h\"\n",
                out.h);
    (void)fputs("/* Made by proto/gen.c. */\n#include \"proto/proto_messages.h\"\n#include "
                "\"common/schema/schema_internal.h\"\n",
                out.c);
    for (int i = 0; i < count; i++)
        compile_file(&out, arena, files[i]);
    close_out(out.h, base);
    close_out(out.c, base);
}

/* The bytes as the inside of an array, line by line. */
static void put_bytes(FILE *file, struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        fprintf(file, "%s%d,", i % 32 == 0 ? "\n    " : "", text.ptr[i]);
}

/* A reference to the file `include` gives way to its text. It has an $id, so its own references stay its own. */
static void make_embedded(struct arena *arena, const char *out, const char *symbol, const char *path,
                          const char *include)
{
    const char *slash = strrchr(include, '/');
    const char *reference = arena_printf(arena, "{\"$ref\": \"%s\"}", slash == NULL ? include : slash + 1);
    struct str text = read_file(arena, path);
    const char *at = memmem(text.ptr, text.len, reference, strlen(reference));
    FILE *file = open_out(arena, out, "");

    if (at == NULL)
        die(path, "does not refer to the file to be included");
    fprintf(file, "/* Made by proto/gen.c. */\n#include \"proto/openapi.h\"\n\nstatic const char bytes[] = {");
    put_bytes(file, (struct str){text.ptr, (size_t)(at - text.ptr)});
    put_bytes(file, read_file(arena, include));
    at += strlen(reference);
    put_bytes(file, (struct str){at, (size_t)(text.ptr + text.len - at)});
    fprintf(file, "\n};\nconst struct str %s = {bytes, sizeof(bytes)};\n", symbol);
    close_out(file, out);
}

int main(int argc, char **argv)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1 << 16);

    if (argc >= 4 && strcmp(argv[1], "tables") == 0) {
        make_tables(arena, argv[2], argv + 3, argc - 3);
    } else if (argc == 6 && strcmp(argv[1], "embed") == 0) {
        make_embedded(arena, argv[2], argv[3], argv[4], argv[5]);
    } else {
        (void)fputs("usage: rw_proto_gen tables OUT_BASE FILE... | embed OUT.c SYMBOL FILE INCLUDED\n", stderr);
        return 2;
    }
    return 0;
}
