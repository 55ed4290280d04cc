/* Events: names, and the JSON form of their small fields. */
#include "common/engine/event.h"
#include "common/base/banned.h"
#include "common/base/ensure.h"
#include <inttypes.h>

const char *event_type_name(enum event_type type)
{
    switch (type) {
#define EVENT(number, id, name, format)                                                                                \
    case EVENT_##id:                                                                                                   \
        return name;
#include "common/engine/event.def"
#undef EVENT
    case EVENT_NONE:
        break;
    }
    return NULL;
}

static void put_str(struct jw *w, const char *key, struct str s)
{
    if (s.ptr != NULL)
        jw_kstr(w, key, s);
}

static void put_int(struct jw *w, const char *key, int64_t n)
{
    if (n != 0)
        jw_ki64(w, key, n);
}

void event_encode_data(const struct event *event, struct buf *out)
{
    size_t before = out->len;
    struct jw w = jw_to(out);

    jw_obj(&w);
    put_str(&w, "branch", event->branch);
    put_str(&w, "code", event->code);
    put_str(&w, "class", event->error_class);
    put_str(&w, "message", event->message);
    put_int(&w, "status", event->http_status);
    if (event->detail.ptr != NULL)
        jw_kraw(&w, "detail", event->detail);
    put_int(&w, "due_at", event->due_at.us);
    put_str(&w, "worker", event->worker);
    put_int(&w, "generation", event->generation);
    put_int(&w, "dispatch", event->dispatch);
    put_int(&w, "started_at", event->started_at.us);
    put_int(&w, "ended_at", event->ended_at.us);
    put_int(&w, "command", event->command);
    put_str(&w, "waits", event->waits);
    put_str(&w, "name", event->name);
    put_str(&w, "source", event->source);
    put_str(&w, "child", event->child);
    put_str(&w, "as", event->as);
    put_str(&w, "by", event->by);
    put_str(&w, "key", event->key);
    put_int(&w, "count", event->count);
    put_int(&w, "ref", event->ref);
    put_int(&w, "interval", event->interval_us);
    put_int(&w, "once", event->once);
    put_int(&w, "sent", event->sent);
    put_int(&w, "compensate", event->compensate);
    jw_end_obj(&w);
    if (out->len == before + 2) { /* {}: nothing to keep */
        out->len = before;
        if (out->ptr != NULL)
            out->ptr[before] = '\0';
    }
}

static struct str *text_field(struct event *event, struct str key)
{
    const struct {
        const char *name;
        struct str *field;
    } fields[] = {{"branch", &event->branch},   {"code", &event->code},     {"class", &event->error_class},
                  {"message", &event->message}, {"worker", &event->worker}, {"waits", &event->waits},
                  {"name", &event->name},       {"child", &event->child},   {"as", &event->as},
                  {"by", &event->by},           {"key", &event->key},       {"source", &event->source}};

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (str_is(key, fields[i].name))
            return fields[i].field;
    return NULL;
}

static bool take_u32(uint32_t *to, int64_t n)
{
    *to = (uint32_t)n;
    return n >= 0 && n <= UINT32_MAX;
}

static bool take_flag(bool *to, int64_t n)
{
    *to = n == 1;
    return n == 0 || n == 1;
}

/* False when the number is out of the field's range; *ret_known says whether the field is one of ours. */
static bool take_number(struct event *event, struct str key, int64_t n, bool *ret_known)
{
    *ret_known = true;
    if (str_is(key, "status")) {
        event->http_status = (int32_t)n;
        return n >= INT32_MIN && n <= INT32_MAX;
    }
    if (str_is(key, "generation")) {
        event->generation = (uint16_t)n;
        return n >= 0 && n <= UINT16_MAX;
    }
    if (str_is(key, "dispatch"))
        return take_u32(&event->dispatch, n);
    if (str_is(key, "count"))
        return take_u32(&event->count, n);
    if (str_is(key, "ref"))
        return take_u32(&event->ref, n);
    if (str_is(key, "once"))
        return take_flag(&event->once, n);
    if (str_is(key, "sent"))
        return take_flag(&event->sent, n);
    if (str_is(key, "compensate"))
        return take_flag(&event->compensate, n);
    if (str_is(key, "due_at"))
        event->due_at.us = n;
    else if (str_is(key, "started_at"))
        event->started_at.us = n;
    else if (str_is(key, "ended_at"))
        event->ended_at.us = n;
    else if (str_is(key, "command"))
        event->command = n;
    else if (str_is(key, "interval"))
        event->interval_us = n;
    else
        *ret_known = false;
    return true;
}

enum err_code event_decode_data(struct str data, struct arena *arena, struct event *event, struct err *err)
{
    struct jt_iter it;

    ENSURE(event != NULL);
    if (data.ptr == NULL)
        return ERR_OK;
    if (jt_type(data) != JT_OBJECT)
        return err_set(err, ERR_INTERNAL, "data of event %" PRIu32 " is no object", event->seq);
    jt_iter_init(&it, data);
    while (jt_next(&it)) {
        struct str *text = text_field(event, it.key);
        int64_t n = 0;
        bool good, known;

        if (text != NULL) {
            good = jt_string(it.value, arena, text);
        } else if (str_is(it.key, "detail")) {
            event->detail = it.value;
            good = true;
        } else {
            bool number = jt_i64(it.value, &n);
            good = take_number(event, it.key, n, &known) && (number || !known);
        }
        if (!good)
            return err_set(err, ERR_INTERNAL, "field '" STR_FMT "' of event %" PRIu32 " is not of its type or range",
                           STR_ARG(it.key), event->seq);
    }
    return ERR_OK;
}
