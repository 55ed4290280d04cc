/* The store's contract, all parts. */
#include "tests/contract/store_scenarios.h"

#include "common/base/banned.h"

int main(void)
{
    int failed = _cmocka_run_group_tests("what a batch does", store_write_tests, store_write_count, store_group_begin,
                                         store_group_end);

    failed += _cmocka_run_group_tests("what keys do with what they are asked", store_admission_tests,
                                      store_admission_count, store_group_begin, store_group_end);
    failed += _cmocka_run_group_tests("what waits for events", store_event_tests, store_event_count, store_group_begin,
                                      store_group_end);
    return failed + _cmocka_run_group_tests("what is read", store_read_tests, store_read_count, store_group_begin,
                                            store_group_end);
}
