/* Pages of lists. */
#include "gateway/page.h"
#include "gateway/route.h"

#include "common/base/banned.h"

#define PAGE_DEFAULT 50
#define PAGE_MAX 500
#define PAGE_BYTES_MAX ((size_t)256 << 20)
#define CHECK_BYTES 4

static void check_of(const struct call *call, struct str cursor, uint8_t ret[32])
{
    CLEANUP(buf_deinit) struct buf text = {0};

    buf_init(&text, 1 << 20);
    buf_printf(&text, "%d %s", (int)call->caller.organisation, call->route->pattern);
    for (size_t i = 0; i < CALL_PARAMS && call->params[i].ptr != NULL; i++)
        buf_printf(&text, "\n" STR_FMT, STR_ARG(call->params[i]));
    for (size_t i = 0; i < call->query_count; i++)
        if (!str_is(call->query[i].name, "page_token") && !str_is(call->query[i].name, "page_size"))
            buf_printf(&text, "\n" STR_FMT "=" STR_FMT, STR_ARG(call->query[i].name), STR_ARG(call->query[i].value));
    buf_append_char(&text, '\n');
    buf_append_str(&text, cursor);
    sha256(buf_str(&text), ret);
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Hex of check sum and cursor. */
static bool read_token(const struct call *call, struct str token, struct str *ret)
{
    size_t len = token.len / 2;
    char *bytes = arena_alloc(call->arena, len + 1);
    uint8_t check[32];

    if (token.len % 2 != 0 || len < CHECK_BYTES || len > 4096)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = nibble(token.ptr[2 * i]), low = nibble(token.ptr[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        bytes[i] = (char)(high * 16 + low);
    }
    *ret = (struct str){bytes + CHECK_BYTES, len - CHECK_BYTES};
    check_of(call, *ret, check);
    return memcmp(check, bytes, CHECK_BYTES) == 0;
}

static void free_buf(void *buf)
{
    buf_deinit(buf);
}

struct page *page_open(struct call *call)
{
    struct page *page = arena_alloc(call->arena, sizeof(*page));
    struct str size = call_query(call, "page_size"), token = call_query(call, "page_token");
    uint32_t n = PAGE_DEFAULT;

    page->call = call;
    if (size.ptr != NULL && !parse_u32(size, 1, PAGE_MAX, &n)) {
        call_problem(call, 400, "bad_query", "page_size is a number from 1 to 500");
        return NULL;
    }
    page->size = n;
    if (token.ptr != NULL && !read_token(call, token, &page->after)) {
        call_problem(call, 400, "bad_page_token", "the page_token is not one that this list gave");
        return NULL;
    }
    buf_init(&page->out, PAGE_BYTES_MAX);
    arena_defer(call->arena, free_buf, &page->out);
    return page;
}

void page_begin(struct page *page)
{
    page->w = jw_to(&page->out);
    jw_obj(&page->w);
    jw_key(&page->w, "items");
    jw_arr(&page->w);
}

bool page_more(const struct page *page)
{
    return page->given < page->size;
}

void page_cursor(struct page *page, struct str text)
{
    page->given++;
    page->cursor = text;
}

void page_end(struct page *page, size_t rows)
{
    jw_end_arr(&page->w);
    jw_key(&page->w, "next_page_token");
    if (rows > page->given && page->given > 0) {
        uint8_t check[32];
        char *hex = arena_alloc(page->call->arena, 2 * (page->cursor.len + CHECK_BYTES) + 1);

        check_of(page->call, page->cursor, check);
        hex_encode(check, CHECK_BYTES, hex);
        hex_encode(page->cursor.ptr, page->cursor.len, hex + (size_t)2 * CHECK_BYTES);
        jw_cstr(&page->w, hex);
    } else {
        jw_null(&page->w);
    }
    jw_end_obj(&page->w);
    call_json(page->call, 200, buf_str(&page->out));
}

void page_answer(struct page *page, const struct pg_outcome *outcome, page_row_fn put)
{
    const struct pg_result *rows;

    if (!call_committed(page->call, outcome))
        return;
    rows = outcome->results[0];
    page_begin(page);
    for (size_t i = 0; i < pg_rows(rows) && page_more(page); i++)
        put(page, rows, i);
    page_end(page, pg_rows(rows));
}

void page_ask_by_name(struct call *call, const char *sql, void (*done)(void *ctx, const struct pg_outcome *outcome))
{
    struct page *page = page_open(call);
    struct pg_batch *batch;

    if (page == NULL)
        return;
    batch = call_batch(call, false);
    pg_add(batch, sql, pg_text(page->after.ptr == NULL ? STR("") : page->after), pg_i32((int32_t)page->size + 1));
    pg_submit(gateway_read(call->gw), batch, done, page);
}
