#include "proto/results.h"

#include "common/base/banned.h"

enum err_code results_open(struct results *results, struct str json, struct err *err)
{
    struct str fields[RESULT_FIELDS];
    enum err_code rc = schema_decode(&SCHEMA_RESULT, json, fields, err);

    if (rc != ERR_OK)
        return rc;
    *results = (struct results){.many = fields[RESULT_RESULTS].ptr != NULL, .one = json};
    if (results->many)
        jt_iter_init(&results->it, fields[RESULT_RESULTS]);
    return ERR_OK;
}

static struct str or_none(struct str value)
{
    return jt_type(value) == JT_NULL ? STR_NONE : value;
}

/* The whole was checked by results_open; this only takes it apart. A key with escapes is rare and slow. */
static void take_apart(struct str item, struct str *fields)
{
    bool escaped = false;
    struct jt_iter it;

    for (size_t i = 0; i < RESULT_ITEM_FIELDS; i++)
        fields[i] = STR_NONE;
    jt_iter_init(&it, item);
    while (jt_next(&it)) {
        escaped = escaped || it.key_escaped;
        for (size_t i = 0; i < RESULT_ITEM_FIELDS; i++) {
            if (str_eq(it.key, schema_field_name(&SCHEMA_RESULT_ITEM, i)))
                fields[i] = or_none(it.value);
        }
    }
    for (size_t i = 0; escaped && i < RESULT_ITEM_FIELDS; i++)
        fields[i] = or_none(jt_get_str(item, schema_field_name(&SCHEMA_RESULT_ITEM, i)));
}

bool results_next(struct results *results, struct str fields[RESULT_ITEM_FIELDS])
{
    if (results->many) {
        if (!jt_next(&results->it))
            return false;
        take_apart(results->it.value, fields);
        return true;
    }
    if (results->one.ptr == NULL)
        return false;
    take_apart(results->one, fields);
    results->one = STR_NONE;
    return true;
}
