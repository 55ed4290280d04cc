/* Prints the picture of each workflow document named on the command line, a line "%%" before each; with --states, each
 * step in one state or another. For check_mermaid. */
#include "common/engine/engine.h"
#include "common/engine/mermaid.h"

#include "common/base/banned.h"

static void write_coloured(const struct plan *plan, struct buf *out)
{
    const char **states = mem_array(plan->step_count, sizeof(*states));

    for (uint32_t i = 0; i < plan->step_count; i++)
        states[i] = i % (STEP_STATUSES + 1) == STEP_STATUSES ? NULL : step_status_name(i % (STEP_STATUSES + 1));
    mermaid_write_states(plan, states, out);
    mem_free(states);
}

int main(int argc, char **argv)
{
    bool coloured = argc > 1 && strcmp(argv[1], "--states") == 0;

    for (int i = coloured ? 2 : 1; i < argc; i++) {
        CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
        CLEANUP(buf_deinit) struct buf out = {0};
        struct plan_faults faults = {.arena = arena};
        char *text = arena_alloc(arena, 1 << 20);
        FILE *file = fopen(argv[i], "rb");
        struct plan *plan;

        if (file == NULL)
            return 2;
        size_t len = fread(text, 1, 1 << 20, file);

        (void)fclose(file);
        plan = plan_compile((struct str){text, len}, &PLAN_LIMITS_DEFAULT, &faults);
        if (plan == NULL) {
            fprintf(stderr, "%s: " STR_FMT "\n", argv[i], STR_ARG(faults.items[0].message));
            return 1;
        }
        buf_init(&out, 1 << 20);
        if (coloured)
            write_coloured(plan, &out);
        else
            mermaid_write(plan, &out);
        plan_unref(plan);
        printf("%%%%\n%s", out.ptr);
    }
    return 0;
}
