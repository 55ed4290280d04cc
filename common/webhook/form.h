/* Bodies that are forms. Pure. */
#pragma once
#include "common/base/json_text.h"

/* Is the Content-Type this one, whatever its parameters? `type` in lower case. */
bool form_type_is(struct str content_type, const char *type);
/* Names and values of an application/x-www-form-urlencoded body, one after another, by name (as Twilio signs them);
 * what cannot be decoded is left as it is. At most the body's length. */
void form_write_sorted(struct str body, struct arena *arena, struct buf *out);
/* The body as an object: a name that is there twice is a list. False: it is not percent-encoded UTF-8, or has more than
 * 1,000 fields. */
bool form_to_json(struct str body, struct arena *arena, struct jw *w);
