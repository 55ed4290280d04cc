/* A result message holds one result or several: this walks both alike. */
#pragma once
#include "proto/proto_messages.h"

struct results {
    struct jt_iter it;
    struct str one; /* the message itself, STR_NONE once it was given */
    bool many;
};

/* Checks the whole message (text that jt_check_repair has passed), items included: ERR_INVALID names the first fault.
 * After that results_next cannot fail. The slices are parts of `json`. */
enum err_code results_open(struct results *results, struct str json, struct err *err) MUST_CHECK;
/* Fills the fields of the next result; false behind the last. Null and absent are STR_NONE. */
bool results_next(struct results *results, struct str fields[RESULT_ITEM_FIELDS]);
