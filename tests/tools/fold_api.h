/* What the API says of a run, for fold-check: GET /v1/runs/{id} of ROPEWALK_URL with ROPEWALK_API_KEY. */
#pragma once
#include "common/engine/engine.h"

struct fold_api;

/* What else than the fold a run's answer is compared with. */
struct fold_row {
    const char *run;
    int64_t version;
    bool ended;
    struct str error_code, error_step; /* STR_NONE: none */
};

struct fold_api *fold_api_new(void); /* ends the program with status 2 when it is not told where the API is */
void fold_api_free(struct fold_api *api);
/* Compares and tells each difference by `fault`. The run may have moved on meanwhile: who calls finds out. */
void fold_api_compare(struct fold_api *api, const struct fold_row *row, const struct run_state *state,
                      void (*fault)(void *ctx, const char *text), void *ctx);
