/* Events: names, and the JSON form of their small fields. */
#include "common/engine/event.h"
#include "common/base/banned.h"
#include <inttypes.h>

const char *event_type_name(enum event_type type)
{
    switch (type) {
#define EVENT(number, id, name)                                                                                        \
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
    jw_end_obj(&w);
    if (out->len == before + 2) { /* {}: nothing to keep */
        out->len = before;
        if (out->ptr != NULL)
            out->ptr[before] = '\0';
    }
}

enum err_code event_decode_data(struct str data, struct arena *arena, struct event *event, struct err *err)
{
    struct jt_iter it;

    if (data.ptr == NULL)
        return ERR_OK;
    if (jt_type(data) != JT_OBJECT)
        return err_set(err, ERR_INTERNAL, "data of event %" PRIu32 " is no object", event->seq);
    jt_iter_init(&it, data);
    while (jt_next(&it)) {
        struct str *text = NULL;
        int64_t n = 0;

        if (str_is(it.key, "branch"))
            text = &event->branch;
        else if (str_is(it.key, "code"))
            text = &event->code;
        else if (str_is(it.key, "class"))
            text = &event->error_class;
        else if (str_is(it.key, "message"))
            text = &event->message;
        else if (str_is(it.key, "worker"))
            text = &event->worker;
        if (text != NULL) {
            if (!jt_string(it.value, arena, text))
                return err_set(err, ERR_INTERNAL, "field '" STR_FMT "' of event %" PRIu32 " is no string",
                               STR_ARG(it.key), event->seq);
            continue;
        }
        if (str_is(it.key, "detail")) {
            event->detail = it.value;
            continue;
        }
        if (!jt_i64(it.value, &n))
            continue;
        if (str_is(it.key, "status"))
            event->http_status = (int32_t)n;
        else if (str_is(it.key, "due_at"))
            event->due_at.us = n;
        else if (str_is(it.key, "generation"))
            event->generation = (uint16_t)n;
        else if (str_is(it.key, "dispatch"))
            event->dispatch = (uint32_t)n;
        else if (str_is(it.key, "started_at"))
            event->started_at.us = n;
        else if (str_is(it.key, "ended_at"))
            event->ended_at.us = n;
        else if (str_is(it.key, "command"))
            event->command = n;
    }
    return ERR_OK;
}
