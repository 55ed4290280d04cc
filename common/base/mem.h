/* Memory: wrappers that die on out-of-memory (every size that comes from outside is bounded before), and arenas. */
#pragma once
#include <stddef.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))
/* Hands a self-cleaning local over: returns its value and leaves NULL. */
#define take_ptr(p)                                                                                                    \
    __extension__({                                                                                                    \
        __typeof__(p) taken_ = (p);                                                                                    \
        (p) = NULL;                                                                                                    \
        taken_;                                                                                                        \
    })

void *mem_alloc(size_t size);                         /* zeroed */
void *mem_array(size_t count, size_t size);           /* zeroed, overflow checked */
void *mem_grow(void *ptr, size_t count, size_t size); /* realloc to count * size, new part not zeroed */
char *mem_dup(const char *ptr, size_t len);           /* with a NUL behind */
char *mem_strdup(const char *s);
void mem_free(void *ptr);           /* accepts NULL */
void mem_cleanup(void *ptr_to_ptr); /* CLEANUP(mem_cleanup) void *p = ... */

/* An arena: freed as a whole. Not thread safe. arena_reset keeps the first block for reuse. */
struct arena;
struct arena *arena_new(size_t first_block_bytes);
void arena_free(struct arena *arena);
void arena_cleanup(struct arena **arena);
void arena_reset(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size); /* zeroed, aligned for any type */
void *arena_array(struct arena *arena, size_t count, size_t size);
char *arena_dup(struct arena *arena, const char *ptr, size_t len); /* with a NUL behind */
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_defer(struct arena *arena, void (*fn)(void *), void *ptr); /* called at reset and free, newest first */
size_t arena_bytes(const struct arena *arena);                        /* bytes held from the system */
