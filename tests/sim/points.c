/* Points of a history that somebody may listen to. */
#include "tests/sim/sim.h"
#include <stdarg.h>

#include "common/base/banned.h"

struct point sim_point(struct sim *sim, struct node *node, const char *format, ...)
{
    char text[256];
    va_list args;

    if (sim->on_point == NULL)
        return (struct point){0};
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return sim->on_point(sim, node, text);
}

const char *sim_task_name(struct sim *sim, const struct sim_message *message)
{
    struct str results = jt_get(message->body, "results"), id = STR_NONE, path;
    const struct db_run *run = NULL;
    struct run_id run_id;

    (void)jt_string(jt_get(results.ptr == NULL ? message->body : jt_at(results, 0), "task_id"), sim->arena, &id);
    path = id;
    if (id.ptr != NULL && run_id_parse(str_cut(&path, '/'), &run_id))
        run = db_find(sim, run_id);
    return run == NULL ? "nothing" : arena_printf(sim->arena, "%u:" STR_FMT, run->number, STR_ARG(path));
}
