/* The parts of the store's contract. */
#pragma once
#include "tests/contract/store.h"

#define STORE_SCENARIO(name) cmocka_unit_test_setup_teardown(name, store_world_begin, store_world_end)

extern const struct CMUnitTest store_write_tests[], store_read_tests[], store_admission_tests[], store_event_tests[];
extern const size_t store_write_count, store_read_count, store_admission_count, store_event_count;
