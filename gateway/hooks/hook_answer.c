/* What a caller hears, and what is written down. The caller of a webhook is a stranger until his signature fits, and
 * learns of it no more than that it did not. */
#include "common/base/ensure.h"
#include "gateway/hooks/hook.h"

#include "common/base/banned.h"

#define MOVES_MAX 5
#define FULL_AFTER_S 5

static void count(const char *stage, int status)
{
    static const struct {
        const char *stage;
        enum metric metric;
    } rows[] = {{"address", METRIC_HOOKS_REFUSED_ADDRESS},         {"size", METRIC_HOOKS_REFUSED_SIZE},
                {"signature", METRIC_HOOKS_REFUSED_SIGNATURE},     {"body", METRIC_HOOKS_REFUSED_BODY},
                {"replay", METRIC_HOOKS_REFUSED_REPLAY},           {"rate_limit", METRIC_HOOKS_REFUSED_RATE_LIMIT},
                {"idempotency", METRIC_HOOKS_REFUSED_IDEMPOTENCY}, {"start", METRIC_HOOKS_REFUSED_START}};

    if (status < 300) {
        metric_add(METRIC_HOOKS_ACCEPTED, 1);
        return;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(rows[i].stage, stage) == 0)
            metric_add(rows[i].metric, 1);
}

void hook_refuse(struct hook *hook, const char *stage, const char *reason, int status, const char *code,
                 const char *detail)
{
    count(stage, status);
    hook_log(hook, status, stage, reason, NULL);
    if (status == 429 || status == 503)
        call_problem_later(hook->call, status, code, hook->after_s > 0 ? hook->after_s : 1, detail);
    else
        call_problem(hook->call, status, code, detail);
}

void hook_started(struct start *start, enum start_verdict verdict, const struct err *err)
{
    struct hook *hook = (struct hook *)start;

    switch (verdict) {
    case START_MADE:
        count("start", 202);
        hook_remember(hook);
        hook_answer_run(hook, hook->delivery.held.rule.ptr == NULL);
        break;
    case START_HELD:
        count("start", 202);
        hook_remember(hook);
        starting_answer_held(hook->call, start->held);
        break;
    case START_FULL:
        hook->after_s = FULL_AFTER_S;
        hook_refuse(hook, "start", "queue_full", 429, "queue_full",
                    "as much as may waits at this trigger's debounce, throttle or batch; send it again");
        break;
    case START_KNOWN:
        count("idempotency", 202);
        hook_log(hook, 202, "idempotency", "known_key", start->held.ptr == NULL ? &start->run_id : NULL);
        if (start->held.ptr == NULL)
            hook_answer_run(hook, false);
        else
            starting_answer_held(hook->call, start->held);
        break;
    case START_REPLAYED:
        hook_replayed(hook, hook_submit);
        break;
    case START_KEY_DIFFERS:
        hook_refuse(hook, "idempotency", "idempotency_key_reused", 422, "idempotency_key_reused",
                    "this Idempotency-Key was used for another body");
        break;
    case START_IN_PROGRESS:
        hook_refuse(hook, "idempotency", "idempotency_in_progress", 409, "idempotency_in_progress",
                    "an equal delivery has been in flight for 5 s; send it again");
        break;
    case START_ABSENT:
        hook_refuse(hook, "start", "not_found", 404, "not_found", "there is no such webhook");
        break;
    case START_DISABLED:
        hook_refuse(hook, "start", "workflow_disabled", 409, "workflow_disabled", "the workflow is disabled");
        break;
    case START_MOVED:
        if (++hook->moves > MOVES_MAX)
            hook_refuse(hook, "start", "busy", 503, "busy",
                        "the workflow is being saved again and again; send it again");
        else
            hook_look_up(hook, true);
        break;
    case START_UNCLEAR:
        hook_refuse(hook, "start", "outcome_unclear", 503, "outcome_unclear",
                    "the connection to the database broke: it may or may not have been taken; send it again");
        break;
    case START_REFUSED:
    case START_FAILED:
        hook_refuse(hook, "start", "unavailable", 503, "unavailable", "it could not be taken just now; send it again");
        ENSURE(err != NULL);
        break;
    }
}
