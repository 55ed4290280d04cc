/* Running a compiled pattern: all states at once, one code point after another. */
#include "common/base/ensure.h"
#include "common/schema/pattern.h"

#include "common/base/banned.h"

/* A set of program counters that can be emptied in no time (Briggs and Torczon). */
struct state_set {
    uint32_t *dense, *sparse;
    uint32_t count;
};

struct run {
    const struct pattern *pattern;
    uint32_t *stack;
    struct state_set now, next;
    bool at_begin, at_end;
    int64_t *budget;
};

static bool set_has(const struct state_set *set, uint32_t pc)
{
    return set->sparse[pc] < set->count && set->dense[set->sparse[pc]] == pc;
}

static void set_add(struct state_set *set, uint32_t pc)
{
    set->sparse[pc] = set->count;
    set->dense[set->count++] = pc;
}

/* Adds `pc` and all that it reaches without a character. True when that includes the end of the program. */
static bool add_closure(struct run *run, struct state_set *set, uint32_t pc)
{
    size_t depth = 0;

    run->stack[depth++] = pc;
    while (depth > 0) {
        const struct pattern_inst *inst;

        pc = run->stack[--depth];
        if (set_has(set, pc))
            continue;
        set_add(set, pc);
        *run->budget -= 1;
        inst = &run->pattern->insts[pc];
        switch ((enum pattern_op)inst->op) {
        case PATTERN_MATCH:
            return true;
        case PATTERN_SPLIT:
            run->stack[depth++] = inst->b;
            run->stack[depth++] = inst->a;
            break;
        case PATTERN_JUMP:
            run->stack[depth++] = inst->a;
            break;
        case PATTERN_BEGIN:
            if (run->at_begin)
                run->stack[depth++] = pc + 1;
            break;
        case PATTERN_END:
            if (run->at_end)
                run->stack[depth++] = pc + 1;
            break;
        case PATTERN_CHAR:
        case PATTERN_ANY:
        case PATTERN_CLASS:
            break;
        }
    }
    return false;
}

static bool in_class(const struct pattern *pattern, const struct pattern_inst *inst, uint32_t code)
{
    for (uint32_t i = 0; i < inst->b; i++) {
        const struct pattern_range *range = &pattern->ranges[inst->a + i];

        if (code >= range->low && code <= range->high)
            return !inst->negated;
    }
    return inst->negated;
}

static bool takes(const struct pattern *pattern, const struct pattern_inst *inst, uint32_t code)
{
    switch ((enum pattern_op)inst->op) {
    case PATTERN_CHAR:
        return inst->a == code;
    case PATTERN_ANY:
        return code != '\n' && code != '\r' && code != 0x2028 && code != 0x2029;
    case PATTERN_CLASS:
        return in_class(pattern, inst, code);
    case PATTERN_SPLIT:
    case PATTERN_JUMP:
    case PATTERN_BEGIN:
    case PATTERN_END:
    case PATTERN_MATCH:
        return false;
    }
    return false;
}

/* The code point at `p`; bytes that are no UTF-8 count as one each. */
static uint32_t code_point(const char *p, const char *end, size_t *ret_len)
{
    static const uint8_t masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    size_t len = utf8_len_at(p, (size_t)(end - p));
    uint32_t code;

    *ret_len = len == 0 ? 1 : len;
    if (len == 0)
        return 0xfffd;
    code = (uint8_t)p[0] & masks[len];
    for (size_t i = 1; i < len; i++)
        code = code << 6 | ((uint8_t)p[i] & 0x3f);
    return code;
}

static bool run_over(struct run *run, struct str text)
{
    const char *end = text.ptr + text.len;
    bool anchored = run->pattern->insts[0].op == PATTERN_BEGIN;

    for (const char *p = text.ptr;;) {
        struct state_set swap;
        uint32_t code;
        size_t len;

        run->at_begin = p == text.ptr;
        run->at_end = p == end;
        if ((run->at_begin || !anchored) && add_closure(run, &run->now, 0))
            return true;
        if (run->at_end || *run->budget <= 0 || (run->now.count == 0 && anchored))
            return false;
        code = code_point(p, end, &len);
        p += len;
        *run->budget -= 1;
        run->at_begin = false;
        run->at_end = p == end;
        run->next.count = 0;
        for (uint32_t i = 0; i < run->now.count; i++) {
            uint32_t pc = run->now.dense[i];

            if (takes(run->pattern, &run->pattern->insts[pc], code) && add_closure(run, &run->next, pc + 1))
                return true;
        }
        swap = run->now;
        run->now = run->next;
        run->next = swap;
    }
}

void pattern_scratch_deinit(struct pattern_scratch *scratch)
{
    mem_free(scratch->memory);
    *scratch = (struct pattern_scratch){0};
}

bool pattern_matches(const struct pattern *pattern, struct str text, struct pattern_scratch *scratch, int64_t *budget)
{
    size_t count = pattern->inst_count;
    uint32_t *memory;
    struct run run = {.pattern = pattern, .budget = budget};

    ENSURE(count > 0 && count <= PATTERN_MAX_INSTS);
    if (scratch->count < count * 6) {
        mem_free(scratch->memory);
        scratch->memory = mem_array(count * 6, sizeof(*scratch->memory));
        scratch->count = count * 6;
    }
    memory = scratch->memory;
    run.now = (struct state_set){memory, memory + count, 0};
    run.next = (struct state_set){memory + 2 * count, memory + 3 * count, 0};
    /* A state on the stack gives way to at most two others, and each does so once. */
    run.stack = memory + 4 * count;
    return run_over(&run, text.ptr == NULL ? STR("") : text);
}
