/* From the tree of a pattern to its program. */
#include "common/schema/pattern_internal.h"

#include "common/base/banned.h"

/* Appends an instruction; its number, or UNBOUNDED when the program is too long. */
static uint32_t emit(struct compiler *c, struct pattern_inst inst)
{
    if (c->inst_count >= PATTERN_MAX_INSTS)
        return UNBOUNDED;
    if (c->inst_count == c->inst_cap) {
        struct pattern_inst *grown = arena_array(c->arena, c->inst_cap * 2 + 32, sizeof(*grown));

        if (c->inst_count > 0)
            memcpy(grown, c->insts, c->inst_count * sizeof(*grown));
        c->insts = grown;
        c->inst_cap = c->inst_cap * 2 + 32;
    }
    c->insts[c->inst_count] = inst;
    return c->inst_count++;
}

static bool emit_alternatives(struct compiler *c, const struct re_alternative *first);

static bool emit_once(struct compiler *c, const struct re_item *item)
{
    struct pattern_inst inst = {0};

    if (++c->emitted > 8 * PATTERN_MAX_INSTS)
        return false;
    switch (item->kind) {
    case RE_EMPTY:
        return true;
    case RE_GROUP:
        return emit_alternatives(c, item->alternatives);
    case RE_CHAR:
        inst.op = PATTERN_CHAR;
        inst.a = item->code;
        break;
    case RE_ANY:
        inst.op = PATTERN_ANY;
        break;
    case RE_CLASS:
        inst.op = PATTERN_CLASS;
        inst.negated = item->negated;
        inst.a = item->range_first;
        inst.b = item->range_count;
        break;
    case RE_BEGIN:
        inst.op = PATTERN_BEGIN;
        break;
    case RE_END:
        inst.op = PATTERN_END;
        break;
    }
    return emit(c, inst) != UNBOUNDED;
}

static bool emit_item(struct compiler *c, const struct re_item *item)
{
    uint32_t split;

    for (uint32_t i = 0; i < item->min; i++) {
        if (!emit_once(c, item))
            return false;
    }
    if (item->max == UNBOUNDED) {
        split = emit(c, (struct pattern_inst){.op = PATTERN_SPLIT});
        if (split == UNBOUNDED || !emit_once(c, item) ||
            emit(c, (struct pattern_inst){.op = PATTERN_JUMP, .a = split}) == UNBOUNDED)
            return false;
        c->insts[split].a = split + 1;
        c->insts[split].b = c->inst_count;
        return true;
    }
    for (uint32_t i = item->min; i < item->max; i++) {
        split = emit(c, (struct pattern_inst){.op = PATTERN_SPLIT});
        if (split == UNBOUNDED || !emit_once(c, item))
            return false;
        c->insts[split].a = split + 1;
        c->insts[split].b = c->inst_count;
    }
    return true;
}

static bool emit_alternatives(struct compiler *c, const struct re_alternative *first)
{
    uint32_t last_jump = UNBOUNDED; /* the jumps to the end, chained through their targets until that is known */

    for (const struct re_alternative *at = first; at != NULL; at = at->next) {
        uint32_t split = UNBOUNDED;

        if (at->next != NULL) {
            split = emit(c, (struct pattern_inst){.op = PATTERN_SPLIT});
            if (split == UNBOUNDED)
                return false;
        }
        for (const struct re_item *item = at->first; item != NULL; item = item->next) {
            if (!emit_item(c, item))
                return false;
        }
        if (at->next != NULL) {
            uint32_t jump = emit(c, (struct pattern_inst){.op = PATTERN_JUMP, .a = last_jump});

            if (jump == UNBOUNDED)
                return false;
            last_jump = jump;
            c->insts[split].a = split + 1;
            c->insts[split].b = c->inst_count;
        }
    }
    while (last_jump != UNBOUNDED) {
        uint32_t earlier = c->insts[last_jump].a;

        c->insts[last_jump].a = c->inst_count;
        last_jump = earlier;
    }
    return true;
}

enum err_code pattern_compile(struct arena *arena, struct str source, struct pattern *ret, struct err *err)
{
    struct compiler c = {
        .arena = arena, .begin = source.ptr, .p = source.ptr, .end = source.ptr + source.len, .err = err};
    struct re_alternative *alternatives;
    enum err_code rc;

    if (source.len > PATTERN_MAX_BYTES)
        return err_set(err, ERR_TOO_LARGE, "the pattern is longer than %d bytes", PATTERN_MAX_BYTES);
    rc = re_parse_alternatives(&c, &alternatives);
    if (rc != ERR_OK)
        return rc;
    if (c.p < c.end)
        return re_refuse(&c, ERR_INVALID, "')' without '('");
    if (!emit_alternatives(&c, alternatives) || emit(&c, (struct pattern_inst){.op = PATTERN_MATCH}) == UNBOUNDED)
        return err_set(err, ERR_TOO_LARGE, "the pattern's repetitions are too many");
    *ret = (struct pattern){source, c.insts, c.inst_count, c.ranges, c.range_count};
    return ERR_OK;
}
