-- What has become of an operation on many runs.
-- $1 uuid operation
-- Columns: kind text, filter json, runs int4, created_at timestamptz, created_by text; how many of its runs wait, are held,
-- were done, were refused int8; the first 20 refusals json; the first 20 new runs json, NULL when it starts none.
-- Indexes: primary keys. No locks.
WITH verdict AS MATERIALIZED (
    SELECT b.run_id, b.new_run, c.id IS NOT NULL OR (b.command IS NULL AND b.new_run IS NULL AND b.code IS NULL) AS waits,
           coalesce(c.held, false) AS held, b.new_run IS NOT NULL OR e.type IS NOT DISTINCT FROM 40 AS done,
           b.code IS NOT NULL OR e.type IS NOT DISTINCT FROM 41 AS refused,
           coalesce(b.code, e.data ->> 'code') AS code, coalesce(b.message, e.data ->> 'message') AS reason
      FROM bulk_run b
      LEFT JOIN command c ON c.id = b.command AND c.run_id = b.run_id AND c.organisation = b.organisation
      LEFT JOIN LATERAL (SELECT x.type, x.data FROM event x
                          WHERE b.command IS NOT NULL AND c.id IS NULL AND x.run_id = b.run_id AND x.seq > b.after_seq
                            AND x.type IN (40, 41) AND (x.data ->> 'command')::int8 = b.command
                          ORDER BY x.seq LIMIT 1) e ON true
     WHERE b.organisation = current_organisation() AND b.operation = $1)
SELECT o.kind, o.filter, o.runs, o.created_at, o.created_by, v.waiting, v.held, v.done, v.refused,
       (SELECT coalesce(json_agg(r), '[]')
          FROM (SELECT run_id, code, reason FROM verdict WHERE refused ORDER BY run_id LIMIT 20) r),
       CASE WHEN o.body IS NOT NULL THEN
            (SELECT coalesce(json_agg(n), '[]')
               FROM (SELECT run_id, new_run AS new_run_id FROM verdict WHERE new_run IS NOT NULL ORDER BY run_id LIMIT 20) n) END
  FROM bulk_operation o
 CROSS JOIN (SELECT count(*) FILTER (WHERE waits AND NOT held) AS waiting, count(*) FILTER (WHERE held) AS held,
                    count(*) FILTER (WHERE done) AS done, count(*) FILTER (WHERE refused) AS refused
               FROM verdict) v
 WHERE o.organisation = current_organisation() AND o.id = $1
