/* Prints the picture of each workflow document named on the command line, a line "%%" before each; for check_mermaid.
 */
#include "gateway/mermaid.h"

#include "common/base/banned.h"

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
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
        mermaid_write(plan, &out);
        plan_unref(plan);
        printf("%%%%\n%s", out.ptr);
    }
    return 0;
}
