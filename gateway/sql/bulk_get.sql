-- What has become of an operation on many runs. What is counted is in its row; the rest is looked at, of which there is never much.
-- $1 uuid operation
-- Columns: kind text, filter json, runs int4, created_at timestamptz, created_by text; how many of its runs were done, were
-- refused, are held, are out int8; the first 20 refusals json; the first 20 new runs json, NULL when it starts none; cancelled_at
-- timestamptz, cancelled_by text.
-- Indexes: primary keys, bulk_run_asked, bulk_run_refused. No locks.
WITH verdict AS MATERIALIZED (SELECT * FROM bulk_verdicts(current_organisation(), $1)),
fresh AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE verdict = 'applied') AS applied, count(*) FILTER (WHERE verdict = 'refused') AS refused,
           count(*) FILTER (WHERE verdict = 'held') AS held, count(*) FILTER (WHERE verdict = 'waits') AS out
      FROM verdict)
SELECT o.kind, o.filter, o.runs, o.created_at, o.created_by, o.applied + f.applied, o.refused + f.refused, f.held, f.out,
       (SELECT coalesce(json_agg(r), '[]')
          FROM (SELECT run_id, code, message AS reason
                  FROM ((SELECT b.run_id, b.code, b.message FROM bulk_run b
                          WHERE b.organisation = current_organisation() AND b.operation = $1 AND b.code IS NOT NULL AND b.counted
                          ORDER BY b.run_id LIMIT 20)
                        UNION ALL SELECT v.run_id, v.code, v.message FROM verdict v WHERE v.verdict = 'refused') one
                 ORDER BY run_id LIMIT 20) r),
       CASE WHEN o.kind = 'rerun' AND o.applied + f.applied > 0 THEN
            (SELECT json_agg(n)
               FROM (SELECT run_id, new_run AS new_run_id FROM bulk_run b
                      WHERE b.organisation = current_organisation() AND b.operation = $1 AND b.new_run IS NOT NULL
                      ORDER BY b.run_id LIMIT 20) n)
            WHEN o.kind = 'rerun' THEN '[]' END,
       o.cancelled_at, o.cancelled_by
  FROM bulk_operation o CROSS JOIN fresh f
 WHERE o.organisation = current_organisation() AND o.id = $1
