/* rw-sim-schedules: a day, or a year, of schedules in virtual time. What is decided is decided by the scheduler's own
 * code (scheduler/core/fire.c, common/schedule); PostgreSQL is model_schedules.c. Schedulers die every few seconds,
 * freeze, lose the answers to their commits; PostgreSQL is away for minutes, its clock jumps; people pause, resume and
 * override. No time may be missing or start two runs, and where the runs of a schedule may not lie side by side they
 * must not. --seed N --days N; a failure prints its seed and exits 1. */
#include "tests/sim/model_schedules.h"
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

struct watched { /* what is checked of a schedule */
    struct schedule_definition definition;
    int64_t since;      /* times behind it are to be fired */
    int64_t last_start; /* nominal time */
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
    int64_t until, away_until;
    struct db_schedules db;
    struct db_schedule schedules[SCHEDULES];
    int64_t next_kill, next_trouble, next_person;
    struct watched watched[SCHEDULES];
    struct scheduler schedulers[SCHEDULERS];
    int owner[SHARDS];
    int64_t epoch[SHARDS], seen[SHARDS];
    struct zones *zones;
    uint64_t starts, kills, unknown, stale, jumps, asked;
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

    printf("%.3f s: ", (double)(w->db.now - BEGIN_US) / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\nreplay: rw-sim-schedules --seed %" PRIu64 "\n", w->seed);
    exit(1);
}

/* ---- what the model tells ---- */

static void on_model_fault(struct db_schedules *db, const char *what, size_t at)
{
    fail(db->ctx, "schedule %zu %s", at, what);
}

/* A run is started: may it be? Times of what a schedule was are in no order with those of what it is, because the clock
 * may have been set back. */
static int64_t on_start(struct db_schedules *db, size_t at, const struct fire_time *time, bool asked_since)
{
    struct world *w = db->ctx;
    struct watched *row = &w->watched[at];
    const struct db_schedule *s = &db->all[at];
    enum schedule_overlap overlap = row->definition.overlap;

    if (db_fired_at(db, at, time->nominal.us)->runs > 1)
        fail(w, "schedule %zu has started two runs for the time %" PRId64, at, time->nominal.us);
    if (s->run_count > 0 && (overlap == SCHEDULE_SKIP || overlap == SCHEDULE_QUEUE))
        fail(w, "schedule %zu starts a run while the one before goes on", at);
    if (overlap == SCHEDULE_QUEUE && !asked_since && time->nominal.us < row->last_start)
        fail(w, "schedule %zu starts an older time after a newer one", at);
    row->last_start = asked_since ? 0 : time->nominal.us;
    w->starts++;
    return w->db.now + (chance(w) % 4 == 0 ? between(w, 1, is_long(w) ? 14400 : 300) : between(w, 0, 2)) * SECOND;
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

static void own_shards(const struct scheduler *s, bool own[SHARDS])
{
    for (int shard = 0; shard < SHARDS; shard++)
        own[shard] = s->epochs[shard] != 0;
}

static int64_t look_after(struct world *w, const struct scheduler *s)
{
    bool own[SHARDS], waiting;
    int64_t next;

    own_shards(s, own);
    next = db_schedules_next(&w->db, own, &waiting);
    return fire_look_after_us(next, waiting) + US_PER_MS;
}

static void read_rows(struct world *w, struct scheduler *s)
{
    bool own[SHARDS];

    own_shards(s, own);
    s->arena = arena_new(0);
    s->rows = arena_array(s->arena, SCHEDULES, sizeof(*s->rows));
    memcpy(s->read_epochs, s->epochs, sizeof(s->epochs));
    s->row_count = db_schedules_due(&w->db, own, s->pace.most, s->arena, s->rows);
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
    } else if (w->db.now < w->away_until || chance(w) % 50 == 0) {
        rc = ERR_UNAVAILABLE;
    }
    if (rc == ERR_OK)
        for (size_t i = 0; i < s->row_count; i++)
            (void)db_schedule_fire(&w->db, &fires[i]);
    if (rc == ERR_OK && chance(w) % 20 == 0) { /* it happened, and nobody knows */
        rc = ERR_UNAVAILABLE;
        w->unknown++;
    }
    (void)fire_pace_after(&s->pace, rc, s->row_count);
    forget(s);
    s->next = w->db.now + between(w, 50, 200) * US_PER_MS;
}

static void step(struct world *w, int who)
{
    struct scheduler *s = &w->schedulers[who];

    switch (s->doing) {
    case IDLE:
        if (w->db.now < w->away_until) {
            s->next = w->db.now + 200 * US_PER_MS;
            return;
        }
        read_rows(w, s);
        if (s->row_count == 0) {
            forget(s);
            s->next = w->db.now + look_after(w, s);
            return;
        }
        s->doing = READING;
        s->next = w->db.now + between(w, 1, 20) * US_PER_MS;
        if (chance(w) % 300 == 0) /* as long as an expression, or a freeze, takes */
            s->next += between(w, 1, 15) * SECOND;
        return;
    case READING:
        s->doing = COMMITTING;
        s->next = w->db.now + between(w, 1, 20) * US_PER_MS;
        return;
    case COMMITTING:
        commit(w, who, s);
        return;
    }
}

/* ---- shards ---- */

static bool lives(const struct world *w, int who)
{
    return !w->schedulers[who].dead && w->schedulers[who].wakes <= w->db.now;
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
            w->seen[shard] = w->db.now;
            /* handed over now and then, as shards are shared out anew */
            if (chance(w) % 2000 != 0)
                continue;
        } else if (w->db.now - w->seen[shard] < LEASE_US) {
            continue;
        }
        if (!lives(w, next) || w->db.now < w->away_until)
            continue;
        for (int i = 0; i < SCHEDULERS; i++)
            if (lives(w, i)) /* who is frozen goes on believing */
                w->schedulers[i].epochs[shard] = 0;
        w->owner[shard] = next;
        w->schedulers[next].epochs[shard] = ++w->epoch[shard];
        w->seen[shard] = w->db.now;
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
        s->next = w->db.now;
    }
    s->wakes = 0;
    /* it hears of what it has lost before or after it goes on with what it was about */
    if (chance(w) % 2 == 0)
        hear(w, who);
}

static void kill_one(struct world *w)
{
    struct scheduler *s = &w->schedulers[chance(w) % SCHEDULERS];

    w->next_kill = w->db.now + between(w, 2, 5) * SECOND;
    if (w->until - w->db.now < QUIET_US || s->dead || s->wakes > w->db.now)
        return;
    w->kills++;
    s->dead = chance(w) % 4 != 0; /* else it freezes */
    s->wakes = w->db.now + (s->dead ? between(w, 1, 6) : between(w, 1, 30)) * SECOND;
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
    w->next_trouble = w->db.now + between(w, 600, 7200) * SECOND;
    if (w->until - w->db.now < QUIET_US)
        return;
    if (chance(w) % 2 == 0) {
        w->away_until = w->db.now + between(w, 1, 600) * SECOND;
    } else {
        w->db.clock_off += between(w, -300, 300) * SECOND;
        if (w->db.clock_off > 600 * SECOND || w->db.clock_off < -600 * SECOND)
            w->db.clock_off = 0;
        w->jumps++;
    }
}

/* Everything from `since` on to `after_at` has been dealt with. */
static void check_gaps(struct world *w, size_t at)
{
    const struct watched *row = &w->watched[at];
    struct wall_us t = {row->since};

    while (schedule_next(&row->definition.when, t, &t) && t.us <= w->schedules[at].r.after.us)
        if (db_fired_at(&w->db, at, t.us)->schedule == 0)
            fail(w, "schedule %zu has left out the time %" PRId64, at, t.us);
}

static void define(struct world *w, size_t at)
{
    static const char *const when[] = {
        "\"every\":{\"interval\":\"%ds\"",
        "\"cron\":{\"expression\":\"* * * * *\"",
        "\"cron\":{\"expression\":\"*/15 * * * *\",\"timezone\":\"Asia/Kolkata\"",
        "\"cron\":{\"expression\":\"30 2 * * *\",\"timezone\":\"Europe/Berlin\"",
        "\"cron\":{\"expression\":\"0 * * * *\",\"timezone\":\"Australia/Lord_Howe\",\"dst_overlap\":\"twice\"",
        "\"cron\":{\"expression\":\"15 1 L * *\",\"timezone\":\"America/New_York\""};
    static const char *const overlaps[] = {"allow", "skip", "cancel_previous", "queue"};
    struct db_schedule *schedule = &w->schedules[at];
    size_t kind = at % (sizeof(when) / sizeof(when[0]));
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
    mem_free((void *)(uintptr_t)schedule->r.definition.ptr);
    schedule->r.definition = (struct str){mem_dup(text.ptr, text.len), text.len};
}

static void read_definition(struct world *w, size_t at)
{
    const struct fire_row *row = &w->schedules[at].r;

    if (!schedule_definition_read(row->definition, w->zones, row->anchor, on_fault, NULL, &w->watched[at].definition))
        fail(w, "schedule %zu cannot be read", at);
}

/* schedule_override.sql, schedule_pause.sql */
static void ask(struct world *w, size_t at)
{
    struct db_schedule *schedule = &w->schedules[at];
    bool pause = chance(w) % 2 == 0;
    int64_t clock = w->db.now + w->db.clock_off;

    check_gaps(w, at);
    if (pause)
        schedule->paused = !schedule->paused;
    else
        define(w, at);
    schedule->r.revision++;
    schedule->r.after.us = w->watched[at].since = clock;
    if (!pause)
        schedule->r.anchor.us = clock;
    schedule->r.due.us = schedule->paused ? 0 : clock;
    w->watched[at].last_start = 0;
    read_definition(w, at);
    w->asked++;
}

static void person(struct world *w)
{
    size_t at = chance(w) % SCHEDULES;

    w->next_person = w->db.now + between(w, 60, 1200) * SECOND;
    if (w->until - w->db.now > QUIET_US)
        ask(w, at);
    else if (w->schedules[at].paused)
        ask(w, at);
}

/* ---- a history ---- */

static void begin(struct world *w)
{
    w->db.all = w->schedules;
    w->db.count = SCHEDULES;
    w->db.starts = on_start;
    w->db.fault = on_model_fault;
    w->db.ctx = w;
    for (size_t i = 0; i < SCHEDULES; i++) {
        struct fire_row *row = &w->schedules[i].r;

        row->id = run_id_make((struct wall_us){BEGIN_US + (int64_t)i}, (unsigned)i);
        row->id_text = STR("schedule");
        row->workflow = row->trigger = STR("t");
        row->shard = (int16_t)(i % SHARDS);
        row->revision = 1;
        row->anchor.us = row->after.us = row->due.us = w->watched[i].since = w->db.now;
        define(w, i);
        read_definition(w, i);
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
        const struct db_schedule *s = &w->schedules[i];
        int64_t at = s->paused || s->r.due.us == 0 ? INT64_MAX : s->r.due.us - w->db.clock_off;

        if (s->r.waiting > 0 && !s->paused && w->db.now + SECOND < at)
            at = w->db.now + SECOND;
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
        int64_t at = s->dead || s->wakes > w->db.now ? s->wakes : s->next;

        if (!s->dead && s->wakes <= w->db.now && s->doing == IDLE && at < due)
            at = due;
        next = at < next ? at : next;
    }
    return next > w->db.now ? next : w->db.now + 1;
}

static void finish(struct world *w)
{
    for (size_t i = 0; i < SCHEDULES; i++) {
        const struct db_schedule *s = &w->schedules[i];

        check_gaps(w, i);
        if (!s->paused && s->r.due.us != 0 && s->r.due.us < w->db.now + w->db.clock_off - 60 * SECOND)
            fail(w, "schedule %zu is not looked at any more", i);
        mem_free((void *)(uintptr_t)s->r.definition.ptr);
    }
    for (int i = 0; i < SCHEDULERS; i++)
        forget(&w->schedulers[i]);
    zones_free(w->zones);
    mem_free(w->db.fired);
}

static void play(uint64_t seed, int64_t days)
{
    struct world *w = mem_alloc(sizeof(*w));

    w->seed = w->chance = seed;
    w->db.now = BEGIN_US;
    w->until = BEGIN_US + days * 86400 * SECOND;
    w->zones = zones_new(ZONEINFO_FOLDER);
    begin(w);
    w->next_trouble = w->db.now + 600 * SECOND;
    while (w->db.now < w->until) {
        w->db.now = next_event(w);
        for (int i = 0; i < SCHEDULERS; i++)
            if (w->schedulers[i].wakes != 0 && w->schedulers[i].wakes <= w->db.now)
                wake(w, i);
        look_at_leases(w);
        if (w->db.now >= w->next_kill)
            kill_one(w);
        if (w->db.now >= w->next_trouble)
            trouble(w);
        if (w->db.now >= w->next_person)
            person(w);
        for (int i = 0; i < SCHEDULERS; i++)
            if (lives(w, i) && w->schedulers[i].next <= w->db.now)
                step(w, i);
    }
    finish(w);
    printf("seed %" PRIu64 ", %d days: %" PRIu64 " runs, %" PRIu64 " skipped, %" PRIu64 " had waited; %" PRIu64
           " kills, %" PRIu64 " unknown commits, %" PRIu64 " refused to a former owner, %" PRIu64
           " doubles refused, %" PRIu64 " jumps of the clock, %" PRIu64 " changes by people: no gap, no double\n",
           seed, (int)days, w->starts, w->db.skipped, w->db.released, w->kills, w->unknown, w->stale,
           w->db.doubles_refused, w->jumps, w->asked);
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
