/* Admission of starts; see admission.h. */
#include "gateway/admission.h"
#include "common/base/ensure.h"
#include "common/base/id.h"
#include "common/base/map.h"
#include "common/base/mem.h"

#include "common/base/banned.h"

#define PRESSED_ASKED 50 /* starts since the last sample */
#define AFTER_MAX_S 30
#define FORGET_US (60 * US_PER_S)
#define ACTIVE_PACE 0.1 /* starts a second; who asks for less takes no part in shares */

/* A line: how long it takes to get through, and whether it is closed. */
struct line {
    bool closed;
    int64_t waiting, delay_us, before_us; /* the delay, and what it was at the sample before */
    int64_t need_us;                      /* until it should be open again */
};

struct party {                               /* an organisation */
    int64_t asked;                           /* since the last sample */
    double pace;                             /* starts asked for in a second, of late */
    struct line tasks[ADMISSION_PRIORITIES]; /* what a start of that priority would wait behind */
    struct mono_us seen;
};

struct admission {
    struct admission_limits limits;
    struct map *parties; /* organisation -> struct party */
    struct line starts;
    double pace; /* of all */
    size_t active, refusing;
    int64_t asked;
    struct mono_us sampled;
};

struct admission *admission_new(const struct admission_limits *limits)
{
    struct admission *a = mem_alloc(sizeof(*a));

    a->limits = *limits;
    a->parties = map_new();
    return a;
}

void admission_free(struct admission *a)
{
    struct str key;
    size_t pos = 0;
    void *value;

    if (a == NULL)
        return;
    while (map_next(a->parties, &pos, &key, &value))
        mem_free(value);
    map_free(a->parties);
    mem_free(a);
}

static struct party *party_of(struct admission *a, int32_t organisation)
{
    struct str key = {(const char *)&organisation, sizeof(organisation)};
    struct party *party = map_get(a->parties, key);

    if (party != NULL)
        return party;
    party = mem_alloc(sizeof(*party));
    party->seen = a->sampled;
    map_put(a->parties, key, party);
    return party;
}

/* Closes and opens a line by what waits in it now. */
static void line_judge(const struct admission_limits *limits, struct line *line, int64_t passed_us)
{
    int64_t open_at_us = limits->delay_us / 2, fallen_us = line->before_us - line->delay_us, left_us;

    if (line->waiting >= limits->waiting_max ||
        (line->waiting >= limits->waiting_min && line->delay_us > limits->delay_us))
        line->closed = true;
    else if (line->waiting < limits->waiting_min || line->delay_us <= open_at_us)
        line->closed = false;
    left_us = line->delay_us > open_at_us ? line->delay_us - open_at_us : 0;
    /* As fast as it fell of late; while it does not fall, as if everybody in it took as long as it has taken so far. */
    line->need_us = fallen_us > 0 ? left_us * passed_us / fallen_us : left_us * 2;
}

static void take_loads(struct admission *a, const struct admission_sample *sample)
{
    for (size_t i = 0; i < sample->load_count; i++) {
        const struct admission_load *load = &sample->loads[i];
        struct party *party = party_of(a, load->organisation);

        for (size_t p = load->priority; p < ADMISSION_PRIORITIES; p++) {
            party->tasks[p].waiting += load->waiting;
            if (load->delay_us > party->tasks[p].delay_us)
                party->tasks[p].delay_us = load->delay_us;
        }
    }
}

/* Clears what the sample will say, and keeps what it was. */
static void reset_all(struct admission *a, struct mono_us now, int64_t passed_us)
{
    struct str key;
    size_t pos = 0;
    void *value;

    a->pace = 0;
    a->active = 0;
    while (map_next(a->parties, &pos, &key, &value)) {
        struct party *party = value;

        party->pace = (party->pace + (double)party->asked * US_PER_S / (double)passed_us) / 2;
        if (party->asked > 0)
            party->seen = now;
        a->pace += party->pace;
        a->active += party->pace > ACTIVE_PACE;
        party->asked = 0;
        for (size_t p = 0; p < ADMISSION_PRIORITIES; p++) {
            party->tasks[p].before_us = party->tasks[p].delay_us;
            party->tasks[p].waiting = party->tasks[p].delay_us = 0;
        }
    }
}

static void judge_all(struct admission *a, struct mono_us now, int64_t passed_us)
{
    struct str key;
    size_t pos = 0;
    void *value;

    a->refusing = 0;
    while (map_next(a->parties, &pos, &key, &value)) {
        struct party *party = value;

        bool closed = false;

        for (size_t p = 0; p < ADMISSION_PRIORITIES; p++) {
            line_judge(&a->limits, &party->tasks[p], passed_us);
            closed = closed || party->tasks[p].closed;
        }
        a->refusing += closed;
        if (closed || now.us - party->seen.us < FORGET_US)
            continue;
        (void)map_del(a->parties, key);
        mem_free(party);
    }
    line_judge(&a->limits, &a->starts, passed_us);
}

void admission_sample(struct admission *a, const struct admission_sample *sample)
{
    int64_t passed_us = sample->at.us - a->sampled.us;

    if (passed_us < US_PER_MS)
        passed_us = US_PER_MS;
    reset_all(a, sample->at, passed_us);
    a->sampled = sample->at;
    a->asked = 0;
    take_loads(a, sample);
    a->starts.before_us = a->starts.delay_us;
    a->starts.waiting = sample->starts_waiting;
    a->starts.delay_us = sample->starts_delay_us;
    judge_all(a, sample->at, passed_us);
}

/* At random between one second and twice what the line needs, so that those refused do not come back together. */
static int64_t retry_after(const struct line *line)
{
    int64_t need_s = line->need_us / US_PER_S + 1;

    if (need_s > AFTER_MAX_S / 2)
        need_s = AFTER_MAX_S / 2;
    return 1 + (int64_t)(random_u64() % (uint64_t)(2 * need_s));
}

static bool starts_refused(const struct admission *a, const struct party *party)
{
    if (!a->starts.closed)
        return false;
    if (a->starts.delay_us > 2 * a->limits.delay_us || a->starts.waiting >= a->limits.waiting_max)
        return true;
    return a->active <= 1 || party->pace > a->pace / (double)(2 * a->active);
}

enum admission_verdict admission_ask(struct admission *a, int32_t organisation, uint8_t priority, int64_t *ret_after_s)
{
    struct party *party = party_of(a, organisation);

    party->asked++;
    a->asked++;
    if (starts_refused(a, party)) {
        *ret_after_s = retry_after(&a->starts);
        return ADMISSION_BACKLOG;
    }
    ENSURE(priority < ADMISSION_PRIORITIES);
    if (party->tasks[priority].closed) {
        *ret_after_s = retry_after(&party->tasks[priority]);
        return ADMISSION_SHARE;
    }
    return ADMISSION_TAKEN;
}

bool admission_is_pressed(const struct admission *a)
{
    return a->starts.closed || a->refusing > 0 || a->asked >= PRESSED_ASKED;
}

size_t admission_refusing(const struct admission *a, bool *ret_backlog)
{
    *ret_backlog = a->starts.closed;
    return a->refusing;
}
