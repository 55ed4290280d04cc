/* Chance, which is none: it follows from the seed; and what a history has to say of itself. */
#include "tests/sim/sim.h"
#include <stdarg.h>

#include "common/base/banned.h"

uint64_t rng_next(struct rng *rng)
{
    uint64_t z = (rng->s += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint32_t rng_below(struct rng *rng, uint32_t n)
{
    return (uint32_t)(rng_next(rng) % n);
}

bool rng_chance(struct rng *rng, uint32_t of_ten_thousand)
{
    return rng_next(rng) % 10000 < of_ten_thousand;
}

int64_t rng_between(struct rng *rng, int64_t low, int64_t high)
{
    return low >= high ? low : low + (int64_t)(rng_next(rng) % (uint64_t)(high - low + 1));
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    char text[sizeof(sim->failure)];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!sim->failed) /* the first is the one that counts */
        memcpy(sim->failure, text, sizeof(text));
    sim->failed = true;
}

void sim_trace_line(struct sim *sim, const char *format, ...)
{
    char text[2048];
    va_list args;

    if (sim->traced++ < sim->play->trace_skip)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)fprintf(stderr, "%10.6f %s\n", (double)sim->now / 1e6, text);
}
