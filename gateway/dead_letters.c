/* Messages, commands and tasks that could not be used, as the scheduler wrote them down: listed, shown, put away. */
#include "gateway/dead_letters.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)32 << 20)
#define CURSOR_SIZE (UUID_TEXT_SIZE + 24)
#define LATER_THAN_ALL INT64_C(253402300799000000) /* the end of the year 9999 */

struct letter letter_of(const struct pg_result *rows, size_t row, bool whole)
{
    struct letter letter = {.id = pg_get_uuid(rows, row, 0),
                            .at = pg_get_time(rows, row, 1),
                            .kind = pg_get_str(rows, row, 2),
                            .source = pg_get_str(rows, row, 3),
                            .has_run = !pg_is_null(rows, row, 4),
                            .step = pg_get_str(rows, row, 5),
                            .reason = pg_get_str(rows, row, 6),
                            .bytes = pg_get_int(rows, row, 7),
                            .type = pg_get_str(rows, row, 8),
                            .message_id = pg_get_str(rows, row, 9),
                            .status = pg_get_str(rows, row, 10),
                            .has_ancestor = !pg_is_null(rows, row, 11),
                            .decided_at = pg_get_time(rows, row, 12),
                            .decided_by = pg_get_str(rows, row, 13),
                            .named = pg_get_bool(rows, row, 14)};

    if (letter.has_run)
        letter.run = pg_get_uuid(rows, row, 4);
    if (letter.has_ancestor)
        letter.ancestor = pg_get_uuid(rows, row, 11);
    if (whole) {
        letter.body = pg_get_str(rows, row, 15);
        letter.base64 = pg_get_str(rows, row, 16);
        letter.corrected = pg_get_str(rows, row, 17);
    }
    return letter;
}

static bool is_text(struct str s)
{
    for (size_t at = 0, len; at < s.len; at += len) {
        len = s.ptr[at] == '\0' ? 0 : utf8_len_at(s.ptr + at, s.len - at);
        if (len == 0)
            return false;
    }
    return true;
}

static void put_body(struct jw *w, const struct letter *letter)
{
    bool text = is_text(letter->body);

    jw_kstr(w, "body", text ? letter->body : letter->base64);
    jw_kcstr(w, "encoding", text ? "utf-8" : "base64");
    jw_kbool(w, "truncated", (size_t)letter->bytes > letter->body.len);
    jw_kstr(w, "corrected", letter->corrected);
}

void letter_json(const struct call *call, const struct letter *letter, bool whole, struct jw *w)
{
    jw_obj(w);
    jw_krun(w, "id", letter->id);
    jw_ktime(w, "at", letter->at);
    jw_kcstr(w, "organisation", letter->named ? call->caller.organisation_name : NULL);
    jw_kstr(w, "kind", letter->kind);
    jw_kstr(w, "source", letter->source);
    jw_key(w, "properties");
    jw_obj(w);
    jw_kstr(w, "type", letter->type);
    jw_kstr(w, "message_id", letter->message_id);
    jw_end_obj(w);
    if (letter->has_run)
        jw_krun(w, "run_id", letter->run);
    else
        jw_kcstr(w, "run_id", NULL);
    jw_kstr(w, "step", letter->step);
    jw_kstr(w, "reason", letter->reason);
    jw_ki64(w, "bytes", letter->bytes);
    jw_kstr(w, "status", letter->status);
    if (letter->has_ancestor)
        jw_krun(w, "ancestor", letter->ancestor);
    else
        jw_kcstr(w, "ancestor", NULL);
    jw_ktime(w, "decided_at", letter->decided_at);
    jw_kstr(w, "decided_by", letter->decided_by);
    if (whole)
        put_body(w, letter);
    jw_end_obj(w);
}

bool letter_id(struct call *call, struct run_id *ret)
{
    if (run_id_parse(call->params[0], ret))
        return true;
    call_problem(call, 404, "not_found", "there is no such dead letter");
    return false;
}

bool letter_may_unnamed(const struct call *call)
{
    return call->caller.organisation == FIRST_ORGANISATION && call->caller.role == ROLE_ADMIN;
}

void letter_answer(struct call *call, const struct letter *letter)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    letter_json(call, letter, true, &w);
    call_json(call, 200, buf_str(&body));
}

void letter_decided(struct call *call, const struct letter *letter)
{
    char at[WALL_TEXT_SIZE];
    bool requeued = str_is(letter->status, "requeued");

    wall_format(letter->decided_at, at);
    call_problemf(call, 409, requeued ? "already_requeued" : "already_discarded",
                  "the dead letter was %s at %s by " STR_FMT "%s", requeued ? "requeued" : "discarded", at,
                  STR_ARG(letter->decided_by),
                  requeued && letter->corrected.ptr != NULL ? ", with a corrected body" : "");
}

/* ---- list ---- */

static void put_letter(struct page *page, const struct pg_result *rows, size_t row)
{
    struct letter letter = letter_of(rows, row, false);
    char *cursor = arena_alloc(page->call->arena, CURSOR_SIZE);
    char id[UUID_TEXT_SIZE];

    letter_json(page->call, &letter, false, &page->w);
    run_id_format(letter.id, id);
    snprintf(cursor, CURSOR_SIZE, "%s/%lld", id, (long long)letter.at.us);
    page_cursor(page, str_of(cursor));
}

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    page_answer(ctx, outcome, put_letter);
}

/* "id/microseconds" of the last letter given; false: answered. */
static bool read_cursor(const struct page *page, struct run_id *ret_id, struct wall_us *ret_at)
{
    struct str rest = page->after, id;

    memset(ret_id->bytes, 0xff, sizeof(ret_id->bytes));
    ret_at->us = LATER_THAN_ALL;
    if (rest.ptr == NULL)
        return true;
    id = str_cut(&rest, '/');
    if (run_id_parse(id, ret_id) && parse_i64(rest, 1, INT64_MAX, &ret_at->us))
        return true;
    call_problem(page->call, 400, "bad_page_token", "the page_token is not one that this list gave");
    return false;
}

void route_dead_letter_list(struct call *call)
{
    struct page *page = page_open(call);
    struct str status = call_query(call, "status"), reason = call_query(call, "reason");
    struct run_id before;
    struct wall_us at;
    struct pg_batch *batch;

    if (page == NULL || !read_cursor(page, &before, &at))
        return;
    if (status.ptr != NULL && !str_is(status, "open") && !str_is(status, "requeued") && !str_is(status, "discarded")) {
        call_problem(call, 400, "bad_query", "status is open, requeued or discarded");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_DEAD_LETTER_LIST, pg_time(at), pg_uuid(before), pg_i32((int32_t)page->size + 1),
           pg_bool(letter_may_unnamed(call)), pg_text(status), pg_text(reason));
    pg_submit(gateway_read(call->gw), batch, on_listed, page);
}

/* ---- one ---- */

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    struct letter letter;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem(call, 404, "not_found", "there is no such dead letter");
        return;
    }
    letter = letter_of(outcome->results[0], 0, true);
    letter_answer(call, &letter);
}

void route_dead_letter_get(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;

    if (!letter_id(call, &id))
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_DEAD_LETTER_GET, pg_uuid(id), pg_bool(letter_may_unnamed(call)));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}

/* ---- put away ---- */

static void on_discarded(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    struct letter letter;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[1]) == 0) {
        call_problem(call, 404, "not_found", "there is no such dead letter");
        return;
    }
    letter = letter_of(outcome->results[1], 0, true);
    if (str_is(letter.status, "discarded"))
        letter_answer(call, &letter);
    else
        letter_decided(call, &letter);
}

void route_dead_letter_discard(struct call *call)
{
    bool unnamed = letter_may_unnamed(call);
    struct pg_batch *batch;
    struct run_id id;
    struct str body;

    if (!letter_id(call, &id) || !call_body_object(call, "", &body))
        return;
    batch = call_batch(call, true);
    pg_add(batch, SQL_DEAD_LETTER_DISCARD, pg_uuid(id), pg_bool(unnamed), pg_text(str_of(call->caller.prefix)));
    pg_add(batch, SQL_DEAD_LETTER_GET, pg_uuid(id), pg_bool(unnamed));
    pg_submit(call->gw->writes, batch, on_discarded, call);
}
