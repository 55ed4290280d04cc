/* rw-sim: plays histories. rw-sim --seconds S [--from N]; rw-sim --histories N; rw-sim --seed N replays one. With --all
 * it goes on after a history that failed. */
#include "tests/sim/sim.h"
#include <inttypes.h>

#include "common/base/log.h"

#include "common/base/banned.h"

static int64_t number(const char *text)
{
    int64_t n = 0;

    if (text == NULL || !parse_i64(str_of(text), 0, INT64_MAX, &n)) {
        fprintf(stderr, "usage: rw-sim [--seconds S | --histories N | --seed N] [--from N] [--log] [--late] [--all]\n");
        exit(2);
    }
    return n;
}

static void report(const struct sim_stats *s, double seconds)
{
    printf("%" PRIu64 " histories in %.1f s: %.0f histories/s, %.0f events/s\n", s->histories, seconds,
           (double)s->histories / seconds, (double)s->events / seconds);
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
    for (int i = RUN_SUCCEEDED; i <= RUN_COMPENSATION_FAILED; i++)
        printf("%s %" PRIu64 "%s", run_status_name((enum run_status)i), s->ended[i],
               i == RUN_COMPENSATION_FAILED ? "\n" : ", ");
}

int main(int argc, char **argv)
{
    int64_t seconds = 10, histories = INT64_MAX, from = 1;
    bool one = false, log = false, late = false, all = false, failed = false;
    struct sim_stats stats = {0};
    struct mono_us begin;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seconds") == 0)
            seconds = number(argv[++i]);
        else if (strcmp(argv[i], "--histories") == 0)
            seconds = 1000000, histories = number(argv[++i]);
        else if (strcmp(argv[i], "--from") == 0)
            from = number(argv[++i]);
        else if (strcmp(argv[i], "--seed") == 0)
            one = true, from = number(argv[++i]);
        else if (strcmp(argv[i], "--log") == 0)
            log = true;
        else if (strcmp(argv[i], "--late") == 0)
            late = true;
        else if (strcmp(argv[i], "--all") == 0)
            all = true;
        else
            number(NULL);
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    log_init("sim", "sim", log ? LOG_DEBUG : (enum log_level)(LOG_ERROR + 1));
    begin = clock_mono();
    for (int64_t n = 0; n < histories; n++) {
        char failure[1024];

        if (!sim_run((uint64_t)(from + n), log, late, &stats, failure)) {
            printf("seed %" PRId64 ": %s\nreplay: rw-sim --seed %" PRId64 " --log\n", from + n, failure, from + n);
            failed = true;
            if (!all)
                return 1;
        }
        if (one || clock_mono().us - begin.us > seconds * US_PER_S)
            break;
    }
    report(&stats, (double)(clock_mono().us - begin.us) / 1e6);
    return failed ? 1 : 0;
}
