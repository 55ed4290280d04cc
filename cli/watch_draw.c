/* The picture of a run on a terminal: a tree of steps with marks, states and times, and a bar. Drawn whole over the
 * picture before, in one write; when the terminal is too low for it, only what is under way or went wrong is shown. */
#include "cli/watch.h"
#include "cli/terminal.h"

#include "common/base/banned.h"

#define BAR_WIDTH 30
#define PICTURE_MAX ((size_t)1 << 20)
#define ANCESTORS_MAX 16 /* watch.c draws nothing deeper */

struct mark {
    const char *text, *colour;
};

static struct mark mark_of(const struct watch_step *step)
{
    if (strcmp(step->status, "succeeded") == 0)
        return (struct mark){"✓", "\033[32m"};
    if (strcmp(step->status, "skipped") == 0 || strcmp(step->status, "cancelled") == 0)
        return (struct mark){"–", "\033[90m"};
    if (watch_step_ended(step))
        return (struct mark){"✗", "\033[31m"};
    if (strcmp(step->status, "pending") == 0)
        return (struct mark){"·", "\033[90m"};
    return (struct mark){"●", "\033[33m"};
}

static bool is_last_child(const struct watch *w, size_t at)
{
    for (size_t i = at + 1; i < w->count; i++) {
        if (w->steps[i].parent == w->steps[at].parent)
            return false;
    }
    return true;
}

/* "│  └─ " of a step: for each ancestor that has a branch of its own, whether more of its siblings follow. */
static void put_branches(const struct watch *w, size_t at, struct buf *line)
{
    size_t ancestors[ANCESTORS_MAX];
    size_t count = 0;

    if (w->steps[at].parent < 0)
        return;
    for (int up = w->steps[at].parent; w->steps[up].parent >= 0 && count < ANCESTORS_MAX; up = w->steps[up].parent)
        ancestors[count++] = (size_t)up;
    while (count > 0)
        buf_append_str(line, is_last_child(w, ancestors[--count]) ? STR("   ") : STR("│  "));
    buf_append_str(line, is_last_child(w, at) ? STR("└─ ") : STR("├─ "));
}

static void pad_to(struct buf *line, size_t column)
{
    for (size_t n = terminal_columns(buf_str(line)); n < column; n++)
        buf_append_char(line, ' ');
}

static void put_step(const struct watch *w, size_t at, size_t name_width, size_t columns, struct buf *out)
{
    const struct watch_step *step = &w->steps[at];
    struct mark mark = mark_of(step);
    CLEANUP(buf_deinit) struct buf line = {0};
    char took[40] = "";

    buf_init(&line, 1 << 16);
    put_branches(w, at, &line);
    clean_append(&line, str_of(step->name));
    pad_to(&line, name_width);
    buf_printf(&line, "  %-15s ", step->status);
    if (step->since_us != 0)
        format_span((step->until_us != 0 ? step->until_us : watch_now_us(w)) - step->since_us, took, sizeof(took));
    buf_printf(&line, "%-10s", took);
    if (step->attempt > 1)
        buf_printf(&line, " attempt %d", step->attempt);
    if (step->note != NULL) {
        buf_append_char(&line, ' ');
        clean_append(&line, str_of(step->note));
    }
    buf_append_str(out, STR("\033[2K"));
    buf_append_str(out, str_of(w->colours ? mark.colour : ""));
    buf_append_str(out, str_of(mark.text));
    buf_append_str(out, str_of(w->colours ? "\033[0m " : " "));
    buf_append_str(out, terminal_cut(buf_str(&line), columns - 3));
    buf_append_char(out, '\n');
}

/* The bar gives way to the words, and both to a terminal that is very narrow. */
static void put_bar(const struct watch *w, size_t columns, struct buf *out)
{
    size_t ended = 0, width = BAR_WIDTH, bar;
    char text[96];
    struct str words;

    for (size_t i = 0; i < w->count; i++)
        ended += watch_step_ended(&w->steps[i]) ? 1 : 0;
    (void)snprintf(text, sizeof(text), " %zu/%zu %s", ended, w->count, w->status);
    words = terminal_cut(str_of(text), columns - 1);
    if (width + words.len >= columns)
        width = columns - 1 - words.len;
    bar = w->count == 0 ? 0 : width * ended / w->count;
    buf_append_str(out, STR("\033[2K"));
    for (size_t i = 0; i < width; i++)
        buf_append_str(out, i < bar ? STR("█") : STR("░"));
    buf_append_str(out, words);
    buf_append_char(out, '\n');
}

/* Of a picture that does not fit: what is neither still to come nor well done. */
static bool matters(const struct watch_step *step)
{
    return strcmp(step->status, "pending") != 0 && strcmp(step->status, "succeeded") != 0 &&
           strcmp(step->status, "skipped") != 0;
}

void watch_draw(struct watch *w, bool last)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct terminal_size size = terminal_size();
    bool fits = last || w->count + 2 <= size.rows;
    size_t name_width = 8;
    int lines = 0;

    buf_init(&out, PICTURE_MAX);
    if (w->lines_drawn > 0)
        buf_printf(&out, "\033[%dA", w->lines_drawn);
    for (size_t i = 0; i < w->count; i++) {
        size_t width = terminal_columns(str_of(w->steps[i].name)) + (size_t)(3 * w->steps[i].depth);

        name_width = width > name_width && width < size.columns / 2 ? width : name_width;
    }
    for (size_t i = 0; i < w->count; i++) {
        if (!fits && (!matters(&w->steps[i]) || (size_t)lines + 3 > size.rows))
            continue;
        put_step(w, i, name_width, size.columns, &out);
        lines++;
    }
    put_bar(w, size.columns, &out);
    lines++;
    /* What an earlier, longer picture left below. */
    for (int i = lines; i < w->lines_drawn; i++)
        buf_append_str(&out, STR("\033[2K\n"));
    if (lines < w->lines_drawn)
        buf_printf(&out, "\033[%dA", w->lines_drawn - lines);
    w->lines_drawn = lines;
    w->drawn_at = clock_mono();
    (void)fwrite(out.ptr, 1, out.len, stdout);
    (void)fflush(stdout);
}
