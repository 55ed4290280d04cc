/* A document through the road that a save takes: the schema first, then the plan, each fault once. */
#pragma once
#include "common/engine/plan.h"
#include "tests/unit/base/test.h"

/* One "code pointer" line per fault, "" when there is none; the plan (or NULL) in *ret, if asked for. */
const char *save(struct arena *arena, struct str text, const struct plan_limits *limits, struct plan **ret);
/* Compiles a document that must be good. */
struct plan *good(const char *text);
