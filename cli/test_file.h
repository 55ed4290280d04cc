/* A file of tests for a workflow: what it says, checked as a whole before anything runs; and a case while it runs.
 * docs/test-a-workflow.md is its manual. */
#pragma once
#include "cli/rehearsal.h"

typedef bool (*document_load_fn)(const char *path, struct document *ret);
struct test_file {
    struct source source;
    document_load_fn load;
    struct arena *arena;
    struct document *documents; /* the workflow, then those that it starts */
    size_t document_count;
    struct str mocks; /* of all cases; STR_NONE */
    struct str cases; /* array */
    size_t faults;
};

/* Reads and checks it, and the workflows that it names, relative to its own folder. Prints every fault. End with
 * test_file_deinit. */
bool test_file_load(const char *path, struct test_file *ret);
/* The same of what has been read, which is taken over; `load` gives the workflows. */
bool test_file_from(const struct source *source, document_load_fn load, struct test_file *ret);
void test_file_deinit(struct test_file *file);

/* What a case has come to. */
struct test_case {
    const struct test_file *file;
    struct arena *arena; /* the rehearsal's */
    struct rehearsal *world;
    struct str json; /* of the case */
    struct str name;
    const char *pointer; /* "/cases/0" */
    struct buf faults;   /* JSON objects {"at", "expected", "got"}, a comma between */
    size_t fault_count;
    struct map *calls; /* path to how often it was called */
};
/* Not as expected. `at` is a JSON Pointer in the file; `expected` and `got` are JSON, STR_NONE for what is not there.
 */
void test_fault(struct test_case *test, struct str at, struct str expected, struct str got);
/* The same in words. */
void test_fault_text(struct test_case *test, struct str at, const char *expected, const char *got);
/* Where the actual value is not as expected: objects may have more members unless `exact`; lists are whole; numbers
 * count by value; null stands for what is absent, too. */
void test_match(struct test_case *test, struct str at, struct str expected, struct str actual, bool exact);

/* test_mocks.c */
void test_check_mocks(struct test_file *file, struct str mocks, const char *pointer);
bool test_answer(void *ctx, const struct rehearsal_call *call, struct rehearsal_answer *ret);
const struct document *test_child(void *ctx, const struct rehearsal_call *call);

/* test_expect.c */
void test_check_expect(struct test_file *file, struct str expect, const char *pointer);
void test_expect(struct test_case *test);
struct str test_run_json(struct test_case *test);

/* test_check.c: the shape of the file */
void test_file_fault(struct test_file *file, const char *pointer, const char *format, ...) PRINTF_LIKE(3, 4);
/* Is it an object of nothing but these fields (a space between)? */
bool test_fields(struct test_file *file, struct str object, const char *fields, const char *pointer);
const char *test_below(struct arena *arena, const char *pointer, struct str key);
/* A member that must be a duration, when it is there; false when it is not there, or told. */
bool test_duration(struct test_file *file, struct str object, const char *key, const char *pointer, int64_t *ret_us);
