/* The tree between pattern_parse.c and pattern.c. Not for use outside them. */
#pragma once
#include "common/schema/pattern.h"

#define UNBOUNDED UINT32_MAX

enum re_kind { RE_EMPTY, RE_CHAR, RE_ANY, RE_CLASS, RE_GROUP, RE_BEGIN, RE_END };

/* One thing of a sequence, with its repetition; a group is a list of alternatives, each a sequence. */
struct re_item {
    enum re_kind kind;
    uint32_t min, max;
    uint32_t code;                       /* RE_CHAR */
    bool negated;                        /* RE_CLASS */
    uint32_t range_first, range_count;   /* RE_CLASS */
    struct re_alternative *alternatives; /* RE_GROUP */
    struct re_item *next;
};
struct re_alternative {
    struct re_item *first;
    struct re_alternative *next;
};

struct compiler {
    struct arena *arena;
    const char *begin, *p, *end;
    unsigned depth;
    struct pattern_range *ranges;
    uint32_t range_count, range_cap;
    struct pattern_inst *insts;
    uint32_t inst_count, inst_cap;
    uint32_t emitted; /* things emitted, those of no instruction too: (((){9}){9}){9} */
    struct err *err;
};

/* Parses from c->p until the end or a ')' that opened nothing here. */
enum err_code re_parse_alternatives(struct compiler *c, struct re_alternative **ret) MUST_CHECK;
enum err_code re_refuse(struct compiler *c, enum err_code rc, const char *what); /* with the place; the value is rc */
