/* Memory wrappers and arenas. */
#include "common/base/mem.h"
#include "tests/unit/base/test.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static bool all_zero(const char *ptr, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (ptr[i] != 0)
            return false;
    }
    return true;
}

static void fresh_memory_is_zeroed(void **state)
{
    char *a = mem_alloc(1000);
    char *b = mem_array(10, 100);

    (void)state;
    assert_true(all_zero(a, 1000) && all_zero(b, 1000));
    mem_free(a);
    mem_free(b);
    mem_free(NULL);
}

static void nothing_can_be_allocated_too(void **state)
{
    void *ptr = mem_alloc(0);

    (void)state;
    assert_non_null(ptr);
    ptr = mem_grow(ptr, 0, 8);
    assert_non_null(ptr);
    mem_free(ptr);
}

static void copies_end_in_nul(void **state)
{
    char *a = mem_dup("abcdef", 3);
    char *b = mem_dup(NULL, 0);
    char *c = mem_strdup("xyz");

    (void)state;
    assert_string_equal(a, "abc");
    assert_string_equal(b, "");
    assert_string_equal(c, "xyz");
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

static char *made(void)
{
    CLEANUP(mem_cleanup) char *text = mem_strdup("kept");
    CLEANUP(mem_cleanup) char *other = mem_strdup("dropped");

    (void)other;
    return take_ptr(text);
}

static void locals_clean_themselves_and_can_be_handed_over(void **state)
{
    char *text = made();

    (void)state;
    assert_string_equal(text, "kept");
    mem_free(text);
}

static void arena_memory_is_zeroed_and_aligned(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);

    (void)state;
    for (size_t round = 0; round < 3; round++) {
        for (size_t size = 0; size < 500; size++) {
            char *p = arena_alloc(arena, size);

            assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
            assert_true(all_zero(p, size));
            memset(p, 0xaa, size);
        }
        arena_reset(arena);
    }
}

static void arena_pieces_do_not_overlap(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(100);
    char *pieces[300];

    (void)state;
    for (size_t i = 0; i < 300; i++) {
        pieces[i] = arena_alloc(arena, i * 37 % 5000);
        memset(pieces[i], (int)(i % 251), i * 37 % 5000);
    }
    for (size_t i = 0; i < 300; i++) {
        for (size_t k = 0; k < i * 37 % 5000; k++)
            assert_int_equal((unsigned char)pieces[i][k], i % 251);
    }
}

static void a_reset_arena_keeps_its_first_block_only(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    size_t before = arena_bytes(arena);
    char *first = arena_alloc(arena, 10);

    (void)state;
    for (int i = 0; i < 1000; i++)
        arena_alloc(arena, 1000);
    arena_alloc(arena, 5000000);
    assert_true(arena_bytes(arena) >= 6000000);
    arena_reset(arena);
    assert_int_equal(arena_bytes(arena), before);
    assert_ptr_equal(arena_alloc(arena, 10), first);
}

static char calls[8];

static void note(void *ptr)
{
    calls[strlen(calls)] = *(char *)ptr;
}

static void deferred_calls_run_newest_first_and_once(void **state)
{
    struct arena *arena = arena_new(0);

    (void)state;
    memset(calls, 0, sizeof(calls));
    arena_defer(arena, note, arena_dup(arena, "a", 1));
    arena_defer(arena, note, arena_dup(arena, "b", 1));
    arena_reset(arena);
    assert_string_equal(calls, "ba");
    arena_defer(arena, note, arena_dup(arena, "c", 1));
    arena_free(arena);
    assert_string_equal(calls, "bac");
    arena_free(NULL);
}

static void arenas_print_text_of_any_length(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    char *text = arena_printf(arena, "%s-%d", "x", 5);
    char *wide = arena_printf(arena, "%10000d", 1);

    (void)state;
    assert_string_equal(text, "x-5");
    assert_int_equal(strlen(wide), 10000);
}

RUN(TEST(fresh_memory_is_zeroed), TEST(nothing_can_be_allocated_too), TEST(copies_end_in_nul),
    TEST(locals_clean_themselves_and_can_be_handed_over), TEST(arena_memory_is_zeroed_and_aligned),
    TEST(arena_pieces_do_not_overlap), TEST(a_reset_arena_keeps_its_first_block_only),
    TEST(deferred_calls_run_newest_first_and_once), TEST(arenas_print_text_of_any_length))
