-- What has become of an operation on many runs.
-- $1 uuid operation
-- Columns: kind text, filter json, runs int4, created_at timestamptz, created_by text; how many of its commands wait, are held,
-- were applied, were refused int8; the first 20 refusals json. Indexes: primary keys. No locks.
WITH verdict AS MATERIALIZED (
    SELECT b.run_id, c.id IS NOT NULL AS waits, coalesce(c.held, false) AS held, e.type, e.data
      FROM bulk_run b
      LEFT JOIN command c ON c.id = b.command AND c.run_id = b.run_id AND c.organisation = b.organisation
      LEFT JOIN LATERAL (SELECT x.type, x.data FROM event x
                          WHERE c.id IS NULL AND x.run_id = b.run_id AND x.type IN (40, 41)
                            AND (x.data ->> 'command')::int8 = b.command
                          ORDER BY x.seq LIMIT 1) e ON true
     WHERE b.organisation = current_organisation() AND b.operation = $1)
SELECT o.kind, o.filter, o.runs, o.created_at, o.created_by, v.waiting, v.held, v.applied, v.refused,
       (SELECT coalesce(json_agg(r), '[]')
          FROM (SELECT run_id, data ->> 'code' AS code, data ->> 'message' AS reason
                  FROM verdict WHERE type = 41 ORDER BY run_id LIMIT 20) r)
  FROM bulk_operation o
 CROSS JOIN (SELECT count(*) FILTER (WHERE waits AND NOT held) AS waiting, count(*) FILTER (WHERE held) AS held,
                    count(*) FILTER (WHERE type = 40) AS applied, count(*) FILTER (WHERE type = 41) AS refused
               FROM verdict) v
 WHERE o.organisation = current_organisation() AND o.id = $1
