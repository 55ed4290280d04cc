/* See cloudevent.h. Rules: CloudEvents 1.0.2, "Context Attributes" and "Type System"; JSON format 1.0.2; RFC 3986 for
 * URIs. */
#include "common/cloudevent/cloudevent.h"
#include "common/base/clock.h"
#include "common/seal/base64.h"

#include "common/base/banned.h"

#define EXTENSION_NAME_MAX 64

struct reading {
    struct arena *arena;
    cloudevent_fault_fn fault;
    void *ctx;
    bool failed;
};

static void fault(struct reading *r, const char *code, struct str field, const char *message)
{
    CLEANUP(buf_deinit) struct buf pointer = {0};

    buf_init(&pointer, field.len * 2 + 64);
    if (field.len > 0)
        jt_pointer_add(&pointer, utf8_prefix(field, 200));
    r->failed = true;
    r->fault(r->ctx, code, pointer.len == 0 ? "" : pointer.ptr, message);
}

/* --- characters */

static uint32_t code_point(const unsigned char *at, size_t len)
{
    static const unsigned char masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = at[0] & masks[len];

    for (size_t i = 1; i < len; i++)
        c = (c << 6) | (at[i] & 0x3f);
    return c;
}

/* Controls and what Unicode calls noncharacters may be in no string. */
static bool is_text(struct str s)
{
    for (size_t i = 0, n; i < s.len; i += n) {
        uint32_t c;

        n = utf8_len_at(s.ptr + i, s.len - i);
        if (n == 0)
            return false;
        c = code_point((const unsigned char *)s.ptr + i, n);
        if (c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe)
            return false;
    }
    return true;
}

/* May it be a JSON string that PostgreSQL keeps? Data may have what attributes may not. */
static bool is_storable(struct str s)
{
    for (size_t i = 0, n; i < s.len; i += n) {
        n = utf8_len_at(s.ptr + i, s.len - i);
        if (n == 0 || s.ptr[i] == '\0')
            return false;
    }
    return true;
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Has it only characters of a URI, and only whole escapes? */
static bool is_uri_reference(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '%' && (i + 2 >= s.len || !is_hex(s.ptr[i + 1]) || !is_hex(s.ptr[i + 2])))
            return false;
        if (!is_alphanumeric(s.ptr[i]) && (s.ptr[i] == '\0' || strchr("%-._~:/?#[]@!$&'()*+,;=", s.ptr[i]) == NULL))
            return false;
    }
    return true;
}

static bool has_scheme(struct str s)
{
    struct str rest = s, scheme = str_cut(&rest, ':');

    if (rest.ptr == NULL || scheme.len == 0 || scheme.ptr[0] < 'A' || !is_alphanumeric(scheme.ptr[0]))
        return false;
    for (size_t i = 0; i < scheme.len; i++)
        if (!is_alphanumeric(scheme.ptr[i]) && strchr("+-.", scheme.ptr[i]) == NULL)
            return false;
    return true;
}

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_alphanumeric(s.ptr[i]) && (s.ptr[i] == '\0' || strchr("!#$%&'*+-.^_`|~", s.ptr[i]) == NULL))
            return false;
    return s.len > 0;
}

static bool is_media_type(struct str s)
{
    struct str rest = str_trim(str_cut(&s, ';')), type = str_cut(&rest, '/');

    return is_token(type) && rest.ptr != NULL && is_token(rest);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
}

bool media_type_is(struct str media_type, const char *type)
{
    struct str name = str_trim(str_cut(&media_type, ';'));
    size_t i = 0;

    while (i < name.len && type[i] != '\0' && lower(name.ptr[i]) == type[i])
        i++;
    return i == name.len && type[i] == '\0';
}

static bool is_json_type(struct str media_type)
{
    struct str name = str_trim(str_cut(&media_type, ';'));

    return media_type_is(name, "application/json") || media_type_is(name, "text/json") ||
           (name.len > 5 && media_type_is((struct str){name.ptr + name.len - 5, 5}, "+json"));
}

/* --- attributes */

/* A string that is there and not empty; a null is an attribute that is not there. */
static bool read_string(struct reading *r, struct str value, struct str name, size_t max, struct str *ret)
{
    if (!jt_string(value, r->arena, ret)) {
        fault(r, "wrong_type", name, "must be a string");
        return false;
    }
    if (ret->len == 0)
        fault(r, "out_of_range", name, "is empty");
    else if (ret->len > max)
        fault(r, "out_of_range", name, arena_printf(r->arena, "has %zu bytes; at most %zu are allowed", ret->len, max));
    else if (!is_text(*ret))
        fault(r, "out_of_range", name, "has a control character in it, or what Unicode calls a noncharacter");
    else
        return true;
    return false;
}

static void read_time(struct reading *r, struct str text, struct str name)
{
    struct wall_us at;

    if (!wall_parse(text, &at))
        fault(r, "out_of_range", name, "is no RFC 3339 time such as 2026-11-21T04:00:00Z");
}

static void read_extension(struct reading *r, struct str name, struct str value)
{
    int64_t number;
    struct str text;
    bool good = name.len >= 1 && name.len <= EXTENSION_NAME_MAX;

    for (size_t i = 0; i < name.len && good; i++)
        good = (name.ptr[i] >= 'a' && name.ptr[i] <= 'z') || (name.ptr[i] >= '0' && name.ptr[i] <= '9');
    if (!good) {
        fault(r, "unknown_field", name,
              "is no name of an attribute: they have lower-case letters and digits, at most 64; give it in data");
        return;
    }
    switch (jt_type(value)) {
    case JT_STRING:
        if (jt_string(value, r->arena, &text) && !is_text(text))
            fault(r, "out_of_range", name, "has a control character in it, or what Unicode calls a noncharacter");
        break;
    case JT_NUMBER:
        if (!jt_i64(value, &number) || number < INT32_MIN || number > INT32_MAX)
            fault(r, "out_of_range", name, "is no whole number of 32 bits");
        break;
    case JT_TRUE:
    case JT_FALSE:
        break;
    case JT_NONE:
    case JT_NULL:
    case JT_ARRAY:
    case JT_OBJECT:
        fault(r, "wrong_type", name, "an attribute is a string, a boolean or a whole number; give it in data");
        break;
    }
}

static void read_base64(struct reading *r, struct str value, struct str name, struct cloudevent *ret)
{
    CLEANUP(buf_deinit) struct buf bytes = {0};
    struct str text;

    if (ret->data.ptr != NULL)
        fault(r, "unknown_field", name, "there is data already: an event has one of data and data_base64");
    else if (!jt_string(value, r->arena, &text))
        fault(r, "wrong_type", name, "must be a string");
    else {
        buf_init(&bytes, text.len + 4);
        if (!base64_decode(text, &bytes))
            fault(r, "out_of_range", name, "is no base64 (RFC 4648, with its padding)");
        ret->data = value;
    }
}

static void read_attribute(struct reading *r, struct str name, struct str value, struct cloudevent *ret)
{
    struct str text;

    if (str_is(name, "id")) {
        (void)read_string(r, value, name, CLOUDEVENT_ID_MAX, &ret->id);
    } else if (str_is(name, "type")) {
        (void)read_string(r, value, name, CLOUDEVENT_TYPE_MAX, &ret->type);
    } else if (str_is(name, "subject")) {
        (void)read_string(r, value, name, CLOUDEVENT_SOURCE_MAX, &ret->subject);
    } else if (str_is(name, "source")) {
        if (read_string(r, value, name, CLOUDEVENT_SOURCE_MAX, &ret->source) && !is_uri_reference(ret->source))
            fault(r, "out_of_range", name, "is no URI reference such as /shop/orders or https://shop.example");
    } else if (str_is(name, "specversion")) {
        if (read_string(r, value, name, 16, &text) && !str_is(text, "1.0"))
            fault(r, "out_of_range", name, "must be 1.0");
    } else if (str_is(name, "time")) {
        if (read_string(r, value, name, 64, &text))
            read_time(r, text, name);
    } else if (str_is(name, "datacontenttype")) {
        if (read_string(r, value, name, 255, &text) && !is_media_type(text))
            fault(r, "out_of_range", name, "is no media type such as application/json");
    } else if (str_is(name, "dataschema")) {
        if (read_string(r, value, name, 2048, &text) && !(is_uri_reference(text) && has_scheme(text)))
            fault(r, "out_of_range", name, "is no URI such as https://shop.example/order.json");
    } else {
        read_extension(r, name, value);
    }
}

bool cloudevent_read(struct str json, struct arena *arena, cloudevent_fault_fn on_fault, void *ctx,
                     struct cloudevent *ret)
{
    static const char *const required[] = {"specversion", "id", "source", "type"};
    struct reading r = {.arena = arena, .fault = on_fault, .ctx = ctx};
    struct str base64 = STR_NONE;
    size_t count = 0;
    struct jt_iter it;

    *ret = (struct cloudevent){.subject = STR_NONE, .data = STR_NONE, .json = json};
    if (jt_type(json) != JT_OBJECT) {
        fault(&r, "wrong_type", STR(""), "an event is an object");
        return false;
    }
    jt_iter_init(&it, json);
    while (jt_next(&it)) {
        struct str name = jt_key(&it, arena);

        if (str_is(name, "data"))
            ret->data = it.value;
        else if (jt_type(it.value) == JT_NULL)
            continue;
        else if (str_is(name, "data_base64"))
            base64 = it.value;
        else if (++count <= CLOUDEVENT_ATTRIBUTES_MAX)
            read_attribute(&r, name, it.value, ret);
    }
    if (count > CLOUDEVENT_ATTRIBUTES_MAX)
        fault(&r, "out_of_range", STR(""), "an event has at most 64 attributes");
    for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++)
        if (jt_get(json, required[i]).ptr == NULL || jt_type(jt_get(json, required[i])) == JT_NULL)
            fault(&r, "missing_field", str_of(required[i]), "every event has it");
    if (base64.ptr != NULL)
        read_base64(&r, base64, STR("data_base64"), ret);
    if (ret->data.ptr == NULL)
        ret->data = STR("null");
    return !r.failed;
}

/* --- binary mode */

static bool put_data(struct reading *r, struct jw *w, struct str type, struct str data, const struct jt_limits *limits)
{
    CLEANUP(buf_deinit) struct buf base64 = {0};
    struct err err = {0};

    if (data.len == 0)
        return true;
    if (type.ptr == NULL || is_json_type(type)) {
        if (jt_check(data, limits, &err) != ERR_OK) {
            fault(r, "not_json", STR("data"), arena_printf(r->arena, "%s", err.message));
            return false;
        }
        jw_kraw(w, "data", str_trim(data));
    } else if (type.len > 5 && media_type_is((struct str){type.ptr, 5}, "text/") && is_storable(data)) {
        jw_kstr(w, "data", data);
    } else {
        buf_init(&base64, data.len * 2 + 16);
        base64_encode(data, &base64);
        jw_kstr(w, "data_base64", buf_str(&base64));
    }
    return true;
}

/* data and what belongs to it are not attributes that a protocol carries. */
static bool is_carried(struct reading *r, const struct cloudevent_attribute *attributes, size_t at)
{
    if (str_is(attributes[at].name, "data") || str_is(attributes[at].name, "data_base64") ||
        str_is(attributes[at].name, "datacontenttype")) {
        fault(r, "unknown_field", attributes[at].name, "is the message's own body, or its content type");
        return false;
    }
    for (size_t i = 0; i < at; i++)
        if (str_eq(attributes[i].name, attributes[at].name)) {
            fault(r, "duplicate_key", attributes[at].name, "is there twice");
            return false;
        }
    return true;
}

bool cloudevent_assemble(const struct cloudevent_attribute *attributes, size_t count, struct str content_type,
                         struct str data, const struct jt_limits *limits, struct arena *arena,
                         cloudevent_fault_fn on_fault, void *ctx, struct cloudevent *ret)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct reading r = {.arena = arena, .fault = on_fault, .ctx = ctx};
    size_t bytes = 4096 + content_type.len * 6 + data.len * 6;
    struct jw w = jw_to(&out);

    for (size_t i = 0; i < count; i++)
        bytes += 16 + (attributes[i].name.len + attributes[i].value.len) * 6;
    buf_init(&out, bytes);
    jw_obj(&w);
    for (size_t i = 0; i < count; i++) {
        if (!is_carried(&r, attributes, i))
            return false;
        jw_key_str(&w, attributes[i].name);
        jw_str(&w, attributes[i].value);
    }
    if (content_type.ptr != NULL)
        jw_kstr(&w, "datacontenttype", content_type);
    if (!put_data(&r, &w, content_type, data, limits))
        return false;
    jw_end_obj(&w);
    return cloudevent_read(str_arena(arena, buf_str(&out)), arena, on_fault, ctx, ret);
}
