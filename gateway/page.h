/* Pages of lists: page_size (50, at most 500), page_token, {"items", "next_page_token"}. A token is a cursor with a
 * check sum over the route and the query it belongs to, so that it cannot be used for another list. Queries ask for one
 * row more than the page holds. */
#pragma once
#include "gateway/call.h"

struct page {
    struct call *call;
    size_t size, given;
    struct str after; /* the cursor, STR_NONE on the first page */
    struct buf out;
    struct jw w;
    struct str cursor; /* of the last row given */
};

/* NULL: answered (bad page_size or page_token). The page is the call's. */
struct page *page_open(struct call *call);
void page_begin(struct page *page);
bool page_more(const struct page *page);              /* room for another row? */
void page_cursor(struct page *page, struct str text); /* the row just written: where the next page goes on */
void page_end(struct page *page, size_t rows);        /* rows there were; answers */
/* All of it for a list that is one statement: `put` writes what stands for a row, and its cursor. */
typedef void (*page_row_fn)(struct page *page, const struct pg_result *rows, size_t row);
void page_answer(struct page *page, const struct pg_outcome *outcome, page_row_fn put);
/* Asks for the page of a list by name: $1 text names above this one  $2 int4 how many. `done` gets the page. */
void page_ask_by_name(struct call *call, const char *sql, void (*done)(void *ctx, const struct pg_outcome *outcome));
