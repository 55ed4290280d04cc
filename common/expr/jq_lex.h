/* Tokens of jq source, as libjq 1.6 cuts them. Used to find the end of ${ ... }, words that are refused, and what an
 * expression reads. It is no parser: what it lets through libjq may still refuse. Pure. */
#pragma once
#include "common/base/str.h"

enum jq_kind {
    JQ_END,    /* of the text */
    JQ_STOP,   /* a closing brace that nothing in the text has opened; `text` is the brace */
    JQ_BAD,    /* unbalanced, too deep or unclosed: `why` of the lexer says it */
    JQ_FIELD,  /* .name; `text` is the name */
    JQ_IDENT,  /* names and keywords */
    JQ_NUMBER, /* as written */
    JQ_FORMAT, /* @name; `text` is the name */
    JQ_QUOTE,  /* the quote that opens a string */
    JQ_TEXT,   /* a piece inside a string, escapes as written */
    JQ_UNQUOTE,
    JQ_OPEN,  /* ( [ { and \( inside a string, which has the text "(" */
    JQ_CLOSE, /* ) ] } */
    JQ_OP,    /* everything else, one operator each */
};

struct jq_token {
    enum jq_kind kind;
    struct str text;
};

#define JQ_DEPTH_MAX 200

struct jq_lex {
    const char *pos, *end;
    const char *why; /* of JQ_BAD */
    size_t depth;
    char open[JQ_DEPTH_MAX]; /* ( [ { and " */
};

void jq_lex_init(struct jq_lex *lex, struct str text);
struct jq_token jq_lex_next(struct jq_lex *lex);
