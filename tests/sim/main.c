/* rw-sim: plays histories; README.md. */
#include "tests/sim/script.h"
#include <inttypes.h>
#include <malloc.h>
#include <sys/random.h>

#include "common/base/log.h"

#include "common/base/banned.h"

static const char usage[] =
    "usage: rw-sim [--seconds S | --hours H | --histories N | --seed N] [--from N | --fresh] [--all] [--shrink]\n"
    "              [--log] [--late] [--without LIST] [--delays N] [--until MS] [--end S]\n"
    "       rw-sim --directed NAME [--histories N | --seed N [--noise]] [--log]\n"
    "       rw-sim --list\n";

struct options {
    struct play play;
    int64_t seconds, histories;
    bool one, log, all, shrink, list;
};

static _Noreturn void misuse(const char *why, const char *what)
{
    fprintf(stderr, "rw-sim: %s '%s'\n%s", why, what, usage);
    exit(2);
}

static int64_t number(const char *option, const char *text)
{
    int64_t n = 0;

    if (text == NULL || !parse_i64(str_of(text), 0, INT64_MAX, &n))
        misuse("no number follows", option);
    return n;
}

/* Of what time has: so many that microseconds of it can be counted. */
static int64_t span(const char *option, const char *text)
{
    int64_t n = number(option, text);

    if (n > INT32_MAX)
        misuse("too large a number follows", option);
    return n;
}

/* One that nobody has played; those behind it are nobody's either. ./check has it follow from the tree it tests: fresh
 * with each change, and a machine that finds a fault can be asked again, here or elsewhere. */
static uint64_t fresh_seed(void)
{
    const char *given = getenv("ROPEWALK_FRESH_SEED");
    uint64_t seed = 0;

    if (given != NULL)
        return (uint64_t)number("ROPEWALK_FRESH_SEED", given);
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        misuse("no fresh seed can be had for", "--fresh");
    return seed >> 8;
}

static bool flag(struct options *o, const char *name)
{
    if (strcmp(name, "--log") == 0)
        o->log = true;
    else if (strcmp(name, "--late") == 0)
        o->play.late = true;
    else if (strcmp(name, "--all") == 0)
        o->all = true;
    else if (strcmp(name, "--shrink") == 0)
        o->shrink = true;
    else if (strcmp(name, "--list") == 0)
        o->list = true;
    else if (strcmp(name, "--noise") == 0)
        o->play.noise = true;
    else if (strcmp(name, "--fresh") == 0)
        o->play.seed = fresh_seed();
    else
        return false;
    return true;
}

static void option(struct options *o, const char *name, const char *value)
{
    if (strcmp(name, "--seconds") == 0) {
        o->seconds = span(name, value);
    } else if (strcmp(name, "--hours") == 0) {
        o->seconds = 3600 * span(name, value);
    } else if (strcmp(name, "--histories") == 0) {
        o->seconds = INT32_MAX, o->histories = number(name, value);
    } else if (strcmp(name, "--from") == 0) {
        o->play.seed = (uint64_t)number(name, value);
    } else if (strcmp(name, "--seed") == 0) {
        o->one = true, o->play.seed = (uint64_t)number(name, value);
    } else if (strcmp(name, "--delays") == 0) {
        o->play.delays = (uint64_t)number(name, value);
    } else if (strcmp(name, "--until") == 0) {
        o->play.until_us = span(name, value) * MS;
    } else if (strcmp(name, "--end") == 0) {
        o->play.end_us = span(name, value) * SEC;
    } else if (strcmp(name, "--directed") == 0) {
        o->play.script = value == NULL ? NULL : script_find(value);
        if (o->play.script == NULL)
            misuse("no directed history (--list tells them) follows", name);
    } else if (strcmp(name, "--without") == 0) {
        if (value == NULL || !mask_parse(value, &o->play.without))
            misuse("no list of decisions (decisions.def) like 'crash,step:1-3' follows", name);
    } else {
        misuse("no such option", name);
    }
}

static void report_effects(const struct sim_stats *s)
{
    printf("effects repeated %" PRIu64, s->repeated);
    for (int kind = 0; kind < DECISIONS; kind++)
        if (s->repeated_by[kind] > 0)
            printf(", %s %" PRIu64, decision_names[kind], s->repeated_by[kind]);
    printf("\ndecided");
    for (int kind = 0; kind < DECISIONS; kind++)
        printf("%s %s %" PRIu64, kind == 0 ? "" : ",", decision_names[kind], s->happened[kind]);
    printf("\n");
}

static void report_operations(const struct sim_stats *s)
{
    static const char *const names[] = {
#define OPERATION(id, what) what,
#include "tests/sim/operations.def"
#undef OPERATION
    };

    printf("operations (within 5 s of a process's death):");
    for (int i = 0; i < OPERATIONS; i++)
        printf("%s %s %" PRIu64 " (%" PRIu64 ")", i == 0 ? "" : ",", names[i], s->operations[i], s->crashed[i]);
    printf("\n");
}

static void report(const struct sim_stats *s, double seconds, double cpu)
{
    printf("%" PRIu64 " histories in %.1f s: %.0f histories/s, %.0f a second of processor, %.0f events each\n",
           s->histories, seconds, (double)s->histories / seconds, (double)s->histories / cpu,
           (double)s->events / (double)s->histories);
    printf("runs %" PRIu64 ", commits %" PRIu64 ", conflicts %" PRIu64 ", fenced %" PRIu64 ", refused %" PRIu64
           ", unknown %" PRIu64 "\n",
           s->runs, s->commits, s->conflicts, s->fenced, s->refused, s->unknown);
    printf("crashes %" PRIu64 ", freezes %" PRIu64 ", outages %" PRIu64 ", duplicated messages %" PRIu64
           ", sends granted %" PRIu64 ", quarantined %" PRIu64 "\n",
           s->crashes, s->freezes, s->outages, s->duplicates, s->sends, s->quarantined);
    printf("dead letters %" PRIu64 ", released %" PRIu64 "\n", s->dead_letters, s->released);
    printf("children %" PRIu64 ", iterations %" PRIu64 ", signals %" PRIu64 ", actions %" PRIu64 ", settled %" PRIu64
           ", reopened %" PRIu64 "\n",
           s->children, s->items, s->signals, s->actions, s->settled, s->reopened);
    report_operations(s);
    report_effects(s);
    for (int i = RUN_SUCCEEDED; i <= RUN_COMPENSATION_FAILED; i++)
        printf("%s %" PRIu64 "%s", run_status_name((enum run_status)i), s->ended[i],
               i == RUN_COMPENSATION_FAILED ? "\n" : ", ");
}

static void tell_failure(const struct options *o, const struct play *play, const struct played *played)
{
    printf("seed %" PRIu64 ": %s\nreplay: rw-sim --seed %" PRIu64, play->seed, played->failure, play->seed);
    if (play->script != NULL)
        printf(" --directed %s%s", play->script->name, play->noise ? " --noise" : "");
    printf(" --log\n");
    if (o->shrink)
        (void)shrink(play);
}

static void list_one(void *ctx, const struct script *script)
{
    (void)ctx;
    printf("%s\n", script->name);
}

/* A directed history: every sixth time with nothing but other delays, when it must come to the end that is written
 * down; around the others there are faults of chance. */
static bool play_directed(const struct options *o, struct sim_stats *stats)
{
    int64_t times = o->play.script->lengthy ? (o->histories + 9) / 10 : o->histories;

    for (int64_t n = 0; n < times; n++) {
        struct play play = o->play;
        struct played played;

        play.seed += (uint64_t)n;
        play.noise = n % 6 != 0;
        sim_run(&play, stats, &played);
        if (!played.failed)
            continue;
        tell_failure(o, &play, &played);
        return false;
    }
    return true;
}

static bool play_all(const struct options *o, struct sim_stats *stats)
{
    struct mono_us begin = clock_mono();
    int64_t minutes = 1;
    bool failed = false;

    for (int64_t n = 0; n < o->histories; n++) {
        struct play play = o->play;
        struct played played;
        int64_t passed_us;

        play.seed += (uint64_t)n;
        sim_run(&play, stats, &played);
        passed_us = clock_mono().us - begin.us;
        if (played.failed) {
            tell_failure(o, &play, &played);
            failed = true;
            if (!o->all)
                break;
        }
        if (o->one || passed_us > o->seconds * SEC)
            break;
        if (passed_us < minutes * 60 * SEC)
            continue;
        printf("%" PRId64 " min: %" PRIu64 " histories, next seed %" PRIu64 ", %" PRIu64 " effects repeated%s\n",
               minutes++, stats->histories, play.seed + 1, stats->repeated, failed ? ", failures above" : "");
    }
    return !failed;
}

int main(int argc, char **argv)
{
    struct options o = {.seconds = 10, .histories = INT64_MAX, .play = {.seed = 1}};
    struct sim_stats stats = {0};
    struct mono_us begin;
    bool good;

    for (int i = 1; i < argc; i++) {
        if (flag(&o, argv[i]))
            continue;
        option(&o, argv[i], argv[i + 1]);
        i++;
    }
    /* What a history gives back the next one takes: not from the kernel each time, page by page. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 28);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 28);
    (void)mallopt(M_TOP_PAD, 1 << 24);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    log_init("sim", "sim", o.log ? LOG_DEBUG : (enum log_level)(LOG_ERROR + 1));
    o.play.verbose = o.log;
    if (o.list) {
        script_each(list_one, NULL);
        return 0;
    }
    if (!o.one)
        printf("seeds from %" PRIu64 "\n", o.play.seed);
    begin = clock_mono();
    good = o.play.script != NULL && !o.one ? play_directed(&o, &stats) : play_all(&o, &stats);
    report(&stats, (double)(clock_mono().us - begin.us) / 1e6, (double)clock() / CLOCKS_PER_SEC);
    return good ? 0 : 1;
}
