/* Events as JSON. */
#include "gateway/event_json.h"
#include "common/engine/body_path.h"
#include "gateway/json_more.h"

#include "common/base/banned.h"

void body_reference(struct run_id run, int type, struct str step, int attempt, uint32_t seq, size_t bytes,
                    struct buf *out)
{
    CLEANUP(buf_deinit) struct buf path = {0};
    struct jw w = jw_to(out);

    buf_init(&path, BODY_PATH_SIZE);
    body_path(run, (enum event_type)type, step, attempt > 0 ? (unsigned)attempt : 0, seq, &path);
    jw_obj(&w);
    jw_kstr(&w, "$ref", buf_str(&path));
    jw_ki64(&w, "bytes", (int64_t)bytes);
    jw_end_obj(&w);
}

void event_json(struct run_id run, const struct pg_result *rows, size_t row, struct buf *out)
{
    int type = (int)pg_get_int(rows, row, 2);
    const char *name = event_type_name((enum event_type)type);
    struct str step = pg_get_str(rows, row, 3), output = pg_get_str(rows, row, 7);
    int attempt = (int)pg_get_int(rows, row, 4);
    int64_t bytes = pg_get_int(rows, row, 6);
    struct jw w = jw_to(out);

    jw_obj(&w);
    jw_ki64(&w, "seq", pg_get_int(rows, row, 0));
    jw_kcstr(&w, "type", name == NULL ? "unknown" : name);
    jw_ktime(&w, "at", pg_get_time(rows, row, 1));
    if (step.ptr != NULL)
        jw_kstr(&w, "step", step);
    if (attempt > 0)
        jw_ki64(&w, "attempt", attempt);
    if (!pg_is_null(rows, row, 5))
        jw_kraw(&w, "data", pg_get_str(rows, row, 5));
    if (bytes > 0 && output.ptr == NULL) {
        CLEANUP(buf_deinit) struct buf reference = {0};

        buf_init(&reference, 8192);
        body_reference(run, type, step, attempt, (uint32_t)pg_get_int(rows, row, 0), (size_t)bytes, &reference);
        jw_kraw(&w, "output", buf_str(&reference));
    } else if (output.ptr != NULL) {
        jw_kraw(&w, "output", output);
    }
    jw_end_obj(&w);
}
