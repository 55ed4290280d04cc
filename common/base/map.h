/* A hash map from bytes to pointers. Keys are copied; values are the caller's. Open addressing, seeded per process. */
#pragma once
#include "common/base/str.h"

struct map;
struct map *map_new(void);
void map_free(struct map *map);                              /* values are left alone */
void *map_get(const struct map *map, struct str key);        /* NULL when absent */
void *map_put(struct map *map, struct str key, void *value); /* value not NULL; returns the old value or NULL */
void *map_del(struct map *map, struct str key);              /* returns the value or NULL */
size_t map_len(const struct map *map);
/* Walks all entries in no order; start with *pos = 0. The map may lose the current entry meanwhile, nothing else. */
bool map_next(const struct map *map, size_t *pos, struct str *ret_key, void **ret_value);
