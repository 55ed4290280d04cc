/* The sandbox: what jq gives for the expressions that documents.c writes, which are
 *     arg | arg OP arg | [range(arg)] | {name: path}      arg: a path or a number; OP: > >= == + */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

static struct str trim(struct str s)
{
    while (s.len > 0 && s.ptr[0] == ' ')
        s.ptr++, s.len--;
    while (s.len > 0 && s.ptr[s.len - 1] == ' ')
        s.len--;
    return s;
}

static struct str argument(struct str text, struct str document)
{
    struct str rest = trim(text), value = document;

    if (rest.len > 0 && rest.ptr[0] != '.')
        return rest;
    rest.ptr++, rest.len--;
    while (rest.len > 0 && value.ptr != NULL)
        value = jt_get_str(value, str_cut(&rest, '.'));
    return value.ptr == NULL ? STR("null") : value;
}

/* null < false < true < number < string < array < object, which is also the order of enum jt_type. */
static int compare(struct str a, struct str b)
{
    double x = 0, y = 0;

    if (jt_type(a) != jt_type(b))
        return jt_type(a) < jt_type(b) ? -1 : 1;
    if (!jt_f64(a, &x) || !jt_f64(b, &y))
        return str_eq(a, b) ? 0 : -1;
    return x < y ? -1 : x > y;
}

static bool add(struct arena *arena, struct str a, struct str b, struct str *ret)
{
    double x = 0, y = 0;

    if ((!jt_f64(a, &x) && jt_type(a) != JT_NULL) || (!jt_f64(b, &y) && jt_type(b) != JT_NULL)) {
        *ret = STR("these cannot be added");
        return false;
    }
    *ret = str_of(arena_printf(arena, "%.17g", x + y));
    return true;
}

static bool range(struct arena *arena, struct str end, struct str *ret)
{
    double n = 0;
    struct buf list;

    if (!jt_f64(end, &n)) {
        *ret = STR("Range bounds must be numeric");
        return false;
    }
    buf_init(&list, (size_t)1 << 20);
    buf_append_char(&list, '[');
    for (int i = 0; i < n; i++)
        buf_printf(&list, "%s%d", i == 0 ? "" : ",", i);
    buf_append_char(&list, ']');
    *ret = str_arena(arena, buf_str(&list));
    buf_deinit(&list);
    return true;
}

static bool operation(struct arena *arena, const char *op, struct str a, struct str b, struct str *ret)
{
    int order = compare(a, b);

    if (strcmp(op, " + ") == 0)
        return add(arena, a, b, ret);
    *ret = (op[1] == '>' && order > 0) || (op[2] == '=' && order == 0) ? STR("true") : STR("false");
    return true;
}

bool world_evaluate(struct arena *arena, struct str source, struct str document, struct str *ret)
{
    static const char *const ops[] = {" >= ", " > ", " == ", " + "};

    if (str_starts(source, "[range("))
        return range(arena, argument((struct str){source.ptr + 7, source.len - 9}, document), ret);
    if (source.ptr[0] == '{') {
        struct str rest = {source.ptr + 1, source.len - 2};
        struct str name = str_cut(&rest, ':');

        *ret = str_of(
            arena_printf(arena, "{\"" STR_FMT "\":" STR_FMT "}", STR_ARG(name), STR_ARG(argument(rest, document))));
        return true;
    }
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        const char *at = memmem(source.ptr, source.len, ops[i], strlen(ops[i]));
        size_t head = at == NULL ? 0 : (size_t)(at - source.ptr);

        if (at == NULL)
            continue;
        return operation(arena, ops[i], argument((struct str){source.ptr, head}, document),
                         argument((struct str){at + strlen(ops[i]), source.len - head - strlen(ops[i])}, document),
                         ret);
    }
    *ret = argument(source, document);
    return true;
}
