/* A result message holds one result or several: this takes both apart alike, each result checked by itself, so that a
 * bad one does not lose the others. */
#pragma once
#include "proto/proto_messages.h"

struct results {
    struct jt_iter it;
    struct str one; /* the message itself, STR_NONE once it was given */
    bool many;
    struct str item; /* the text of the result given last */
};

/* ERR_INVALID when it is no such message at all. `json` has passed jt_check_repair; all slices are parts of it. */
enum err_code results_open(struct results *results, struct str json, struct err *err) MUST_CHECK;

/* The next result; false behind the last. *ret_rc is ERR_OK, or ERR_INVALID with the fault in err: then `fields` holds
 * what is there, unchecked, so that its task may still be named. Null and absent are STR_NONE. */
bool results_next(struct results *results, struct str fields[RESULT_ITEM_FIELDS], enum err_code *ret_rc,
                  struct err *err);
