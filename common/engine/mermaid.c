/* Mermaid: one node per step, named s0, s1, ... so that no step's name is a word of the language. A loop is a subgraph
 * of its steps; what undoes a step hangs on it by a dotted line. */
#include "common/engine/mermaid.h"
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

static void put_edge(struct buf *out, const struct plan *plan, uint32_t step, const struct plan_edge *edge)
{
    bool plain = edge->any_branch && edge->outcomes == OUT_SUCCEEDED;

    buf_printf(out, "    s%u -->", edge->parent);
    if (!plain) {
        buf_append_str(out, STR("|\""));
        put_outcomes(out, plan, edge);
        buf_append_str(out, STR("\"|"));
    }
    buf_printf(out, " s%u\n", step);
}

static void put_label(struct buf *out, const struct plan_step *step)
{
    put_text(out, step->role == ROLE_NOTIFY ? STR("on_failure_notify") : step->name);
    if (step->role == ROLE_COMPENSATE)
        put_text(out, STR(":compensate"));
    buf_append_str(out, STR("<br/>"));
    put_text(out, step->call);
    if (step->kind == CALL_POLL) {
        buf_append_char(out, ' ');
        put_text(out, step->task);
    }
    if (step->join_any)
        buf_append_str(out, STR("<br/>any"));
}

static void put_scope(struct buf *out, const struct plan *plan, uint32_t scope, int indent);

static void put_step(struct buf *out, const struct plan *plan, uint32_t index, int indent)
{
    const struct plan_step *step = &plan->steps[index];
    bool branches = step->kind == CALL_CONDITION || step->kind == CALL_SWITCH;

    if (step->body != NO_NODE) {
        buf_printf(out, "%*ssubgraph s%u[\"", indent, "", index);
        put_label(out, step);
        buf_append_str(out, STR("\"]\n"));
        put_scope(out, plan, step->body, indent + 4);
        buf_printf(out, "%*send\n", indent, "");
        return;
    }
    buf_printf(out, "%*ss%u%s\"", indent, "", index, branches ? "{" : "[");
    put_label(out, step);
    buf_printf(out, "\"%s\n", branches ? "}" : "]");
}

static void put_scope(struct buf *out, const struct plan *plan, uint32_t scope, int indent)
{
    for (uint32_t i = 0; i < plan->scopes[scope].count; i++)
        put_step(out, plan, plan->scopes[scope].first + i, indent);
}

/* Colours that can be read on light and on dark ground; a state that is not listed keeps the picture's own. */
static const struct {
    const char *state, *style;
} styles[] = {
    {"succeeded", "fill:#c8e6c9,stroke:#2e7d32,color:#1b1b1b"},
    {"failed", "fill:#ffcdd2,stroke:#c62828,color:#1b1b1b"},
    {"timed_out", "fill:#ffcdd2,stroke:#c62828,color:#1b1b1b"},
    {"outcome_unknown", "fill:#e1bee7,stroke:#6a1b9a,color:#1b1b1b"},
    {"skipped", "fill:#eeeeee,stroke:#9e9e9e,color:#757575,stroke-dasharray:4"},
    {"cancelled", "fill:#eeeeee,stroke:#9e9e9e,color:#757575"},
    {"running", "fill:#fff9c4,stroke:#f9a825,color:#1b1b1b"},
    {"queued", "fill:#e3f2fd,stroke:#1565c0,color:#1b1b1b"},
    {"waiting", "fill:#e3f2fd,stroke:#1565c0,color:#1b1b1b"},
};

void mermaid_write_states(const struct plan *plan, const char *const *states, struct buf *out)
{
    mermaid_write(plan, out);
    for (size_t k = 0; k < sizeof(styles) / sizeof(styles[0]); k++) {
        bool first = true;

        for (uint32_t i = 0; i < plan->step_count; i++) {
            if (states[i] == NULL || strcmp(states[i], styles[k].state) != 0)
                continue;
            if (first)
                buf_printf(out, "    classDef %s %s\n", styles[k].state, styles[k].style);
            first = false;
            buf_printf(out, "    class s%u %s\n", i, styles[k].state);
        }
    }
}

void mermaid_write(const struct plan *plan, struct buf *out)
{
    buf_append_str(out, STR("flowchart TD\n"));
    put_scope(out, plan, 0, 4);
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].role != ROLE_STEP)
            put_step(out, plan, i, 4);
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct plan_step *step = &plan->steps[i];

        for (size_t e = 0; e < step->edge_count; e++)
            put_edge(out, plan, i, &step->edges[e]);
        if (step->compensate != NO_NODE)
            buf_printf(out, "    s%u -.-> s%u\n", i, step->compensate);
    }
}
