/* See holding.h. */
#include "gateway/holding.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/base/metrics.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define KEY_MAX 255
#define RULE_MAX 4096
#define BATCH_BYTES ((int64_t)1 << 20) /* of a run's batch; the arrival that goes beyond is the last one in it */

/* Texts that mean the same are one key, however they are escaped. */
static struct str key_text(struct holding *h, struct str value)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct str text;
    uint8_t hash[32];
    char hex[65];

    buf_init(&out, value.len * 6 + 16);
    if (jt_string(value, h->arena, &text))
        json_quote(&out, text);
    else
        jt_canonical(value, &out);
    ENSURE(!out.overflow);
    if (out.len <= KEY_MAX)
        return str_arena(h->arena, buf_str(&out));
    sha256(buf_str(&out), hash);
    hex_encode(hash, sizeof(hash), hex);
    return str_of(arena_printf(h->arena, "sha256:%s", hex));
}

static struct str rule_json(const struct holding *h)
{
    const struct plan_hold *hold = &h->trigger->hold;
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w;

    buf_init(&out, RULE_MAX);
    w = jw_to(&out);
    jw_obj(&w);
    jw_kcstr(&w, "how", HOLD_NAMES[hold->how]);
    jw_kstr(&w, "key", h->to->key);
    jw_ki64(&w, "most", h->limits->of[LIMIT_HELD_ARRIVALS]);
    if (hold->how == HOLD_DEBOUNCE)
        jw_ki64(&w, "period_us", hold->period_us);
    if (hold->how == HOLD_THROTTLE) {
        jw_ki64(&w, "limit", hold->limit);
        jw_ki64(&w, "per_us", hold->per_us);
        jw_kbool(&w, "queues", hold->queues);
        jw_ki64(&w, "max_waiting", hold->max_waiting);
    } else {
        jw_ki64(&w, "timeout_us", hold->timeout_us);
    }
    if (hold->how == HOLD_BATCH) {
        jw_ki64(&w, "max_size", hold->max_size);
        jw_ki64(&w, "max_bytes", BATCH_BYTES);
    }
    jw_end_obj(&w);
    ENSURE(!out.overflow);
    return str_arena(h->arena, buf_str(&out));
}

static void with_key(struct holding *h, struct str key)
{
    struct held *to = h->to;
    const char *group;

    to->workflow = h->workflow;
    to->trigger = h->trigger->name;
    to->how = str_of(HOLD_NAMES[h->trigger->hold.how]);
    to->key = key;
    to->rule = rule_json(h);
    group = arena_printf(h->arena, "%d/" STR_FMT "/" STR_FMT "/" STR_FMT "/" STR_FMT, (int)h->organisation,
                         STR_ARG(to->workflow), STR_ARG(to->trigger), STR_ARG(to->how), STR_ARG(key));
    to->slot = slot_of_key(str_of(group));
    h->done(h->ctx, FILL_OK, NULL);
}

static void on_key(void *ctx, enum fill_status status, struct str value, const char *message)
{
    struct holding *h = ctx;

    if (status == FILL_OK)
        with_key(h, key_text(h, value));
    else
        h->done(h->ctx, status,
                arena_printf(h->arena, "the key of the trigger's %s cannot be made: %s",
                             HOLD_NAMES[h->trigger->hold.how], message));
}

void holding_make(struct holding *h)
{
    ENSURE(h->trigger->hold.how != HOLD_NONE);
    if (h->trigger->hold.has_key)
        template_fill(h->gw->sandbox, h->organisation, &h->trigger->hold.key, &h->doc,
                      (size_t)h->limits->of[LIMIT_BODY_BYTES], h->arena, on_key, h);
    else
        with_key(h, STR(""));
}

void held_groups_init(struct held_groups *groups, struct pg_batch *batch)
{
    for (size_t i = 0; i < 5; i++)
        groups->columns[i] = pg_array_new(batch, i < 4 ? PG_E_TEXT : PG_E_I16);
}

void held_groups_add(struct held_groups *groups, const struct held *held)
{
    pg_array_add(groups->columns[0], pg_text(held->workflow));
    pg_array_add(groups->columns[1], pg_text(held->trigger));
    pg_array_add(groups->columns[2], pg_text(held->how));
    pg_array_add(groups->columns[3], pg_text(held->key));
    pg_array_add(groups->columns[4], pg_i16((int16_t)held->slot));
}

int held_groups_lock(struct held_groups *groups, struct pg_batch *batch)
{
    return pg_add(batch, SQL_HELD_LOCK, pg_array_param(groups->columns[0]), pg_array_param(groups->columns[1]),
                  pg_array_param(groups->columns[2]), pg_array_param(groups->columns[3]),
                  pg_array_param(groups->columns[4]));
}

void held_count(struct str verdict)
{
    static const struct {
        const char *verdict;
        enum metric metric;
    } rows[] = {{"debounced", METRIC_ARRIVALS_DEBOUNCED},
                {"batched", METRIC_ARRIVALS_BATCHED},
                {"queued", METRIC_ARRIVALS_QUEUED},
                {"dropped", METRIC_ARRIVALS_DROPPED}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (str_is(verdict, rows[i].verdict))
            metric_add(rows[i].metric, 1);
}
