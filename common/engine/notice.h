/* Notices: what others are told of a run when it happens, as CloudEvents 1.0. Which events are told, and what is said,
 * is a pure function of the event and what it is of; so the same event makes the same notice, however often and by
 * whomever it is made. */
#pragma once
#include "common/engine/engine.h"

enum notice {
    NOTICE_NONE,
#define NOTICE(id, type, sentence) NOTICE_##id,
#include "common/engine/notice.def"
#undef NOTICE
    NOTICE_COUNT
};

/* Of the event; NOTICE_NONE: it is nothing that others are told. */
enum notice notice_of(const struct event *event);
const char *notice_type(enum notice notice);
enum notice notice_find(struct str type); /* NOTICE_NONE: there is none */

/* "RUN-000012": the run and the place in its history. Ids of a run sort as its events do, runs as they were made. */
#define NOTICE_ID_SIZE 48
void notice_id(struct run_id run, uint32_t seq, char ret[NOTICE_ID_SIZE]);

struct notice_source {
    const char *organisation;
    struct str workflow;
    int32_t version;
    const struct run_state *run;
};
/* Appends the CloudEvent, structured mode. No input, no output, no message: these may hold what is nobody's business.
 */
void notice_write(const struct notice_source *source, const struct event *event, struct buf *out);
/* The CloudEvent that tries an endpoint: of type "ropewalk.test". */
#define NOTICE_TEST "ropewalk.test"
void notice_write_test(const char *organisation, struct str endpoint, struct str id, struct wall_us at,
                       struct buf *out);
