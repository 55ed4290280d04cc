/* What others are told of runs: rows of the transaction that writes the events, for organisations that want them. */
#include "scheduler/core/core_internal.h"
#include "common/engine/notice.h"

#include "common/base/banned.h"

#define NOTICE_MAX ((size_t)64 << 10) /* names and paths are bounded; escaped six bytes each */

/* What is read later may be what was true before: the count only grows. */
void org_note_outgoing(struct org *org, int32_t outgoing)
{
    if (outgoing > org->outgoing)
        org->outgoing = outgoing;
}

/* Odd: somebody is told. */
static bool somebody_is_told(const struct work *work)
{
    return work->entry != NULL && work->entry->org != NULL && (work->entry->org->outgoing & 1) != 0;
}

size_t notices_most(const struct work *work)
{
    return somebody_is_told(work) ? work->fx.event_count : 0;
}

size_t notices_add(const struct work *work, struct arena *arena, struct sched_notice *ret)
{
    const struct run_entry *entry = work->entry;
    CLEANUP(buf_deinit) struct buf text = {0};
    size_t count = 0;

    if (!somebody_is_told(work))
        return 0;
    buf_init(&text, NOTICE_MAX);
    for (size_t i = 0; i < work->fx.event_count; i++) {
        const struct event *event = &work->fx.events[i];
        enum notice notice = notice_of(event);

        if (notice == NOTICE_NONE)
            continue;
        buf_reset(&text);
        notice_write(&(struct notice_source){entry->org->name, entry->plan->workflow, entry->plan->version, entry->run},
                     event, &text);
        ENSURE(!text.overflow);
        ret[count++] = (struct sched_notice){.organisation = entry->run->organisation,
                                             .run = entry->id,
                                             .seq = event->seq,
                                             .type = notice_type(notice),
                                             .at = event->at,
                                             .workflow = entry->plan->workflow,
                                             .body = str_arena(arena, buf_str(&text))};
    }
    return count;
}
