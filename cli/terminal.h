/* What a terminal can show: its size, and how wide a text is on it. */
#pragma once
#include "common/base/str.h"

struct terminal_size {
    size_t rows, columns;
};
struct terminal_size terminal_size(void); /* of stdout; 24 x 80 when it does not say */
bool terminal_is_good(void);              /* is stdout one, and can it move its cursor? */
/* Of text that clean_append has passed: all of it is UTF-8. */
size_t terminal_columns(struct str s);
/* What fits into `columns`, without blanks at the end. */
struct str terminal_cut(struct str line, size_t columns);
