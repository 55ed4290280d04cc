/* Reduces a history that fails to a short one that fails the same way: whole kinds of decisions are left out, then
 * halves of what is left, quarters, ... down to single ones; faults end earlier. What is left out changes what happens
 * around it, so each attempt is made with several courses of delays. */
#include "tests/sim/script.h"
#include <inttypes.h>

#include "common/base/banned.h"

#define TRIES_MAX 60000
#define TIME_MAX_US (60 * US_PER_S)
#define LINES_SHOWN 100
#define PATIENCE_US (1200 * SEC)

struct shrinker {
    struct play play; /* the best so far */
    struct played best;
    char same[1024]; /* what its failure says, without names and numbers */
    struct sim_stats stats;
    uint64_t tries;
    struct mono_us begun;
};

/* The sentence with '#' for each word that has a digit, a quote or a bracket: those name runs, steps and values. */
static void sentence(const char *failure, char ret[1024])
{
    size_t len = 0;

    while (*failure != '\0' && len + 2 < 1024) {
        size_t word = strcspn(failure, " ");
        bool named = strcspn(failure, "0123456789'\"[{") < word;

        if (named)
            ret[len++] = '#';
        for (size_t i = 0; !named && i < word && len + 2 < 1024; i++)
            ret[len++] = failure[i];
        failure += word;
        if (*failure == ' ') {
            ret[len++] = ' ';
            failure++;
        }
    }
    ret[len] = '\0';
}

static bool fails_alike(struct shrinker *s, const struct play *play, struct played *ret)
{
    char said[1024];

    s->tries++;
    sim_run(play, &s->stats, ret);
    if (!ret->failed)
        return false;
    sentence(ret->failure, said);
    return strcmp(said, s->same) == 0;
}

static bool spent(const struct shrinker *s)
{
    return s->tries >= TRIES_MAX || clock_mono().us - s->begun.us > TIME_MAX_US;
}

/* Does it fail alike, in one of so many courses? Then it is the best so far. */
static bool adopt(struct shrinker *s, const struct play *candidate, uint32_t courses)
{
    for (uint32_t i = 0; i < courses && !spent(s); i++) {
        struct play play = *candidate;
        struct played played;

        if (i > 0)
            play.delays = s->tries;
        if (!fails_alike(s, &play, &played))
            continue;
        s->play = play;
        s->best = played;
        return true;
    }
    return false;
}

static bool leave_out_kinds(struct shrinker *s)
{
    bool any = false;

    for (int kind = 0; kind < DECISIONS; kind++) {
        struct play play = s->play;

        if (play.without.all[kind] || kind == DECIDE_RUN || kind == DECIDE_STEP || s->best.asked[kind] == 0)
            continue;
        play.without.all[kind] = true;
        any |= adopt(s, &play, 24);
    }
    return any;
}

/* Numbers [from, to) of the kind; false: there is nothing of them, or the history needs them. */
static bool leave_out(struct shrinker *s, int kind, uint32_t from, uint32_t to, uint32_t courses)
{
    struct play play = s->play;
    bool any = false;

    for (uint32_t n = from; n < to; n++) {
        any |= !mask_has(&play.without, (enum decision)kind, n);
        mask_set(&play.without, (enum decision)kind, n, true);
    }
    return any && adopt(s, &play, courses);
}

static bool leave_out_some(struct shrinker *s, int kind)
{
    bool any = false;
    uint32_t asked = s->best.asked[kind] < MASK_BITS ? s->best.asked[kind] : MASK_BITS;

    for (uint32_t size = asked; size > 0; size /= 2)
        for (uint32_t from = 0; from < asked && from < s->best.asked[kind] && !spent(s); from += size)
            any |= leave_out(s, kind, from, from + size < asked ? from + size : asked, size == 1 ? 8 : 4);
    return any;
}

static bool end_earlier(struct shrinker *s)
{
    bool any = false;
    struct play play = s->play;

    for (play.until_us = play.until_us > 0 ? play.until_us / 2 : 32 * SEC; play.until_us > MS; play.until_us /= 2) {
        play.until_us -= play.until_us % MS; /* as it will be printed */
        if (!adopt(s, &play, 8))
            return any;
        play = s->play;
        any = true;
    }
    return any;
}

/* Of many courses of what is left, the one in which the least happens. */
static void choose_course(struct shrinker *s)
{
    for (uint32_t i = 0; i < 300 && !spent(s); i++) {
        struct play play = s->play;
        struct played played;

        play.delays = s->tries;
        if (!fails_alike(s, &play, &played) || played.events >= s->best.events)
            continue;
        s->play = play;
        s->best = played;
    }
}

/* What happened last in it, line by line on stderr. */
static void print_end(struct shrinker *s)
{
    struct play play = s->play;
    struct played played;

    play.verbose = true;
    play.trace_skip = UINT64_MAX;
    sim_run(&play, &s->stats, &played);
    play.trace_skip = played.traced > LINES_SHOWN ? played.traced - LINES_SHOWN : 0;
    sim_run(&play, &s->stats, &played);
}

static void print_command(const struct shrinker *s)
{
    printf("replay: rw-sim --seed %" PRIu64, s->play.seed);
    if (s->play.script != NULL)
        printf(" --directed %s%s", s->play.script->name, s->play.noise ? " --noise" : "");
    if (s->play.delays != 0)
        printf(" --delays %" PRIu64, s->play.delays);
    if (s->play.until_us != 0)
        printf(" --until %" PRId64, s->play.until_us / MS);
    if (s->play.end_us != 0)
        printf(" --end %" PRId64, s->play.end_us / SEC);
    if (s->play.late)
        printf(" --late");
    mask_print(&s->play.without, s->best.asked);
    printf(" --log\n");
}

bool shrink(const struct play *play)
{
    static struct shrinker storage;
    struct shrinker *s = &storage;
    struct played first;
    bool more = true;

    *s = (struct shrinker){.play = *play, .begun = clock_mono()};
    s->play.verbose = false;
    sim_run(&s->play, &s->stats, &first);
    if (!first.failed)
        return false;
    sentence(first.failure, s->same);
    s->best = first;
    if (s->play.end_us == 0) { /* one that comes to no end is not waited for as long each time */
        struct play hasty = s->play;

        hasty.end_us = PATIENCE_US;
        hasty.without.all[DECIDE_JUMP] = true;
        (void)adopt(s, &hasty, 24);
    }
    while (more && !spent(s)) {
        more = leave_out_kinds(s);
        for (int kind = 0; kind < DECISIONS; kind++)
            more |= !s->play.without.all[kind] && leave_out_some(s, kind);
        more |= end_earlier(s);
    }
    choose_course(s);
    print_end(s);
    printf("shrunk in %" PRIu64 " tries: %s\n", s->tries, s->best.failure);
    printf("kept %" PRIu32 " of %" PRIu32 " decisions, %" PRIu64 " of %" PRIu64 " rows of history, %" PRIu64
           " of %" PRIu64 " events of the simulation\n",
           s->best.made, first.made, s->best.rows, first.rows, s->best.events, first.events);
    print_command(s);
    return true;
}
