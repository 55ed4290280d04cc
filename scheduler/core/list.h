/* Intrusive lists and hash chains: an object is linked by a member, so linking never allocates. Not thread safe. */
#pragma once
#include "common/base/mem.h"
#include "common/base/str.h"

#define CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct link {
    struct link *prev, *next;
};

static inline void list_init(struct link *head)
{
    head->prev = head;
    head->next = head;
}
static inline bool list_empty(const struct link *head)
{
    return head->next == head;
}
static inline void list_add_before(struct link *at, struct link *link)
{
    link->prev = at->prev;
    link->next = at;
    at->prev->next = link;
    at->prev = link;
}
static inline void list_add_tail(struct link *head, struct link *link)
{
    list_add_before(head, link);
}
static inline void list_add_head(struct link *head, struct link *link)
{
    list_add_before(head->next, link);
}
/* The link is a list of its own afterwards: deleting it twice does no harm. */
static inline void list_del(struct link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}
/* Moves all of `from` behind the last of `to`. */
static inline void list_splice(struct link *to, struct link *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* for (LIST_EACH(head, at)): walks a list; `at` may be taken out meanwhile, the one behind it may not. */
#define LIST_EACH(head, at)                                                                                            \
    struct link *at = (head)->next, *next_##at = at->next;                                                             \
    at != (head);                                                                                                      \
    at = next_##at, next_##at = at->next

struct hnode {
    struct hnode *next;
    uint64_t hash;
};
struct htable {
    struct hnode **slots;
    size_t cap, len; /* cap is a power of two */
};

static inline void htable_deinit(struct htable *t)
{
    mem_free(t->slots);
    *t = (struct htable){0};
}
/* The chain that holds everything of this hash, and others: compare `hash`, then the key. */
static inline struct hnode *htable_chain(const struct htable *t, uint64_t hash)
{
    return t->cap == 0 ? NULL : t->slots[hash & (t->cap - 1)];
}
static inline void htable_add(struct htable *t, struct hnode *node, uint64_t hash)
{
    if (t->len >= t->cap) {
        size_t cap = t->cap == 0 ? 64 : 2 * t->cap;
        struct hnode **slots = mem_array(cap, sizeof(struct hnode *));

        for (size_t i = 0; i < t->cap; i++) {
            while (t->slots[i] != NULL) {
                struct hnode *moved = t->slots[i];

                t->slots[i] = moved->next;
                moved->next = slots[moved->hash & (cap - 1)];
                slots[moved->hash & (cap - 1)] = moved;
            }
        }
        mem_free(t->slots);
        t->slots = slots;
        t->cap = cap;
    }
    node->hash = hash;
    node->next = t->slots[hash & (t->cap - 1)];
    t->slots[hash & (t->cap - 1)] = node;
    t->len++;
}
static inline void htable_del(struct htable *t, struct hnode *node)
{
    struct hnode **at = &t->slots[node->hash & (t->cap - 1)];

    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    t->len--;
}
static inline uint64_t hash_u64(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    return x;
}
