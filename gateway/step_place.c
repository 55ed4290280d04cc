/* See step_place.h. The engine resolves the same paths among what is in memory (common/engine/frames.c). */
#include "gateway/step_place.h"

#include "common/base/banned.h"

/* "name", "name[12]" or "name:compensate". */
struct part {
    struct str name;
    bool has_index, is_compensation;
    uint32_t index;
};

static bool take_part(struct str *rest, struct part *ret)
{
    struct str text = str_cut(rest, '.'), number = text;

    *ret = (struct part){0};
    if (text.len > 0 && text.ptr[text.len - 1] == ']') {
        ret->name = str_cut(&number, '[');
        ret->has_index = true;
        if (number.len < 2 || (number.len > 2 && number.ptr[0] == '0'))
            return false;
        return parse_u32((struct str){number.ptr, number.len - 1}, 0, LOOP_ITEMS_MAX - 1, &ret->index);
    }
    ret->name = str_cut(&number, ':');
    ret->is_compensation = number.ptr != NULL;
    return !ret->is_compensation || str_is(number, "compensate");
}

bool step_place_find(const struct plan *plan, struct str path, struct step_place *ret)
{
    struct str rest = path;
    uint32_t scope = 0;

    if (str_is(path, ":notify")) {
        *ret = (struct step_place){.step = plan->notify};
        return plan->notify != NO_NODE;
    }
    while (rest.ptr != NULL && rest.len > 0) {
        struct part part;

        if (!take_part(&rest, &part))
            return false;
        *ret = (struct step_place){.step = plan_find_in(plan, scope, part.name)};
        if (ret->step == NO_NODE)
            return false;
        if (part.is_compensation) {
            ret->step = plan->steps[ret->step].compensate;
            return ret->step != NO_NODE && rest.ptr == NULL;
        }
        ret->is_item = part.has_index;
        ret->index = part.index;
        if (!part.has_index)
            return rest.ptr == NULL;
        if (plan->steps[ret->step].body == NO_NODE)
            return false;
        if (rest.ptr == NULL)
            return true;
        scope = plan->steps[ret->step].body;
    }
    return false;
}
