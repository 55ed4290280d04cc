/* See lineage.h. */
#include "gateway/lineage.h"
#include "common/base/map.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define FAULTS_MAX ((size_t)4 << 20)

/* A workflow by name, as far as it has been looked at. */
struct known {
    struct known *next; /* of those of one level */
    struct str name;
    bool exists;
    size_t child_count, child_cap;
    struct known **children;
};

struct first {
    struct first *next;
    struct known *child;
    struct str pointer;
};

struct lineage {
    struct call *call;
    struct arena *arena;
    struct document *document;
    void (*done)(void *ctx, struct document *document);
    void *ctx;
    struct map *by_name;
    size_t lookups;
    int levels;          /* at most, below the workflow itself */
    int level;           /* whose workflows are asked for */
    struct known *asked; /* of this level */
    struct known *found; /* of the next */
    struct first *first, **last;
};

/* ---- what a document starts ---- */

struct walk {
    struct arena *arena;
    lineage_fn fn;
    void *ctx;
};

static void walk_steps(const struct walk *walk, struct str steps, const char *pointer, int depth)
{
    struct jt_iter it;

    jt_iter_init(&it, jt_type(steps) == JT_OBJECT ? steps : STR_NONE);
    while (jt_next(&it)) {
        struct str call, name, with = jt_get(it.value, "with");
        char *at = arena_printf(walk->arena, "%s/" STR_FMT "/with", pointer, STR_ARG(jt_key(&it, walk->arena)));

        if (jt_type(it.value) != JT_OBJECT || !jt_string(jt_get(it.value, "call"), walk->arena, &call))
            continue;
        if (str_is(call, "foreach") && depth < LOOP_NESTING_MAX)
            walk_steps(walk, jt_get(with, "steps"), arena_printf(walk->arena, "%s/steps", at), depth + 1);
        if (str_is(call, "workflow") && jt_string(jt_get(with, "name"), walk->arena, &name))
            walk->fn(walk->ctx, name, str_of(arena_printf(walk->arena, "%s/name", at)));
    }
}

void lineage_each(struct arena *arena, struct str document, lineage_fn fn, void *ctx)
{
    const struct walk walk = {arena, fn, ctx};

    walk_steps(&walk, jt_get(document, "steps"), "/steps", 0);
}

/* ---- what is known ---- */

static struct known *know(struct lineage *l, struct str name)
{
    struct known *known = map_get(l->by_name, name);

    if (known != NULL)
        return known;
    known = arena_alloc(l->arena, sizeof(*known));
    known->name = str_arena(l->arena, name);
    (void)map_put(l->by_name, known->name, known);
    known->next = l->found;
    l->found = known;
    return known;
}

static void add_first(void *ctx, struct str name, struct str pointer)
{
    struct lineage *l = ctx;
    struct first *first = arena_alloc(l->arena, sizeof(*first));

    *first = (struct first){.child = know(l, name), .pointer = pointer};
    *l->last = first;
    l->last = &first->next;
}

struct adding {
    struct lineage *lineage;
    struct known *parent;
};

static void add_child(void *ctx, struct str name, struct str pointer)
{
    const struct adding *adding = ctx;
    struct known *parent = adding->parent;

    (void)pointer;
    if (parent->child_count == parent->child_cap) {
        struct known **old = parent->children;

        parent->child_cap = parent->child_cap == 0 ? 4 : 2 * parent->child_cap;
        parent->children = arena_array(adding->lineage->arena, parent->child_cap, sizeof(struct known *));
        if (parent->child_count > 0)
            memcpy(parent->children, old, parent->child_count * sizeof(struct known *));
    }
    parent->children[parent->child_count++] = know(adding->lineage, name);
}

/* ---- the verdict ---- */

enum trouble { NO_TROUBLE, TROUBLE_CYCLE, TROUBLE_DEPTH };

/* level: of `known`, 1 for the document's own children. Levels are few, but ways may be many: what has been found good
 * at a level once is so at that level again. */
static enum trouble trouble_of(const struct lineage *l, const struct known *known, int level, struct map *good)
{
    char text[96];
    struct str key = {text, 0};
    enum trouble worst = NO_TROUBLE;

    if (str_eq(known->name, l->document->name))
        return TROUBLE_CYCLE;
    if (level > l->levels)
        return TROUBLE_DEPTH;
    key.len = (size_t)snprintf(text, sizeof(text), "%d " STR_FMT, level, STR_ARG(utf8_prefix(known->name, 63)));
    if (map_get(good, key) != NULL)
        return NO_TROUBLE;
    for (size_t i = 0; i < known->child_count && worst != TROUBLE_CYCLE; i++) {
        enum trouble trouble = trouble_of(l, known->children[i], level + 1, good);

        worst = trouble == NO_TROUBLE ? worst : trouble;
    }
    if (worst == NO_TROUBLE)
        (void)map_put(good, key, good);
    return worst;
}

static void put_fault(struct jw *w, const char *code, struct str pointer, const char *message)
{
    jw_obj(w);
    jw_kcstr(w, "code", code);
    jw_kstr(w, "pointer", pointer);
    jw_kcstr(w, "message", message);
    jw_kstr(w, "hint", STR_NONE);
    jw_end_obj(w);
}

static void judge(struct lineage *l)
{
    CLEANUP(buf_deinit) struct buf errors = {0}, warnings = {0};
    struct map *good = map_new();
    struct document *document = l->document;
    struct jt_iter it;
    struct jw e, w;

    buf_init(&errors, FAULTS_MAX);
    buf_init(&warnings, FAULTS_MAX);
    e = jw_to(&errors);
    w = jw_to(&warnings);
    jw_arr(&e);
    jw_arr(&w);
    jt_iter_init(&it, document->warnings); /* those there are already stay */
    while (jt_next(&it))
        jw_raw(&w, it.value);
    for (const struct first *first = l->first; first != NULL; first = first->next) {
        enum trouble trouble = trouble_of(l, first->child, 1, good);

        if (trouble != NO_TROUBLE && errors.len < FAULTS_MAX / 2) {
            document->error_count++;
            put_fault(&e, trouble == TROUBLE_CYCLE ? "cycle" : "too_deep", first->pointer,
                      trouble == TROUBLE_CYCLE ? "its child runs lead back to the workflow itself"
                                               : arena_printf(l->arena,
                                                              "child runs go at most %d levels deep (limit "
                                                              "child_levels); this leads to level %d",
                                                              l->levels, l->levels + 1));
        } else if (!first->child->exists && warnings.len < FAULTS_MAX / 2) {
            put_fault(&w, "unknown_workflow", first->pointer,
                      "there is no such workflow yet: without it the step fails");
        }
    }
    jw_end_arr(&e);
    jw_end_arr(&w);
    if (document->error_count > 0)
        document->errors = str_arena(l->arena, buf_str(&errors));
    document->warnings = str_arena(l->arena, buf_str(&warnings));
    map_free(good);
}

/* ---- reading, level by level ---- */

static void free_map(void *map)
{
    map_free(map);
}

static void ask(struct lineage *l);

static void on_documents(void *ctx, const struct pg_outcome *outcome)
{
    struct lineage *l = ctx;
    const struct pg_result *rows;

    if (!call_committed(l->call, outcome))
        return;
    rows = outcome->results[0];
    for (size_t i = 0; i < pg_rows(rows); i++) {
        struct adding adding = {l, map_get(l->by_name, pg_get_str(rows, i, 0))};

        if (adding.parent == NULL)
            continue;
        adding.parent->exists = true;
        lineage_each(l->arena, pg_get_str(rows, i, 1), add_child, &adding);
    }
    ask(l);
}

static void ask(struct lineage *l)
{
    struct pg_batch *batch;
    struct pg_array *names;

    l->asked = l->found;
    l->found = NULL;
    if (l->asked == NULL || l->level == l->levels || l->lookups >= LINEAGE_LOOKUPS_MAX) {
        judge(l);
        l->done(l->ctx, l->document);
        return;
    }
    l->level++;
    batch = call_batch(l->call, false);
    names = pg_array_new(batch, PG_E_TEXT);
    for (const struct known *known = l->asked; known != NULL && l->lookups < LINEAGE_LOOKUPS_MAX; known = known->next) {
        pg_array_add(names, pg_text(known->name));
        l->lookups++;
    }
    pg_add(batch, SQL_WORKFLOW_DOCUMENTS, pg_array_param(names));
    pg_submit(gateway_read(l->call->gw), batch, on_documents, l);
}

void lineage_check(struct call *call, struct document *document, void (*done)(void *ctx, struct document *document),
                   void *ctx)
{
    struct lineage *l;

    if (document->error_count > 0 || document->name.ptr == NULL) { /* first what it says itself */
        done(ctx, document);
        return;
    }
    l = arena_alloc(call->arena, sizeof(*l));
    *l = (struct lineage){.call = call, .arena = call->arena, .document = document, .done = done, .ctx = ctx};
    l->last = &l->first;
    l->levels = (int)call->caller.limits.of[LIMIT_CHILD_LEVELS];
    l->by_name = map_new();
    arena_defer(call->arena, free_map, l->by_name);
    lineage_each(call->arena, document->text, add_first, l);
    if (l->first == NULL)
        done(ctx, document);
    else
        ask(l);
}
