/* Organisations whose programs overstepped lately: three times in a minute earn a child of their own. */
#include "common/expr/sandbox_internal.h"

#include "common/base/banned.h"

#define STRIKE_WINDOW_MS 60000U
#define FORGIVEN_MS 300000U

static struct sandbox_offender *find(struct sandbox_orgs *orgs, int32_t organisation)
{
    for (size_t i = 0; i < orgs->count; i++) {
        if (orgs->items[i].organisation == organisation)
            return &orgs->items[i];
    }
    return NULL;
}

static void drop(struct sandbox_orgs *orgs, struct sandbox_offender *offender)
{
    if (offender->own >= 0)
        orgs->owners[offender->own]--;
    *offender = orgs->items[--orgs->count];
}

/* When there is no room the one with the oldest strike is forgiven early. */
static struct sandbox_offender *add(struct sandbox_orgs *orgs, int32_t organisation)
{
    if (orgs->count == SANDBOX_OFFENDERS_MAX) {
        struct sandbox_offender *oldest = &orgs->items[0];

        for (size_t i = 1; i < orgs->count; i++) {
            if (orgs->items[i].strikes_ms[0] < oldest->strikes_ms[0])
                oldest = &orgs->items[i];
        }
        drop(orgs, oldest);
    }
    orgs->items[orgs->count] = (struct sandbox_offender){.organisation = organisation, .own = -1};
    return &orgs->items[orgs->count++];
}

static int least_owned(const struct sandbox_orgs *orgs)
{
    int best = 0;

    for (int i = 1; i < SANDBOX_EXTRA_SLOTS; i++) {
        if (orgs->owners[i] < orgs->owners[best])
            best = i;
    }
    return best;
}

void sandbox_orgs_strike(struct sandbox_orgs *orgs, int32_t organisation, uint64_t now_ms)
{
    struct sandbox_offender *offender = find(orgs, organisation);
    uint64_t first;

    if (offender == NULL)
        offender = add(orgs, organisation);
    memmove(&offender->strikes_ms[1], &offender->strikes_ms[0],
            sizeof(offender->strikes_ms[0]) * (SANDBOX_STRIKES - 1));
    offender->strikes_ms[0] = now_ms;
    first = offender->strikes_ms[SANDBOX_STRIKES - 1];
    if (offender->own >= 0 || first == 0 || now_ms - first > STRIKE_WINDOW_MS)
        return;
    offender->own = least_owned(orgs);
    orgs->owners[offender->own]++;
}

int sandbox_orgs_own(const struct sandbox_orgs *orgs, int32_t organisation)
{
    const struct sandbox_offender *offender = find((struct sandbox_orgs *)orgs, organisation);

    return offender == NULL ? -1 : offender->own;
}

void sandbox_orgs_sweep(struct sandbox_orgs *orgs, uint64_t now_ms)
{
    for (size_t i = orgs->count; i-- > 0;) {
        if (now_ms - orgs->items[i].strikes_ms[0] > FORGIVEN_MS)
            drop(orgs, &orgs->items[i]);
    }
}

unsigned sandbox_orgs_with_own(const struct sandbox_orgs *orgs)
{
    unsigned count = 0;

    for (size_t i = 0; i < orgs->count; i++)
        count += orgs->items[i].own >= 0 ? 1 : 0;
    return count;
}
