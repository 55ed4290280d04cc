/* Memory: allocation that dies when there is none, and arenas. Sizes from outside are bounded before they come here. */
#include "common/base/mem.h"
#include "common/base/ensure.h"
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include "common/base/banned.h"

/* Under AddressSanitizer the unused part of a block is poisoned, so that arena overruns are found like others. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(ARENA_POISON)
#include <sanitizer/asan_interface.h>
#define poison(ptr, len) ASAN_POISON_MEMORY_REGION((ptr), (len))
#define unpoison(ptr, len) ASAN_UNPOISON_MEMORY_REGION((ptr), (len))
#define POISON_GAP 16
#else
#define poison(ptr, len) ((void)(ptr), (void)(len))
#define unpoison(ptr, len) ((void)(ptr), (void)(len))
#define POISON_GAP 0
#endif

#define ARENA_ALIGN ((size_t) _Alignof(max_align_t))
#define ARENA_BLOCK_MIN ((size_t)1024)
#define ARENA_BLOCK_MAX ((size_t)1 << 20)

struct arena_block {
    struct arena_block *next;
    size_t size; /* of data */
    size_t used;
    _Alignas(max_align_t) char data[];
};

struct arena_deferred {
    struct arena_deferred *next;
    void (*fn)(void *);
    void *ptr;
};

struct arena {
    struct arena_block *current; /* newest first; the first block is the last of the list */
    struct arena_deferred *deferred;
    size_t bytes;
};

__attribute__((noreturn)) static void out_of_memory(void)
{
    static const char text[] = "{\"level\":\"error\",\"event\":\"out_of_memory\"}\n";

    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        abort();
    abort();
}

static size_t product(size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        out_of_memory();
    return bytes;
}

static size_t sum(size_t a, size_t b)
{
    size_t bytes;

    if (__builtin_add_overflow(a, b, &bytes))
        out_of_memory();
    return bytes;
}

void *mem_alloc(size_t size)
{
    void *ptr = calloc(1, size == 0 ? 1 : size);

    if (ptr == NULL)
        out_of_memory();
    return ptr;
}

void *mem_array(size_t count, size_t size)
{
    return mem_alloc(product(count, size));
}

void *mem_grow(void *ptr, size_t count, size_t size)
{
    size_t bytes = product(count, size);

    ptr = realloc(ptr, bytes == 0 ? 1 : bytes);
    if (ptr == NULL)
        out_of_memory();
    return ptr;
}

char *mem_dup(const char *ptr, size_t len)
{
    char *copy = mem_grow(NULL, sum(len, 1), 1);

    if (len > 0)
        memcpy(copy, ptr, len);
    copy[len] = '\0';
    return copy;
}

char *mem_strdup(const char *s)
{
    return mem_dup(s, strlen(s));
}

void mem_free(void *ptr)
{
    free(ptr);
}

void mem_cleanup(void *ptr_to_ptr)
{
    void *ptr;

    /* By copy: the caller's variable is a pointer of some other type. */
    memcpy(&ptr, ptr_to_ptr, sizeof(ptr));
    free(ptr);
}

static struct arena_block *block_new(struct arena *arena, size_t size)
{
    struct arena_block *block = mem_grow(NULL, sum(sizeof(*block), size), 1);

    block->next = NULL;
    block->size = size;
    block->used = 0;
    arena->bytes += sizeof(*block) + size;
    poison(block->data, block->size);
    return block;
}

static void block_free(struct arena *arena, struct arena_block *block)
{
    arena->bytes -= sizeof(*block) + block->size;
    unpoison(block->data, block->size);
    free(block);
}

struct arena *arena_new(size_t first_block_bytes)
{
    struct arena *arena = mem_alloc(sizeof(*arena));

    arena->bytes = sizeof(*arena);
    arena->current = block_new(arena, first_block_bytes < ARENA_BLOCK_MIN ? ARENA_BLOCK_MIN : first_block_bytes);
    return arena;
}

static void run_deferred(struct arena *arena)
{
    /* One at a time: a deferred call may defer another. */
    while (arena->deferred != NULL) {
        struct arena_deferred *d = arena->deferred;

        arena->deferred = d->next;
        d->fn(d->ptr);
    }
}

void arena_reset(struct arena *arena)
{
    run_deferred(arena);
    while (arena->current->next != NULL) {
        struct arena_block *block = arena->current;

        arena->current = block->next;
        block_free(arena, block);
    }
    arena->current->used = 0;
    poison(arena->current->data, arena->current->size);
}

void arena_free(struct arena *arena)
{
    if (arena == NULL)
        return;
    arena_reset(arena);
    block_free(arena, arena->current);
    free(arena);
}

void arena_cleanup(struct arena **arena)
{
    arena_free(*arena);
}

/* A block with room for `size` more bytes. What needs a large part of a block gets one of its own, put behind the
 * current one so that the rest of that stays in use. */
static struct arena_block *block_with_room(struct arena *arena, size_t size)
{
    struct arena_block *current = arena->current;
    struct arena_block *block;
    size_t next_size;

    if (current->size - current->used >= size)
        return current;
    next_size = current->size * 2 > ARENA_BLOCK_MAX ? ARENA_BLOCK_MAX : current->size * 2;
    if (size > next_size / 4 && current->next != NULL) {
        block = block_new(arena, size);
        block->next = current->next;
        current->next = block;
        return block;
    }
    block = block_new(arena, size > next_size ? size : next_size);
    block->next = current;
    arena->current = block;
    return block;
}

static char *arena_take(struct arena *arena, size_t size)
{
    size_t rounded = sum(size, ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    struct arena_block *block = block_with_room(arena, sum(rounded, POISON_GAP));
    char *ptr = block->data + block->used;

    block->used += rounded + POISON_GAP;
    unpoison(ptr, size);
    return ptr;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    char *ptr = arena_take(arena, size);

    memset(ptr, 0, size);
    return ptr;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
    return arena_alloc(arena, product(count, size));
}

char *arena_dup(struct arena *arena, const char *ptr, size_t len)
{
    char *copy = arena_take(arena, sum(len, 1));

    if (len > 0)
        memcpy(copy, ptr, len);
    copy[len] = '\0';
    return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    char small[256];
    va_list args;
    char *text;
    int n;

    va_start(args, format);
    n = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    ENSURE(n >= 0);
    if ((size_t)n < sizeof(small))
        return arena_dup(arena, small, (size_t)n);
    text = arena_take(arena, (size_t)n + 1);
    va_start(args, format);
    vsnprintf(text, (size_t)n + 1, format, args);
    va_end(args);
    return text;
}

void arena_defer(struct arena *arena, void (*fn)(void *), void *ptr)
{
    struct arena_deferred *d = arena_alloc(arena, sizeof(*d));

    d->fn = fn;
    d->ptr = ptr;
    d->next = arena->deferred;
    arena->deferred = d;
}

size_t arena_bytes(const struct arena *arena)
{
    return arena->bytes;
}
