#include "proto/results.h"

#include "common/base/banned.h"

enum err_code results_open(struct results *results, struct str json, struct err *err)
{
    struct str fields[RESULT_ENVELOPE_FIELDS];
    enum err_code rc = schema_decode(&SCHEMA_RESULT_ENVELOPE, json, fields, err);

    if (rc != ERR_OK)
        return rc;
    *results = (struct results){.many = fields[RESULT_ENVELOPE_RESULTS].ptr != NULL, .one = json};
    if (results->many)
        jt_iter_init(&results->it, fields[RESULT_ENVELOPE_RESULTS]);
    return ERR_OK;
}

static bool take_item(struct results *results)
{
    if (results->many) {
        if (!jt_next(&results->it))
            return false;
        results->item = results->it.value;
        return true;
    }
    results->item = results->one;
    results->one = STR_NONE;
    return results->item.ptr != NULL;
}

bool results_next(struct results *results, struct str fields[RESULT_ITEM_FIELDS], enum err_code *ret_rc,
                  struct err *err)
{
    if (!take_item(results))
        return false;
    *ret_rc = schema_decode(&SCHEMA_RESULT_ITEM, results->item, fields, err);
    if (*ret_rc != ERR_OK) /* the walk stops at a fault */
        schema_slices(&SCHEMA_RESULT_ITEM, results->item, fields);
    return true;
}
