/* What a request says of an endpoint, checked. */
#include "common/io/transfer.h"
#include "gateway/document.h"
#include "gateway/outgoing/endpoint.h"

#include "common/base/banned.h"

/* A text of at most `max` bytes; STR_NONE when absent. False: answered. */
static bool read_text(struct call *call, struct str body, const char *key, size_t max, struct str *ret)
{
    struct str value = jt_get(body, key);
    const char *pointer = arena_printf(call->arena, "/%s", key);

    *ret = STR_NONE;
    if (value.ptr == NULL)
        return true;
    if (!jt_string(value, call->arena, ret)) {
        call_fault(call, "wrong_type", pointer, arena_printf(call->arena, "%s must be a string", key));
        return false;
    }
    if (ret->len > max) {
        call_fault(call, "out_of_range", pointer,
                   arena_printf(call->arena, "%s must have at most %zu bytes", key, max));
        return false;
    }
    return true;
}

static bool read_url(struct call *call, struct str body, struct endpoint_body *ret)
{
    const char *fault;

    if (!read_text(call, body, "url", ENDPOINT_URL_MAX, &ret->url))
        return false;
    if (ret->url.ptr == NULL)
        return true;
    fault = memchr(ret->url.ptr, '\0', ret->url.len) != NULL
                ? "url has a zero byte"
                : transfer_url_fault(arena_dup(call->arena, ret->url.ptr, ret->url.len));
    if (fault == NULL)
        return true;
    call_fault(call, "out_of_range", "/url", fault);
    return false;
}

static const char *type_fault(struct str name)
{
    return notice_find(name) != NOTICE_NONE ? NULL : "there is no such type of event";
}

static const char *workflow_fault(struct str name)
{
    return name_is_valid(name) ? NULL : "is no name of a workflow";
}

/* A list of names, or null for all. False: answered. */
static bool read_names(struct call *call, struct str body, const char *key, const char *(*fault_of)(struct str name),
                       size_t max, struct str *ret, size_t *ret_count, bool *ret_said)
{
    struct str list = jt_get(body, key);
    struct jt_iter it;

    *ret_said = list.ptr != NULL;
    *ret_count = 0;
    if (list.ptr == NULL || jt_type(list) == JT_NULL)
        return true;
    if (jt_type(list) != JT_ARRAY || jt_count(list) == 0 || jt_count(list) > max) {
        call_fault(call, jt_type(list) == JT_ARRAY ? "out_of_range" : "wrong_type",
                   arena_printf(call->arena, "/%s", key),
                   arena_printf(call->arena, "%s must be a list of 1 to %zu names, or null for all", key, max));
        return false;
    }
    jt_iter_init(&it, list);
    while (jt_next(&it)) {
        struct str name;
        const char *fault = jt_string(it.value, call->arena, &name) ? fault_of(name) : "is no string";

        if (fault != NULL) {
            call_fault(call, "out_of_range", arena_printf(call->arena, "/%s/%zu", key, it.index), fault);
            return false;
        }
        ret[(*ret_count)++] = name;
    }
    return true;
}

static bool read_kind(struct call *call, struct str body, struct endpoint_body *ret)
{
    struct str kind;

    if (!read_text(call, body, "kind", 16, &kind))
        return false;
    ret->exchange = str_is(kind, "exchange");
    if (kind.ptr != NULL && !ret->exchange && !str_is(kind, "webhook")) {
        call_fault(call, "out_of_range", "/kind", "kind must be webhook or exchange");
        return false;
    }
    if (ret->exchange == (ret->url.ptr == NULL))
        return true;
    call_fault(call, ret->exchange ? "unknown_field" : "missing_field", "/url",
               ret->exchange ? "an endpoint of kind exchange has no url: its events go to ropewalk.run_events"
                             : "url must be where the events are to be posted");
    return false;
}

bool endpoint_body_read(struct call *call, bool creating, struct endpoint_body *ret)
{
    struct str body;

    *ret = (struct endpoint_body){.enabled = true};
    if (!call_body_object(
            call, creating ? "kind url description types workflows enabled" : "url description types workflows enabled",
            &body) ||
        !read_url(call, body, ret) ||
        !read_text(call, body, "description", ENDPOINT_DESCRIPTION_MAX, &ret->description) ||
        (creating && !read_kind(call, body, ret)) ||
        !read_names(call, body, "types", type_fault, NOTICE_COUNT - 1, ret->types, &ret->type_count, &ret->has_types) ||
        !read_names(call, body, "workflows", workflow_fault, ENDPOINT_WORKFLOWS_MAX, ret->workflows,
                    &ret->workflow_count, &ret->has_workflows))
        return false;
    ret->has_enabled = jt_get(body, "enabled").ptr != NULL;
    if (!ret->has_enabled || jt_bool(jt_get(body, "enabled"), &ret->enabled))
        return true;
    call_fault(call, "wrong_type", "/enabled", "enabled must be true or false");
    return false;
}

struct pg_param endpoint_names(struct pg_batch *batch, const struct str *names, size_t count)
{
    struct pg_array *array;

    if (count == 0)
        return pg_null();
    array = pg_array_new(batch, PG_E_TEXT);
    for (size_t i = 0; i < count; i++)
        pg_array_add(array, pg_text(names[i]));
    return pg_array_param(array);
}
