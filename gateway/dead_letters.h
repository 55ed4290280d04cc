/* A dead letter as its row has it. Loop thread only. */
#pragma once
#include "gateway/call.h"

struct letter {
    struct run_id id, run, ancestor;
    struct wall_us at, decided_at;
    struct str kind, source, step, reason, type, message_id, status, decided_by; /* STR_NONE: not known, none */
    bool has_run, has_ancestor;
    bool named;                         /* an organisation; else it is the installation's */
    int64_t bytes;                      /* of the whole message; the body may be its beginning only */
    struct str body, base64, corrected; /* only of one that was asked for by its id */
};

/* Row of dead_letter_list, with `whole` of dead_letter_get. Text is the result's. */
struct letter letter_of(const struct pg_result *rows, size_t row, bool whole);
void letter_json(const struct call *call, const struct letter *letter, bool whole, struct jw *w);
/* The path parameter; false: the call has been answered 404. */
bool letter_id(struct call *call, struct run_id *ret);
/* Letters that name no organisation are the business of the first one's admins. */
bool letter_may_unnamed(const struct call *call);
/* Answers with the letter: it is as it was asked for. */
void letter_answer(struct call *call, const struct letter *letter);
/* Answers 409: it is not open any more, but what it is now was not asked for. */
void letter_decided(struct call *call, const struct letter *letter);
