/* Tables and the few formats of the command line. */
#include "cli/cli.h"
#include "cli/yaml.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

#define COLUMNS_MAX 12
#define YAML_PRINT_MAX_BYTES ((size_t)256 << 20)

void clean_append(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len;) {
        size_t len = utf8_len_at(text.ptr + i, text.len - i);
        unsigned char first = (unsigned char)text.ptr[i];
        /* C0, DEL, and C1 (U+0080 to U+009F), which terminals obey as well. */
        bool control = len == 0 || first < 0x20 || first == 0x7f ||
                       (len == 2 && first == 0xc2 && (unsigned char)text.ptr[i + 1] < 0xa0);

        if (control)
            buf_append_char(out, '?');
        else
            buf_append(out, text.ptr + i, len);
        i += len == 0 ? 1 : len;
    }
}

void print_clean(FILE *out, const char *text)
{
    CLEANUP(buf_deinit) struct buf clean = {0};

    buf_init(&clean, (size_t)64 << 20);
    clean_append(&clean, str_of(text == NULL ? "" : text));
    if (clean.len > 0)
        (void)fwrite(clean.ptr, 1, clean.len, out);
}

struct table {
    const char *const *titles;
    size_t columns, rows, cap;
    char **cells;
};

struct table *table_new(const char *const *titles)
{
    struct table *table = mem_alloc(sizeof(*table));

    table->titles = titles;
    while (titles[table->columns] != NULL && table->columns < COLUMNS_MAX)
        table->columns++;
    return table;
}

void table_row(struct table *table, const char *const *cells)
{
    if (table->rows == table->cap) {
        table->cap = table->cap == 0 ? 32 : 2 * table->cap;
        table->cells = mem_grow(table->cells, table->cap * table->columns, sizeof(*table->cells));
    }
    for (size_t i = 0; i < table->columns; i++) {
        const char *text = cells[i] == NULL || *cells[i] == '\0' ? "-" : cells[i];
        struct buf clean;
        size_t len;

        buf_init(&clean, 1 << 16);
        clean_append(&clean, utf8_prefix(str_of(text), 1 << 15));
        table->cells[table->rows * table->columns + i] = buf_take(&clean, &len);
    }
    table->rows++;
}

/* Columns on a terminal: code points, not bytes (wide characters count as one). */
static size_t width_of(const char *s)
{
    size_t n = 0;

    for (; *s != '\0'; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80 ? 1 : 0;
    return n;
}

static void print_cell(const char *s, size_t width, bool last)
{
    (void)fputs(s, stdout);
    for (size_t n = width_of(s); !last && n < width + 2; n++)
        (void)putchar(' ');
}

void table_print(struct table *table)
{
    size_t width[COLUMNS_MAX];

    for (size_t i = 0; i < table->columns; i++) {
        width[i] = width_of(table->titles[i]);
        for (size_t r = 0; r < table->rows; r++) {
            size_t w = width_of(table->cells[r * table->columns + i]);

            width[i] = w > width[i] ? w : width[i];
        }
    }
    for (size_t i = 0; i < table->columns; i++)
        print_cell(table->titles[i], width[i], i + 1 == table->columns);
    (void)putchar('\n');
    for (size_t r = 0; r < table->rows; r++) {
        for (size_t i = 0; i < table->columns; i++) {
            print_cell(table->cells[r * table->columns + i], width[i], i + 1 == table->columns);
            mem_free(table->cells[r * table->columns + i]);
        }
        (void)putchar('\n');
    }
    mem_free(table->cells);
    mem_free(table);
}

const char *json_text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

long long json_int(const json_t *object, const char *key)
{
    return (long long)json_number_value(json_object_get(object, key));
}

/* Whole numbers of more than 64 bits are right JSON, but jansson takes them only as doubles. What is shown of values
 * comes from the text, so that only the shape matters here. */
json_t *json_parse(struct str text)
{
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *json = json_loadb(text.ptr == NULL ? "" : text.ptr, text.len, flags, NULL);

    return json != NULL ? json
                        : json_loadb(text.ptr == NULL ? "" : text.ptr, text.len, flags | JSON_DECODE_INT_AS_REAL, NULL);
}

const char *text_or(const char *text, const char *otherwise)
{
    return text == NULL ? otherwise : text;
}

static void indent(unsigned depth)
{
    printf("\n%*s", (int)(2 * depth), "");
}

static void pretty(struct str value, unsigned depth)
{
    bool object = jt_type(value) == JT_OBJECT;
    struct jt_iter it;
    bool empty = true;

    if ((!object && jt_type(value) != JT_ARRAY) || depth > 200) {
        (void)fwrite(value.ptr, 1, value.len, stdout);
        return;
    }
    (void)putchar(object ? '{' : '[');
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        if (!empty)
            (void)putchar(',');
        empty = false;
        indent(depth + 1);
        /* The key as it stands in the text, with its escapes. */
        if (object)
            printf("\"" STR_FMT "\": ", STR_ARG(it.key));
        pretty(it.value, depth + 1);
    }
    if (!empty)
        indent(depth);
    (void)putchar(object ? '}' : ']');
}

void print_json(struct str value)
{
    pretty(str_trim(value), 0);
    (void)putchar('\n');
}

void print_document(const struct cli *cli, struct str json)
{
    static bool is_next;
    CLEANUP(buf_deinit) struct buf yaml = {0};

    if (!cli->yaml) {
        printf(STR_FMT "\n", STR_ARG(json));
        return;
    }
    buf_init(&yaml, YAML_PRINT_MAX_BYTES);
    yaml_from_json(json, &yaml);
    if (is_next)
        (void)puts("---");
    is_next = true;
    (void)fwrite(yaml.ptr, 1, yaml.len, stdout);
    if (yaml.overflow)
        (void)fputs("ropewalk: the answer is too long for YAML; -o json prints all of it\n", stderr);
}

void print_answer(const struct cli *cli, const struct answer *answer)
{
    if (answer->text_bytes == 0) /* 204: said by the exit code */
        return;
    if (answer->json == NULL)
        (void)puts(answer->text);
    else
        print_document(cli, str_trim((struct str){answer->text, answer->text_bytes}));
}

void format_span(int64_t us, char *ret, size_t size)
{
    double seconds = (double)us / 1e6;

    ret[0] = '\0';
    if (us < 0)
        return;
    if (seconds < 0.9995)
        (void)snprintf(ret, size, "%.0f ms", seconds * 1e3);
    else if (seconds < 59.95)
        (void)snprintf(ret, size, "%.1f s", seconds);
    else if (seconds < 3600)
        (void)snprintf(ret, size, "%d min %d s", (int)seconds / 60, (int)seconds % 60);
    else
        (void)snprintf(ret, size, "%d h %d min", (int)(seconds / 3600), (int)(seconds / 60) % 60);
}

void format_took(const char *start, const char *end, bool open, char *ret, size_t size)
{
    struct wall_us a, b = clock_wall();

    ret[0] = '\0';
    if (start == NULL || !wall_parse(str_of(start), &a) || (end == NULL && !open))
        return;
    if (end != NULL && !wall_parse(str_of(end), &b))
        return;
    format_span(b.us > a.us ? b.us - a.us : 0, ret, size);
}
