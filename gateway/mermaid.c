/* Mermaid: one node per step, named s0, s1, ... so that no step's name is a word of the language. */
#include "gateway/mermaid.h"
#include "common/base/banned.h"

/* Text inside "...": names are plain, calls and branches may not be. */
static void put_text(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ' ' ||
                     c == '_' || c == '-' || c == '.' || c >= 0x80;

        if (plain)
            buf_append_char(out, (char)c);
        else
            buf_printf(out, "#%u;", (unsigned)c); /* Mermaid's own escape */
    }
}

static void put_outcomes(struct buf *out, const struct plan *plan, const struct plan_edge *edge)
{
    static const char *const names[] = {"succeeded", "failed", "skipped", "timed_out", "cancelled", "outcome_unknown"};
    const struct plan_step *parent = &plan->steps[edge->parent];
    size_t count = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((edge->outcomes & (1U << i)) != 0 && (i > 0 || edge->any_branch))
            buf_printf(out, "%s%s", count++ > 0 ? " or " : "", names[i]);
    for (size_t i = 0; i < parent->branch_count && !edge->any_branch; i++)
        if ((edge->branches & (UINT64_C(1) << i)) != 0) {
            buf_append_str(out, count++ > 0 ? STR(" or ") : STR(""));
            put_text(out, parent->branches[i]);
        }
}

static void put_edge(struct buf *out, const struct plan *plan, size_t step, const struct plan_edge *edge)
{
    bool plain = edge->any_branch && edge->outcomes == OUT_SUCCEEDED;

    buf_printf(out, "    s%u -->", edge->parent);
    if (!plain) {
        buf_append_str(out, STR("|\""));
        put_outcomes(out, plan, edge);
        buf_append_str(out, STR("\"|"));
    }
    buf_printf(out, " s%zu\n", step);
}

void mermaid_write(const struct plan *plan, struct buf *out)
{
    buf_append_str(out, STR("flowchart TD\n"));
    for (size_t i = 0; i < plan->step_count; i++) {
        const struct plan_step *step = &plan->steps[i];
        bool branches = step->kind == CALL_CONDITION || step->kind == CALL_SWITCH;

        buf_printf(out, "    s%zu%s\"", i, branches ? "{" : "[");
        put_text(out, step->name);
        buf_append_str(out, STR("<br/>"));
        put_text(out, step->call);
        if (step->join_any)
            buf_append_str(out, STR("<br/>any"));
        buf_printf(out, "\"%s\n", branches ? "}" : "]");
    }
    for (size_t i = 0; i < plan->step_count; i++)
        for (size_t e = 0; e < plan->steps[i].edge_count; e++)
            put_edge(out, plan, i, &plan->steps[i].edges[e]);
}
