/* The hash map: entries in the order of their insertion, and an open-addressing index of them. A walk therefore
 * depends on what was done to the map, not on the seed: simulations replay. */
#include "common/base/map.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

#define FREE UINT32_MAX

struct entry {
    struct str key; /* ptr NULL: deleted */
    uint64_t hash;
    void *value;
};

struct map {
    struct entry *entries;
    uint32_t *index;    /* of entries, deleted ones included until the next rebuild; FREE ends a probe */
    size_t index_cap;   /* a power of two */
    size_t entries_len; /* deleted ones included */
    size_t entries_cap; /* three quarters of index_cap */
    size_t live;
};

struct map *map_new(void)
{
    return mem_alloc(sizeof(struct map));
}

void map_free(struct map *map)
{
    if (map == NULL)
        return;
    for (size_t i = 0; i < map->entries_len; i++)
        mem_free((void *)(uintptr_t)map->entries[i].key.ptr);
    mem_free(map->entries);
    mem_free(map->index);
    mem_free(map);
}

static void index_add(struct map *map, uint32_t number)
{
    size_t at = (size_t)map->entries[number].hash & (map->index_cap - 1);

    while (map->index[at] != FREE)
        at = (at + 1) & (map->index_cap - 1);
    map->index[at] = number;
}

/* Makes room for one more entry: drops the deleted ones and grows when that does not give enough. */
static void rebuild(struct map *map)
{
    size_t kept = 0;
    size_t cap = 16;

    while (cap / 2 < map->live + 1)
        cap *= 2;
    ENSURE(cap < UINT32_MAX);
    for (size_t i = 0; i < map->entries_len; i++) {
        if (map->entries[i].key.ptr != NULL)
            map->entries[kept++] = map->entries[i];
    }
    map->entries_len = kept;
    map->entries_cap = cap / 4 * 3;
    map->entries = mem_grow(map->entries, map->entries_cap, sizeof(*map->entries));
    map->index = mem_grow(map->index, cap, sizeof(*map->index));
    map->index_cap = cap;
    for (size_t i = 0; i < cap; i++)
        map->index[i] = FREE;
    for (size_t i = 0; i < kept; i++)
        index_add(map, (uint32_t)i);
}

static struct entry *find(const struct map *map, struct str key, uint64_t hash)
{
    size_t at;

    if (map->live == 0)
        return NULL;
    at = (size_t)hash & (map->index_cap - 1);
    for (; map->index[at] != FREE; at = (at + 1) & (map->index_cap - 1)) {
        struct entry *entry = &map->entries[map->index[at]];

        if (entry->hash == hash && entry->key.ptr != NULL && str_eq(entry->key, key))
            return entry;
    }
    return NULL;
}

void *map_get(const struct map *map, struct str key)
{
    struct entry *entry = find(map, key, str_hash(key));

    return entry == NULL ? NULL : entry->value;
}

void *map_put(struct map *map, struct str key, void *value)
{
    uint64_t hash = str_hash(key);
    struct entry *entry = find(map, key, hash);
    void *old;

    ENSURE(value != NULL);
    if (entry != NULL) {
        old = entry->value;
        entry->value = value;
        return old;
    }
    if (map->entries_len == map->entries_cap)
        rebuild(map);
    map->entries[map->entries_len] = (struct entry){{mem_dup(key.ptr, key.len), key.len}, hash, value};
    index_add(map, (uint32_t)map->entries_len);
    map->entries_len++;
    map->live++;
    return NULL;
}

/* The entry stays in its place, so that a walk that is at it can go on. */
void *map_del(struct map *map, struct str key)
{
    struct entry *entry = find(map, key, str_hash(key));
    void *value;

    if (entry == NULL)
        return NULL;
    value = entry->value;
    mem_free((void *)(uintptr_t)entry->key.ptr);
    *entry = (struct entry){.hash = entry->hash};
    map->live--;
    return value;
}

size_t map_len(const struct map *map)
{
    return map->live;
}

bool map_next(const struct map *map, size_t *pos, struct str *ret_key, void **ret_value)
{
    while (*pos < map->entries_len) {
        const struct entry *entry = &map->entries[(*pos)++];

        if (entry->key.ptr == NULL)
            continue;
        *ret_key = entry->key;
        *ret_value = entry->value;
        return true;
    }
    return false;
}
