/* rw-sim-schedules: a day, or a year, of schedules in virtual time. What is decided is decided by the scheduler's own
 * code (scheduler/core/fire.c, common/schedule); PostgreSQL is a model of sql/schedule_due.sql and
 * sql/schedule_fire.sql. Schedulers die every few seconds, freeze, lose the answers to their commits; PostgreSQL is
 * away for minutes, its clock jumps; people pause, resume and override. No time may be missing or start two runs, and
 * where the runs of a schedule may not lie side by side they must not. --seed N --days N; a failure prints its seed and
 * exits 1. */
#include "scheduler/core/fire.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "common/base/banned.h"

#define SCHEDULES 40
#define SCHEDULERS 3
#define SHARDS 4
#define SECOND US_PER_S
#define LEASE_US (3 * SECOND)
#define QUIET_US (1800 * SECOND) /* at the end nothing goes wrong, so that all can be made good */
#define BEGIN_US (INT64_C(1767225600) * SECOND)

struct fired {        /* a row of schedule_fire */
    int32_t schedule; /* + 1; 0: free */
    int32_t runs;
    int64_t nominal;
};
struct run {
    struct run_id id;
    int64_t ends;
};
struct row {
    struct fire_row r; /* as it would be read */
    struct schedule_definition definition;
    int64_t next_due;
    bool paused;
    int64_t since;      /* times behind it are to be fired */
    int64_t last_start; /* nominal time */
    size_t queued_count;
    struct {
        int64_t nominal;
        int32_t revision; /* of the schedule when it was put there */
    } queued[FIRE_WAITING_MAX];
    struct run runs[64]; /* that go on */
    size_t run_count;
};
enum doing { IDLE, READING, COMMITTING };
struct scheduler {
    bool dead;
    int64_t wakes; /* dead or frozen until then */
    int64_t next;  /* what it does is done then */
    enum doing doing;
    int64_t epochs[SHARDS]; /* it believes to own them; 0: not */
    struct fire_pace pace;
    struct arena *arena;
    struct fire_row *rows; /* what it has read */
    int64_t read_epochs[SHARDS];
    size_t row_count;
};
struct world {
    uint64_t seed, chance, run_number;
    int64_t now, until, clock_off, away_until;
    int64_t next_kill, next_trouble, next_person;
    struct row rows[SCHEDULES];
    struct scheduler schedulers[SCHEDULERS];
    int owner[SHARDS];
    int64_t epoch[SHARDS], seen[SHARDS];
    struct zones *zones;
    struct fired *fired;
    size_t fired_size, fired_count;
    uint64_t starts, skips, releases, kills, unknown, stale, jumps, asked, doubles_refused;
};

/* Of a history of months the times are further apart, and runs take longer. */
static bool is_long(const struct world *w)
{
    return w->until - BEGIN_US > INT64_C(100) * 86400 * SECOND;
}

static uint64_t chance(struct world *w)
{
    uint64_t z = (w->chance += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int64_t between(struct world *w, int64_t low, int64_t high)
{
    return low + (int64_t)(chance(w) % (uint64_t)(high - low + 1));
}

static void fail(const struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
static void fail(const struct world *w, const char *format, ...)
{
    va_list args;

    printf("%.3f s: ", (double)(w->now - BEGIN_US) / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\nreplay: rw-sim-schedules --seed %" PRIu64 "\n", w->seed);
    exit(1);
}

/* ---- schedule_fire ---- */

static struct fired *fired_at(struct world *w, int32_t schedule, int64_t nominal)
{
    uint64_t h = ((uint64_t)nominal ^ (uint64_t)schedule << 50) * UINT64_C(0x9e3779b97f4a7c15);

    for (size_t i = (size_t)(h >> 20) & (w->fired_size - 1);; i = (i + 1) & (w->fired_size - 1))
        if (w->fired[i].schedule == 0 || (w->fired[i].schedule == schedule + 1 && w->fired[i].nominal == nominal))
            return &w->fired[i];
}

static void grow(struct world *w)
{
    struct fired *old = w->fired;
    size_t size = w->fired_size;

    if (w->fired_count * 2 < size)
        return;
    w->fired_size = size == 0 ? 1 << 16 : size * 2;
    w->fired = mem_array(w->fired_size, sizeof(*w->fired));
    for (size_t i = 0; i < size; i++)
        if (old[i].schedule != 0)
            *fired_at(w, old[i].schedule - 1, old[i].nominal) = old[i];
    mem_free(old);
}

/* The unique row of a time. False: it was there. */
static bool insert(struct world *w, int32_t schedule, int64_t nominal)
{
    struct fired *row;

    grow(w);
    row = fired_at(w, schedule, nominal);
    if (row->schedule != 0) {
        w->doubles_refused++;
#ifdef PLANT_NO_KEY
        return true;
#else
        return false;
#endif
    }
    *row = (struct fired){schedule + 1, 0, nominal};
    w->fired_count++;
    return true;
}

/* ---- runs ---- */

static void end_runs(struct row *row, int64_t now)
{
    size_t kept = 0;

    for (size_t i = 0; i < row->run_count; i++)
        if (row->runs[i].ends > now)
            row->runs[kept++] = row->runs[i];
    row->run_count = kept;
}

static bool goes_on(struct row *row, int64_t now)
{
    end_runs(row, now);
    for (size_t i = 0; i < row->run_count; i++)
        if (row->r.has_run && run_id_eq(row->runs[i].id, row->r.last_run))
            return true;
    return false;
}

static void cancel(struct row *row, struct run_id id)
{
    for (size_t i = 0; i < row->run_count; i++)
        if (run_id_eq(row->runs[i].id, id))
            row->runs[i].ends = 0;
}

static void start_run(struct world *w, int32_t at, const struct fire_time *time)
{
    struct row *row = &w->rows[at];
    struct fired *fired = fired_at(w, at, time->nominal.us);
    enum schedule_overlap overlap = row->definition.overlap;

    if (time->cancels)
        cancel(row, row->r.last_run);
    end_runs(row, w->now);
    if (++fired->runs > 1)
        fail(w, "schedule %d has started two runs for the time %" PRId64, (int)at, time->nominal.us);
    if (row->run_count > 0 && (overlap == SCHEDULE_SKIP || overlap == SCHEDULE_QUEUE))
        fail(w, "schedule %d starts a run while the one before goes on", (int)at);
    if (overlap == SCHEDULE_QUEUE && time->nominal.us < row->last_start)
        fail(w, "schedule %d starts an older time after a newer one", (int)at);
    if (row->run_count == sizeof(row->runs) / sizeof(row->runs[0]))
        row->run_count--;
    row->runs[row->run_count++] = (struct run){
        time->run, w->now + (chance(w) % 4 == 0 ? between(w, 1, is_long(w) ? 14400 : 300) : between(w, 0, 2)) * SECOND};
    row->last_start = time->nominal.us;
    row->r.has_run = true;
    row->r.last_run = time->run;
    w->starts++;
}

/* ---- schedule_fire.sql ---- */

static void release(struct world *w, int32_t at, const struct fire_time *time)
{
    struct row *row = &w->rows[at];

    for (size_t i = 0; i < row->queued_count; i++) {
        bool asked_since = row->queued[i].revision != row->r.revision;

        if (row->queued[i].nominal != time->nominal.us)
            continue;
        if (asked_since) /* times of what it was are in no order with those of what it is: the clock may have been set
                            back */
            row->last_start = 0;
        memmove(&row->queued[i], &row->queued[i + 1], (--row->queued_count - i) * sizeof(row->queued[0]));
        row->r.waiting--;
        w->releases++;
        start_run(w, at, time);
        if (asked_since)
            row->last_start = 0;
        return;
    }
}

static void fire_time(struct world *w, int32_t at, const struct fire_time *time)
{
    struct row *row = &w->rows[at];

    if (time->what == FIRE_RELEASE) {
        release(w, at, time);
        return;
    }
    if (!insert(w, at, time->nominal.us))
        return;
    if (time->nominal.us > w->now + w->clock_off)
        fail(w, "schedule %d is fired before its time", (int)at);
    switch (time->what) {
    case FIRE_START:
    case FIRE_RELEASE:
        start_run(w, at, time);
        break;
    case FIRE_QUEUE:
        if (row->queued_count == FIRE_WAITING_MAX)
            fail(w, "more times of schedule %d wait than may", (int)at);
        row->queued[row->queued_count].nominal = time->nominal.us;
        row->queued[row->queued_count++].revision = row->r.revision;
        row->r.waiting++;
        break;
    case FIRE_SKIP:
        w->skips++;
        break;
    }
}

static int32_t place_of(const struct world *w, const struct fire_row *row)
{
    for (int32_t i = 0; i < SCHEDULES; i++)
        if (run_id_eq(w->rows[i].r.id, row->id))
            return i;
    fail(w, "a row that nobody has");
}

static void fire_one(struct world *w, const struct fire *fire)
{
    int32_t at = place_of(w, fire->row);
    struct row *row = &w->rows[at];

    if (row->r.revision != fire->row->revision || row->paused || (row->r.due.us == 0 && row->r.waiting == 0) ||
        fire->after.us > w->now + w->clock_off)
        return;
    for (size_t i = 0; i < fire->count; i++)
        fire_time(w, at, &fire->times[i]);
    row->r.after = fire->after;
    row->r.due = fire->look_at;
}

/* The guard: the shards are this scheduler's, and have been since it read the rows. */
static bool guard(const struct world *w, int who, const struct scheduler *s, const struct fire *fires, size_t count)
{
#ifdef PLANT_NO_GUARD
    (void)w, (void)who, (void)s, (void)fires, (void)count;
    return true;
#else
    for (size_t i = 0; i < count; i++)
        if (w->owner[fires[i].row->shard] != who ||
            w->epoch[fires[i].row->shard] != s->read_epochs[fires[i].row->shard])
            return false;
    return true;
#endif
}

/* ---- a scheduler ---- */

static struct run_id make_run(void *ctx, unsigned slot)
{
    struct world *w = ctx;

    return run_id_make((struct wall_us){BEGIN_US + (int64_t)++w->run_number * US_PER_MS}, slot);
}

static void on_fault(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    (void)ctx, (void)hint;
    printf("%s %s: %s\n", code, pointer, message);
    exit(1);
}

static bool is_due(struct world *w, struct row *row)
{
    if (row->paused)
        return false;
    return (row->r.due.us != 0 && row->r.due.us <= w->now + w->clock_off) ||
           (row->r.waiting > 0 && !goes_on(row, w->now));
}

/* schedule_due.sql */
static void read_rows(struct world *w, struct scheduler *s)
{
    s->arena = arena_new(0);
    s->rows = arena_array(s->arena, SCHEDULES, sizeof(*s->rows));
    s->row_count = 0;
    memcpy(s->read_epochs, s->epochs, sizeof(s->epochs));
    for (size_t i = 0; i < SCHEDULES && s->row_count < s->pace.most; i++) {
        struct row *row = &w->rows[i];

        if (s->epochs[row->r.shard] == 0 || !is_due(w, row))
            continue;
        row->r.busy = goes_on(row, w->now);
        row->r.now.us = w->now + w->clock_off;
        row->r.oldest.us = 0;
        for (size_t k = 0; k < row->queued_count; k++)
            if (row->r.oldest.us == 0 || row->queued[k].nominal < row->r.oldest.us)
                row->r.oldest.us = row->queued[k].nominal;
        s->rows[s->row_count] = row->r;
        s->rows[s->row_count++].definition = str_arena(s->arena, row->r.definition);
    }
}

/* schedule_next.sql */
static int64_t look_after(const struct world *w, const struct scheduler *s)
{
    int64_t next = INT64_MAX;
    bool waiting = false;

    for (size_t i = 0; i < SCHEDULES; i++) {
        const struct row *row = &w->rows[i];

        if (s->epochs[row->r.shard] == 0 || row->paused)
            continue;
        if (row->r.due.us != 0 && row->r.due.us - w->now - w->clock_off < next)
            next = row->r.due.us - w->now - w->clock_off;
        waiting |= row->r.waiting > 0;
    }
    return fire_look_after_us(next, waiting) + US_PER_MS;
}

static void forget(struct scheduler *s)
{
    if (s->arena != NULL)
        arena_free(s->arena);
    s->arena = NULL;
    s->doing = IDLE;
}

static void commit(struct world *w, int who, struct scheduler *s)
{
    struct fire *fires = arena_array(s->arena, s->row_count, sizeof(*fires));
    enum err_code rc = ERR_OK;

    for (size_t i = 0; i < s->row_count; i++)
        fire_decide(&s->rows[i], w->zones, make_run, w, on_fault, s->arena, &fires[i]);
    if (!guard(w, who, s, fires, s->row_count)) {
        rc = ERR_STALE;
        w->stale++;
    } else if (w->now < w->away_until || chance(w) % 50 == 0) {
        rc = ERR_UNAVAILABLE;
    }
    if (rc == ERR_OK)
        for (size_t i = 0; i < s->row_count; i++)
            fire_one(w, &fires[i]);
    if (rc == ERR_OK && chance(w) % 20 == 0) { /* it happened, and nobody knows */
        rc = ERR_UNAVAILABLE;
        w->unknown++;
    }
    (void)fire_pace_after(&s->pace, rc, s->row_count);
    forget(s);
    s->next = w->now + between(w, 50, 200) * US_PER_MS;
}

static void step(struct world *w, int who)
{
    struct scheduler *s = &w->schedulers[who];

    switch (s->doing) {
    case IDLE:
        if (w->now < w->away_until) {
            s->next = w->now + 200 * US_PER_MS;
            return;
        }
        read_rows(w, s);
        if (s->row_count == 0) {
            forget(s);
            s->next = w->now + look_after(w, s);
            return;
        }
        s->doing = READING;
        s->next = w->now + between(w, 1, 20) * US_PER_MS;
        if (chance(w) % 300 == 0) /* as long as an expression, or a freeze, takes */
            s->next += between(w, 1, 15) * SECOND;
        return;
    case READING:
        s->doing = COMMITTING;
        s->next = w->now + between(w, 1, 20) * US_PER_MS;
        return;
    case COMMITTING:
        commit(w, who, s);
        return;
    }
}

/* ---- shards ---- */

static bool lives(const struct world *w, int who)
{
    return !w->schedulers[who].dead && w->schedulers[who].wakes <= w->now;
}

static void hear(struct world *w, int who)
{
    for (int shard = 0; shard < SHARDS; shard++)
        w->schedulers[who].epochs[shard] = w->owner[shard] == who ? w->epoch[shard] : 0;
}

static void look_at_leases(struct world *w)
{
    for (int i = 0; i < SCHEDULERS; i++)
        if (lives(w, i) && chance(w) % 20 == 0)
            hear(w, i);
    for (int shard = 0; shard < SHARDS; shard++) {
        int owner = w->owner[shard], next = (int)(chance(w) % SCHEDULERS);

        if (owner >= 0 && lives(w, owner)) {
            w->seen[shard] = w->now;
            /* handed over now and then, as shards are shared out anew */
            if (chance(w) % 2000 != 0)
                continue;
        } else if (w->now - w->seen[shard] < LEASE_US) {
            continue;
        }
        if (!lives(w, next) || w->now < w->away_until)
            continue;
        for (int i = 0; i < SCHEDULERS; i++)
            if (lives(w, i)) /* who is frozen goes on believing */
                w->schedulers[i].epochs[shard] = 0;
        w->owner[shard] = next;
        w->schedulers[next].epochs[shard] = ++w->epoch[shard];
        w->seen[shard] = w->now;
    }
}

static void wake(struct world *w, int who)
{
    struct scheduler *s = &w->schedulers[who];

    if (s->dead) {
        s->dead = false;
        forget(s);
        fire_pace_init(&s->pace);
        memset(s->epochs, 0, sizeof(s->epochs));
        s->next = w->now;
    }
    s->wakes = 0;
    /* it hears of what it has lost before or after it goes on with what it was about */
    if (chance(w) % 2 == 0)
        hear(w, who);
}

static void kill_one(struct world *w)
{
    struct scheduler *s = &w->schedulers[chance(w) % SCHEDULERS];

    w->next_kill = w->now + between(w, 2, 5) * SECOND;
    if (w->until - w->now < QUIET_US || s->dead || s->wakes > w->now)
        return;
    w->kills++;
    s->dead = chance(w) % 4 != 0; /* else it freezes */
    s->wakes = w->now + (s->dead ? between(w, 1, 6) : between(w, 1, 30)) * SECOND;
    if (s->doing == COMMITTING && chance(w) % 2 == 0) {
        commit(w, (int)(s - w->schedulers), s); /* what was sent may still happen */
        s->next = s->wakes;
    }
    if (s->dead)
        forget(s);
}

/* ---- trouble, people ---- */

static void trouble(struct world *w)
{
    w->next_trouble = w->now + between(w, 600, 7200) * SECOND;
    if (w->until - w->now < QUIET_US)
        return;
    if (chance(w) % 2 == 0) {
        w->away_until = w->now + between(w, 1, 600) * SECOND;
    } else {
        w->clock_off += between(w, -300, 300) * SECOND;
        if (w->clock_off > 600 * SECOND || w->clock_off < -600 * SECOND)
            w->clock_off = 0;
        w->jumps++;
    }
}

/* Everything from `since` on to `after_at` has been dealt with. */
static void check_gaps(struct world *w, int32_t at)
{
    struct row *row = &w->rows[at];
    struct wall_us t = {row->since};

    while (schedule_next(&row->definition.when, t, &t) && t.us <= row->r.after.us)
        if (fired_at(w, at, t.us)->schedule == 0)
            fail(w, "schedule %d has left out the time %" PRId64, (int)at, t.us);
}

static void define(struct world *w, int32_t at)
{
    static const char *const when[] = {
        "\"every\":{\"interval\":\"%ds\"",
        "\"cron\":{\"expression\":\"* * * * *\"",
        "\"cron\":{\"expression\":\"*/15 * * * *\",\"timezone\":\"Asia/Kolkata\"",
        "\"cron\":{\"expression\":\"30 2 * * *\",\"timezone\":\"Europe/Berlin\"",
        "\"cron\":{\"expression\":\"0 * * * *\",\"timezone\":\"Australia/Lord_Howe\",\"dst_overlap\":\"twice\"",
        "\"cron\":{\"expression\":\"15 1 L * *\",\"timezone\":\"America/New_York\""};
    static const char *const overlaps[] = {"allow", "skip", "cancel_previous", "queue"};
    struct row *row = &w->rows[at];
    size_t kind = (size_t)at % (sizeof(when) / sizeof(when[0]));
    CLEANUP(buf_deinit) struct buf text = {0};
    bool year = is_long(w);

    buf_init(&text, 1024);
    buf_append_str(&text, STR("{"));
    if (kind == 0)
        buf_printf(&text, "\"every\":{\"interval\":\"%ds\"", (int)(year ? between(w, 600, 7200) : between(w, 10, 90)));
    else
        buf_append_str(&text, str_of(when[kind == 1 && year ? 2 : kind]));
    buf_printf(&text, ",\"overlap\":\"%s\",\"catch_up\":100", overlaps[(at / 6) % 4]);
    if (at % 7 == 0)
        buf_append_str(&text, STR(",\"jitter\":\"5s\""));
    buf_append_str(&text, STR("}}"));
    mem_free((void *)(uintptr_t)row->r.definition.ptr);
    row->r.definition = (struct str){mem_dup(text.ptr, text.len), text.len};
}

/* schedule_override.sql, schedule_pause.sql */
static void ask(struct world *w, int32_t at)
{
    struct row *row = &w->rows[at];
    bool pause = chance(w) % 2 == 0;
    int64_t clock = w->now + w->clock_off;

    check_gaps(w, at);
    if (pause)
        row->paused = !row->paused;
    else
        define(w, at);
    row->r.revision++;
    row->r.after.us = row->since = clock;
    if (!pause)
        row->r.anchor.us = clock;
    row->r.due.us = row->paused ? 0 : clock;
    row->last_start = 0;
    if (!schedule_definition_read(row->r.definition, w->zones, row->r.anchor, on_fault, row, &row->definition))
        fail(w, "schedule %d cannot be read", (int)at);
    w->asked++;
}

static void person(struct world *w)
{
    int32_t at = (int32_t)(chance(w) % SCHEDULES);

    w->next_person = w->now + between(w, 60, 1200) * SECOND;
    if (w->until - w->now > QUIET_US)
        ask(w, at);
    else if (w->rows[at].paused)
        ask(w, at);
}

/* ---- a history ---- */

static void begin(struct world *w)
{
    for (int32_t i = 0; i < SCHEDULES; i++) {
        struct row *row = &w->rows[i];

        row->r.id = run_id_make((struct wall_us){BEGIN_US + i}, (unsigned)i);
        row->r.id_text = STR("schedule");
        row->r.workflow = row->r.trigger = STR("t");
        row->r.shard = (int16_t)(i % SHARDS);
        row->r.revision = 1;
        row->r.anchor.us = row->r.after.us = row->r.due.us = row->since = w->now;
        define(w, i);
        if (!schedule_definition_read(row->r.definition, w->zones, row->r.anchor, on_fault, row, &row->definition))
            fail(w, "schedule %d cannot be read", (int)i);
    }
    for (int i = 0; i < SHARDS; i++)
        w->owner[i] = -1;
    for (int i = 0; i < SCHEDULERS; i++)
        fire_pace_init(&w->schedulers[i].pace);
}

/* When a scheduler with nothing to do may next have something: nobody has to ask in vain five times a second. */
static int64_t next_due(struct world *w)
{
    int64_t first = INT64_MAX;

    for (size_t i = 0; i < SCHEDULES; i++) {
        struct row *row = &w->rows[i];
        int64_t at = row->paused || row->r.due.us == 0 ? INT64_MAX : row->r.due.us - w->clock_off;

        if (row->r.waiting > 0 && !row->paused && w->now + SECOND < at)
            at = w->now + SECOND;
        first = at < first ? at : first;
    }
    return first;
}

static int64_t next_event(struct world *w)
{
    int64_t next = w->next_kill, due = next_due(w);

    next = w->next_trouble < next ? w->next_trouble : next;
    next = w->next_person < next ? w->next_person : next;
    for (int i = 0; i < SCHEDULERS; i++) {
        const struct scheduler *s = &w->schedulers[i];
        int64_t at = s->dead || s->wakes > w->now ? s->wakes : s->next;

        if (!s->dead && s->wakes <= w->now && s->doing == IDLE && at < due)
            at = due;
        next = at < next ? at : next;
    }
    return next > w->now ? next : w->now + 1;
}

static void finish(struct world *w)
{
    for (int32_t i = 0; i < SCHEDULES; i++) {
        const struct row *row = &w->rows[i];

        check_gaps(w, i);
        if (!row->paused && row->r.due.us != 0 && row->r.due.us < w->now + w->clock_off - 60 * SECOND)
            fail(w, "schedule %d is not looked at any more", (int)i);
        mem_free((void *)(uintptr_t)row->r.definition.ptr);
    }
    for (int i = 0; i < SCHEDULERS; i++)
        forget(&w->schedulers[i]);
    zones_free(w->zones);
    mem_free(w->fired);
}

static void play(uint64_t seed, int64_t days)
{
    struct world *w = mem_alloc(sizeof(*w));

    w->seed = w->chance = seed;
    w->now = BEGIN_US;
    w->until = BEGIN_US + days * 86400 * SECOND;
    w->zones = zones_new(ZONEINFO_FOLDER);
    begin(w);
    w->next_trouble = w->now + 600 * SECOND;
    while (w->now < w->until) {
        w->now = next_event(w);
        for (int i = 0; i < SCHEDULERS; i++)
            if (w->schedulers[i].wakes != 0 && w->schedulers[i].wakes <= w->now)
                wake(w, i);
        look_at_leases(w);
        if (w->now >= w->next_kill)
            kill_one(w);
        if (w->now >= w->next_trouble)
            trouble(w);
        if (w->now >= w->next_person)
            person(w);
        for (int i = 0; i < SCHEDULERS; i++)
            if (lives(w, i) && w->schedulers[i].next <= w->now)
                step(w, i);
    }
    finish(w);
    printf("seed %" PRIu64 ", %d days: %" PRIu64 " runs, %" PRIu64 " skipped, %" PRIu64 " had waited; %" PRIu64
           " kills, %" PRIu64 " unknown commits, %" PRIu64 " refused to a former owner, %" PRIu64
           " doubles refused, %" PRIu64 " jumps of the clock, %" PRIu64 " changes by people: no gap, no double\n",
           seed, (int)days, w->starts, w->skips, w->releases, w->kills, w->unknown, w->stale, w->doubles_refused,
           w->jumps, w->asked);
    mem_free(w);
}

int main(int argc, char **argv)
{
    int64_t seed = 1, days = 1, histories = 1;

    for (int i = 1; i + 1 < argc; i += 2) {
        int64_t *to = strcmp(argv[i], "--seed") == 0        ? &seed
                      : strcmp(argv[i], "--days") == 0      ? &days
                      : strcmp(argv[i], "--histories") == 0 ? &histories
                                                            : NULL;

        if (to == NULL || !parse_i64(str_of(argv[i + 1]), 1, INT64_C(1) << 40, to)) {
            fprintf(stderr, "rw-sim-schedules [--seed N] [--days N] [--histories N]\n");
            return 2;
        }
    }
    for (int64_t i = 0; i < histories; i++)
        play((uint64_t)(seed + i), days);
    return 0;
}
