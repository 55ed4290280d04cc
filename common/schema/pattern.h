/* Regular expressions of JSON Schema's `pattern`: the regular part of ECMA 262, run as a set of states (Thompson), so
 * that the work is bounded by length of text times length of program whatever a user writes. No back-references, no
 * look-around, no \b, no \p: such patterns are refused when they are compiled. Matching is unanchored, by code points.
 */
#pragma once
#include "common/base/str.h"

enum pattern_op {
    PATTERN_CHAR,
    PATTERN_ANY,
    PATTERN_CLASS,
    PATTERN_SPLIT,
    PATTERN_JUMP,
    PATTERN_BEGIN,
    PATTERN_END,
    PATTERN_MATCH
};

struct pattern_inst {
    uint8_t op;    /* enum pattern_op */
    bool negated;  /* PATTERN_CLASS */
    uint32_t a, b; /* CHAR: code point; CLASS: first range and count; SPLIT: both targets; JUMP: target */
};
struct pattern_range {
    uint32_t low, high; /* code points, both included */
};

struct pattern {
    struct str source;
    const struct pattern_inst *insts;
    uint32_t inst_count;
    const struct pattern_range *ranges;
    uint32_t range_count;
};

#define PATTERN_MAX_BYTES 4096
#define PATTERN_MAX_INSTS 4096

/* ERR_INVALID with the reason and byte offset; ERR_NOT_AVAILABLE for what is no regular expression in the strict sense;
 * ERR_TOO_LARGE when repetitions make the program too long. All memory is the arena's. */
enum err_code pattern_compile(struct arena *arena, struct str source, struct pattern *ret, struct err *err) MUST_CHECK;

/* Scratch memory for matching, grown to the longest program seen. */
struct pattern_scratch {
    uint32_t *memory;
    size_t count;
};
void pattern_scratch_deinit(struct pattern_scratch *scratch);

/* Does the pattern occur in `text`? Takes the work off *budget and gives up (false) when that is used up. */
bool pattern_matches(const struct pattern *pattern, struct str text, struct pattern_scratch *scratch, int64_t *budget);
