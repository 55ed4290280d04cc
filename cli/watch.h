/* What is known of a run that is being followed, and its picture. Between watch.c and watch_draw.c. */
#pragma once
#include "cli/cli.h"

struct watch_step {
    char *name;
    char status[24];
    char *note; /* branch, error, reason; NULL */
    int parent; /* index of the step it is drawn below, -1: none */
    int depth;
    int attempt;
    int64_t since_us; /* PostgreSQL's time, from the events; 0: not yet */
    int64_t until_us;
};

struct watch {
    const struct cli *cli;
    bool show, terminal, colours;
    struct watch_step *steps; /* in the order of the picture */
    size_t count;
    char status[32];
    bool ended;
    int64_t clock_offset_us; /* from the monotonic clock to PostgreSQL's, as near as the events tell */
    bool clock_known;
    int lines_drawn;
    struct mono_us drawn_at;
};

bool watch_step_ended(const struct watch_step *step);
int64_t watch_now_us(const struct watch *w); /* PostgreSQL's time */
/* Draws over the last picture. `last`: for good. */
void watch_draw(struct watch *w, bool last);
