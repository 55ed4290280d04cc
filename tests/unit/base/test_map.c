/* The hash map, also against a plain list. */
#include "common/base/map.h"
#include "tests/unit/base/test.h"
#include <stdio.h>

static int values[1000];

static void a_map_finds_what_was_put_and_nothing_else(void **state)
{
    struct map *map = map_new();

    (void)state;
    assert_null(map_get(map, STR("a")));
    assert_null(map_put(map, STR("a"), &values[0]));
    assert_null(map_put(map, STR(""), &values[1]));
    assert_null(map_put(map, STR("a\0b"), &values[2]));
    assert_ptr_equal(map_get(map, STR("a")), &values[0]);
    assert_ptr_equal(map_get(map, STR("")), &values[1]);
    assert_ptr_equal(map_get(map, STR("a\0b")), &values[2]);
    assert_null(map_get(map, STR("b")));
    assert_int_equal(map_len(map), 3);
    map_free(map);
    map_free(NULL);
}

static void putting_again_returns_the_old_value(void **state)
{
    struct map *map = map_new();

    (void)state;
    map_put(map, STR("a"), &values[0]);
    assert_ptr_equal(map_put(map, STR("a"), &values[1]), &values[0]);
    assert_ptr_equal(map_get(map, STR("a")), &values[1]);
    assert_int_equal(map_len(map), 1);
    assert_ptr_equal(map_del(map, STR("a")), &values[1]);
    assert_null(map_del(map, STR("a")));
    assert_int_equal(map_len(map), 0);
    map_free(map);
}

static void keys_are_copied(void **state)
{
    struct map *map = map_new();
    char key[] = "key";

    (void)state;
    map_put(map, str_of(key), &values[0]);
    key[0] = 'x';
    assert_ptr_equal(map_get(map, STR("key")), &values[0]);
    map_free(map);
}

static void a_map_behaves_like_a_list_under_random_work(void **state)
{
    struct map *map = map_new();
    void *list[1000] = {0};
    uint32_t random = 12345;
    size_t live = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        char key[16];
        size_t n;

        random = random * 1664525 + 1013904223;
        n = (random >> 8) % 1000;
        snprintf(key, sizeof(key), "k%zu", n);
        if (random >> 31 != 0) {
            assert_ptr_equal(map_put(map, str_of(key), &values[n]), list[n]);
            live += list[n] == NULL ? 1 : 0;
            list[n] = &values[n];
        } else {
            assert_ptr_equal(map_del(map, str_of(key)), list[n]);
            live -= list[n] != NULL ? 1 : 0;
            list[n] = NULL;
        }
        assert_int_equal(map_len(map), live);
    }
    for (size_t n = 0; n < 1000; n++) {
        char key[16];

        snprintf(key, sizeof(key), "k%zu", n);
        assert_ptr_equal(map_get(map, str_of(key)), list[n]);
    }
    map_free(map);
}

static void a_walk_meets_each_entry_once_and_may_delete_it(void **state)
{
    struct map *map = map_new();
    size_t pos = 0;
    struct str key;
    void *value;
    int met = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%d", i);
        map_put(map, str_of(name), &values[i]);
    }
    while (map_next(map, &pos, &key, &value)) {
        /* In the order of insertion, whatever the process's seed: simulations rely on it. */
        assert_ptr_equal(value, &values[met]);
        if (met % 2 == 0)
            assert_ptr_equal(map_del(map, key), value);
        met++;
    }
    assert_int_equal(met, 100);
    assert_int_equal(map_len(map), 50);
    map_free(map);
}

static void a_map_that_is_filled_and_emptied_does_not_grow(void **state)
{
    struct map *map = map_new();

    (void)state;
    for (int i = 0; i < 1000000; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%d", i);
        map_put(map, str_of(name), &values[0]);
        assert_ptr_equal(map_del(map, str_of(name)), &values[0]);
    }
    assert_int_equal(map_len(map), 0);
    map_free(map);
}

RUN(TEST(a_map_finds_what_was_put_and_nothing_else), TEST(putting_again_returns_the_old_value), TEST(keys_are_copied),
    TEST(a_map_behaves_like_a_list_under_random_work), TEST(a_walk_meets_each_entry_once_and_may_delete_it),
    TEST(a_map_that_is_filled_and_emptied_does_not_grow))
