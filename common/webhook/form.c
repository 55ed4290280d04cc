/* application/x-www-form-urlencoded, and the fields of any form as JSON. */
#include "common/webhook/form.h"
#include "common/base/digest.h"
#include "common/webhook/form_fields.h"
#include <stdlib.h>
#include <strings.h>

#include "common/base/banned.h"

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

static struct str decode(struct str raw, struct arena *arena, bool plus_is_blank, bool *bad)
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
            out[len++] = plus_is_blank && raw.ptr[i] == '+' ? ' ' : raw.ptr[i];
        }
    }
    return (struct str){out, len};
}

struct str form_decode_percent(struct str raw, struct arena *arena, bool *bad)
{
    return decode(raw, arena, false, bad);
}

bool form_is_text(struct str s)
{
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_len_at(s.ptr + i, s.len - i);

        if (n == 0 || s.ptr[i] == '\0')
            return false;
        i += n;
    }
    return true;
}

/* The fields; NULL when there are more than FORM_FIELDS_MAX. */
static struct form_field *read_fields(struct str body, struct arena *arena, size_t *ret_count, bool *ret_bad)
{
    struct form_field *fields = arena_array(arena, FORM_FIELDS_MAX, sizeof(*fields));
    size_t count = 0;

    while (body.len > 0) {
        struct str value = str_cut(&body, '&'), name;

        if (value.len == 0)
            continue;
        name = str_cut(&value, '=');
        if (count == FORM_FIELDS_MAX)
            return NULL;
        fields[count] = (struct form_field){decode(name, arena, true, ret_bad),
                                            decode(value.ptr == NULL ? STR("") : value, arena, true, ret_bad), count,
                                            STR_NONE, STR_NONE};
        count++;
    }
    *ret_count = count;
    return fields;
}

static int by_name(const void *a, const void *b)
{
    const struct form_field *x = a, *y = b;
    int order = str_cmp(x->name, y->name);

    if (order != 0)
        return order;
    return x->at < y->at ? -1 : 1;
}

static int by_name_and_value(const void *a, const void *b)
{
    const struct form_field *x = a, *y = b;
    int order = str_cmp(x->name, y->name);

    return order != 0 ? order : str_cmp(x->value, y->value);
}

void form_write_sorted(struct str body, struct arena *arena, struct buf *out)
{
    size_t count = 0;
    bool bad = false;
    struct form_field *fields = read_fields(body, arena, &count, &bad);

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

static void write_value(const struct form_field *field, struct jw *w)
{
    CLEANUP(buf_deinit) struct buf base64 = {0};

    if (field->file_name.ptr == NULL) {
        jw_str(w, field->value);
        return;
    }
    buf_init(&base64, field->value.len / 3 * 4 + 8);
    encoding_write(ENCODING_BASE64, field->value, &base64);
    jw_obj(w);
    jw_kstr(w, "name", field->file_name);
    jw_kstr(w, "type", field->type);
    jw_kstr(w, "base64", base64.len == 0 ? STR("") : buf_str(&base64));
    jw_end_obj(w);
}

void form_write_fields(struct form_field *fields, size_t count, struct jw *w)
{
    qsort(fields, count, sizeof(*fields), by_name);
    jw_obj(w);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && str_eq(fields[end].name, fields[i].name); end++)
            ;
        jw_key_str(w, fields[i].name);
        if (end == i + 1) {
            write_value(&fields[i], w);
            continue;
        }
        jw_arr(w);
        for (size_t k = i; k < end; k++)
            write_value(&fields[k], w);
        jw_end_arr(w);
    }
    jw_end_obj(w);
}

bool form_to_json(struct str body, struct arena *arena, struct jw *w)
{
    size_t count = 0;
    bool bad = false;
    struct form_field *fields = read_fields(body, arena, &count, &bad);

    if (fields == NULL || bad)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!form_is_text(fields[i].name) || !form_is_text(fields[i].value))
            return false;
    form_write_fields(fields, count, w);
    return true;
}
