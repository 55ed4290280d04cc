/* Reads lines {"schema": ..., "data": [...]} and prints for each a line: a 1 or 0 per item of data, or
 * "refused CODE POINTER". What the comparisons with other validators drive. */
#include "common/schema/schema.h"
#include <stdio.h>

#include "common/base/banned.h"

static void on_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    bool *first = ctx;

    (void)message;
    (void)hint;
    if (*first)
        printf("refused %s " STR_FMT "\n", code, STR_ARG(pointer));
    *first = false;
}

static void one_line(struct str line)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1 << 14);
    struct jt_limits limits = JT_LIMITS_MESSAGE;
    const struct schema *schema;
    bool first = true;
    struct jt_iter it;
    struct err err;

    limits.refuse_unstorable = false;
    if (jt_check(line, &limits, &err) != ERR_OK) {
        printf("syntax %s\n", err.message);
        return;
    }
    schema = schema_compile(arena, jt_get(line, "schema"), NULL, on_fault, &first);
    if (schema == NULL)
        return;
    jt_iter_init(&it, jt_get(line, "data"));
    while (jt_next(&it)) {
        enum err_code rc = schema_check(schema, it.value, NULL, NULL, &err);

        (void)putchar(rc == ERR_OK ? '1' : rc == ERR_INVALID ? '0' : 'x');
    }
    (void)putchar('\n');
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;

    while ((len = getline(&line, &cap, stdin)) > 0) {
        one_line(str_trim((struct str){line, (size_t)len}));
        (void)fflush(stdout);
    }
    free(line);
    return 0;
}
