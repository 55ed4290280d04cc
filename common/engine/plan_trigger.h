/* Triggers of a plan: what starts runs of the workflow besides requests for one. The engine never looks at them; the
 * gateway does. */
#pragma once
#include "common/base/cidr.h"
#include "common/expr/expr.h"
#include "common/webhook/scheme.h"

/* The way in of a webhook, in this order. */
enum hook_stage {
    HOOK_ADDRESS,
    HOOK_SIZE,
    HOOK_SIGNATURE,
    HOOK_REPLAY,
    HOOK_RATE_LIMIT,
    HOOK_IDEMPOTENCY,
    HOOK_STAGES,
};
enum hook_mode { HOOK_ENFORCE, HOOK_AUDIT /* told, not refused */, HOOK_OFF };
extern const char *const HOOK_STAGE_NAMES[HOOK_STAGES];

#define WEBHOOK_SECRETS_MAX 2
#define WEBHOOK_WAIT_MAX_US (60 * INT64_C(1000000))
#define WEBHOOK_WINDOW_US (300 * INT64_C(1000000))

struct plan_secret {
    bool named; /* ${ .secrets.NAME }: text is the name */
    struct str text;
};

struct plan_header {
    struct str name, value; /* name in lower case */
};

/* The answer waits for the run's end. */
struct plan_respond {
    int64_t wait_us; /* 0: it does not */
    int64_t status;
    size_t header_count;
    struct plan_header *headers;
    bool has_body; /* else the run's output */
    struct template body;
};

struct plan_webhook {
    struct str scheme; /* STR_NONE: unsigned */
    struct str url;    /* where schemes that sign it expect to be called; STR_NONE */
    /* of the scheme `generic` only; STR_NONE where the document says nothing */
    struct str header, algorithm, encoding, prefix, signed_text, timestamp_header, id_header;
    size_t secret_count;
    struct plan_secret secrets[WEBHOOK_SECRETS_MAX];
    size_t allow_count, deny_count;
    struct cidr *allow, *deny;
    int64_t max_body_bytes; /* 0: what the organisation may */
    int64_t window_us;
    int64_t rate_limit, rate_per_us; /* requests in a time; 0: none */
    enum hook_mode modes[HOOK_STAGES];
    struct plan_secret verify_token; /* of GETs with hub.challenge; text STR_NONE: they are not answered */
    struct plan_respond respond;
    size_t hidden_count;
    struct str *hidden; /* headers that are stored nowhere, lower case */
};

/* Which events (CloudEvents) start a run, or end a wait. */
struct plan_event {
    struct str type;
    struct str source; /* STR_NONE: whoever sends it */
    bool has_filter;
    struct template filter; /* one whole expression; reads .event, of a trigger .trigger, too */
};

/* What becomes of arrivals that start no run at once. */
enum hold_how { HOLD_NONE, HOLD_DEBOUNCE, HOLD_THROTTLE, HOLD_BATCH };
extern const char *const HOLD_NAMES[]; /* as documents have them */
#define HOLD_WAITING 1000              /* of a throttle that queues */
struct plan_hold {
    enum hold_how how;
    bool has_key; /* else all arrivals of the trigger are one group */
    struct template key;
    int64_t period_us;     /* debounce: without another arrival */
    int64_t timeout_us;    /* debounce, batch: from the first arrival on, at most */
    int64_t limit, per_us; /* throttle: starts in a time */
    bool queues;           /* throttle: what is too much waits, else it is dropped */
    int64_t max_waiting;   /* of those */
    int64_t max_size;      /* batch: arrivals */
};

enum trigger_kind { TRIGGER_WEBHOOK, TRIGGER_TIME /* common/schedule/definition.h reads those */, TRIGGER_EVENT };
struct plan_trigger {
    struct str name;
    enum trigger_kind kind;
    bool enabled;
    struct str start_at; /* step; STR_NONE: where the workflow begins */
    bool has_input;
    struct template input; /* reads .trigger, and of an event .event */
    struct plan_webhook webhook;
    struct plan_event event;
    struct plan_hold hold;
};

/* The row of the scheme, or what the document makes of the generic one; texts are of the arena. The document has to
 * name one. */
struct hook_scheme plan_webhook_scheme(const struct plan_webhook *webhook, struct arena *arena);
/* Where the n-th secret stands in the document. */
void plan_secret_pointer(const struct plan_trigger *trigger, size_t n, struct buf *ret);
