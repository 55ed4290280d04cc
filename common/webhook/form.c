/* application/x-www-form-urlencoded. */
#include "common/webhook/form.h"
#include <stdlib.h>
#include <strings.h>

#include "common/base/banned.h"

#define FIELDS_MAX 1000

struct field {
    struct str name, value;
    size_t at; /* the order they came in */
};

bool form_type_is(struct str content_type, const char *type)
{
    struct str name = str_trim(str_cut(&content_type, ';'));

    return name.len == strlen(type) && strncasecmp(name.ptr, type, name.len) == 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes; a % that begins no escape stands for itself, and *bad is set. */
static struct str decode(struct str raw, struct arena *arena, bool *bad)
{
    char *out = arena_alloc(arena, raw.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < raw.len; i++) {
        int high = raw.ptr[i] == '%' && i + 2 < raw.len ? hex_digit(raw.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(raw.ptr[i + 2]) : -1;

        if (low >= 0) {
            out[len++] = (char)(high << 4 | low);
            i += 2;
        } else {
            *bad = *bad || raw.ptr[i] == '%';
            out[len++] = raw.ptr[i] == '+' ? ' ' : raw.ptr[i];
        }
    }
    return (struct str){out, len};
}

static bool is_text(struct str s)
{
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_len_at(s.ptr + i, s.len - i);

        if (n == 0 || s.ptr[i] == '\0')
            return false;
        i += n;
    }
    return true;
}

/* The fields; NULL when there are more than FIELDS_MAX. */
static struct field *read_fields(struct str body, struct arena *arena, size_t *ret_count, bool *ret_bad)
{
    struct field *fields = arena_array(arena, FIELDS_MAX, sizeof(*fields));
    size_t count = 0;

    while (body.len > 0) {
        struct str value = str_cut(&body, '&'), name;

        if (value.len == 0)
            continue;
        name = str_cut(&value, '=');
        if (count == FIELDS_MAX)
            return NULL;
        fields[count] = (struct field){decode(name, arena, ret_bad),
                                       decode(value.ptr == NULL ? STR("") : value, arena, ret_bad), count};
        count++;
    }
    *ret_count = count;
    return fields;
}

static int by_name(const void *a, const void *b)
{
    const struct field *x = a, *y = b;
    int order = str_cmp(x->name, y->name);

    if (order != 0)
        return order;
    return x->at < y->at ? -1 : 1;
}

static int by_name_and_value(const void *a, const void *b)
{
    const struct field *x = a, *y = b;
    int order = str_cmp(x->name, y->name);

    return order != 0 ? order : str_cmp(x->value, y->value);
}

void form_write_sorted(struct str body, struct arena *arena, struct buf *out)
{
    size_t count = 0;
    bool bad = false;
    struct field *fields = read_fields(body, arena, &count, &bad);

    if (fields == NULL)
        return;
    qsort(fields, count, sizeof(*fields), by_name_and_value);
    for (size_t i = 0; i < count; i++) {
        /* twice the same is signed once */
        if (i > 0 && by_name_and_value(&fields[i - 1], &fields[i]) == 0)
            continue;
        buf_append_str(out, fields[i].name);
        buf_append_str(out, fields[i].value);
    }
}

bool form_to_json(struct str body, struct arena *arena, struct jw *w)
{
    size_t count = 0;
    bool bad = false;
    struct field *fields = read_fields(body, arena, &count, &bad);

    if (fields == NULL || bad)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!is_text(fields[i].name) || !is_text(fields[i].value))
            return false;
    qsort(fields, count, sizeof(*fields), by_name);
    jw_obj(w);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && str_eq(fields[end].name, fields[i].name); end++)
            ;
        jw_key_str(w, fields[i].name);
        if (end == i + 1) {
            jw_str(w, fields[i].value);
            continue;
        }
        jw_arr(w);
        for (size_t k = i; k < end; k++)
            jw_str(w, fields[k].value);
        jw_end_arr(w);
    }
    jw_end_obj(w);
    return true;
}
