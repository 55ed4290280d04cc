/* What an HTTP status means for a step that got it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Is it worth another try? Of 3xx and 4xx only what says so itself, of 5xx all but what will stay so
 * (docs/workflow-language.md). */
bool http_status_is_transient(int64_t status);
