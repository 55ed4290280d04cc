/* Tables and the few formats of the command line. */
#include "cli/cli.h"
#include "common/base/clock.h"
#include "common/base/banned.h"

#define COLUMNS_MAX 12

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
    for (size_t i = 0; i < table->columns; i++)
        table->cells[table->rows * table->columns + i] = mem_strdup(cells[i] == NULL ? "-" : cells[i]);
    table->rows++;
}

/* Columns on a terminal: code points, not bytes (wide characters count as one). */
static size_t width_of(const char *s)
{
    size_t n = 0;

    for (; *s != '\0'; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
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
            if (w > width[i])
                width[i] = w;
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

void format_duration(const char *start, const char *end, bool open, char *ret, size_t size)
{
    struct wall_us a, b = clock_wall();
    double seconds;

    ret[0] = '\0';
    if (start == NULL || !wall_parse(str_of(start), &a) || (end == NULL && !open))
        return;
    if (end != NULL && !wall_parse(str_of(end), &b))
        return;
    seconds = (double)(b.us - a.us) / 1e6;
    if (seconds < 0)
        seconds = 0;
    if (seconds < 1)
        (void)snprintf(ret, size, "%.0f ms", seconds * 1e3);
    else if (seconds < 60)
        (void)snprintf(ret, size, "%.1f s", seconds);
    else if (seconds < 3600)
        (void)snprintf(ret, size, "%d min %d s", (int)seconds / 60, (int)seconds % 60);
    else
        (void)snprintf(ret, size, "%d h %d min", (int)(seconds / 3600), (int)(seconds / 60) % 60);
}
