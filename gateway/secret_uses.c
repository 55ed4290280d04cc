/* Where a document refers to secrets, kept beside its workflow so that a list of secrets can say who uses them. */
#include "common/engine/plan.h"
#include "gateway/secret_uses.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

struct uses {
    struct pg_array *secrets, *pointers;
    struct buf pointer;
};

static void add_template(void *ctx, const struct template *t, struct str pointer)
{
    struct uses *uses = ctx;

    for (size_t i = 0; i < t->expr_count; i++) {
        if (!t->exprs[i].secret)
            continue;
        buf_reset(&uses->pointer);
        buf_append_str(&uses->pointer, pointer);
        buf_append_str(&uses->pointer, t->exprs[i].pointer);
        pg_array_add(uses->secrets, pg_text(t->exprs[i].secret_name));
        pg_array_add(uses->pointers, pg_text(buf_str(&uses->pointer)));
    }
}

static void add_signatures(struct uses *uses, const struct plan *plan)
{
    for (size_t i = 0; i < plan->trigger_count; i++) {
        const struct plan_webhook *webhook = &plan->triggers[i].webhook;

        for (size_t k = 0; k < webhook->secret_count; k++) {
            if (!webhook->secrets[k].named)
                continue;
            plan_secret_pointer(&plan->triggers[i], k, &uses->pointer);
            pg_array_add(uses->secrets, pg_text(webhook->secrets[k].text));
            pg_array_add(uses->pointers, pg_text(buf_str(&uses->pointer)));
        }
        if (webhook->verify_token.named) {
            buf_reset(&uses->pointer);
            buf_append_str(&uses->pointer, STR("/triggers"));
            jt_pointer_add(&uses->pointer, plan->triggers[i].name);
            buf_append_str(&uses->pointer, STR("/webhook/verify_token"));
            pg_array_add(uses->secrets, pg_text(webhook->verify_token.text));
            pg_array_add(uses->pointers, pg_text(buf_str(&uses->pointer)));
        }
    }
}

void secret_uses_add(struct call *call, struct pg_batch *batch, struct str workflow, struct str document,
                     const uint8_t hash[32])
{
    struct plan_limits limits = PLAN_LIMITS_DEFAULT;
    struct plan_faults faults = {.arena = call->arena};
    struct uses uses = {.secrets = pg_array_new(batch, PG_E_TEXT), .pointers = pg_array_new(batch, PG_E_TEXT)};
    struct plan *plan;

    /* It has been judged before, maybe by other limits: what is of interest here is what it says. */
    limits.max_steps = limits.max_depth = UINT32_MAX;
    plan = plan_compile(document, &limits, &faults);
    buf_init(&uses.pointer, (size_t)64 << 10);
    if (plan != NULL) {
        plan_each_template(plan, add_template, &uses);
        add_signatures(&uses, plan);
    }
    buf_deinit(&uses.pointer);
    plan_unref(plan);
    pg_add(batch, SQL_SECRET_USES, pg_text(workflow), pg_bytea((struct str){(const char *)hash, 32}),
           pg_array_param(uses.secrets), pg_array_param(uses.pointers));
}
