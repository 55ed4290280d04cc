-- How far loops are: of each, how many iterations have begun and ended. Joins here are lookups one by one (OFFSET 0 keeps
-- them so): with old statistics others may be quadratic.
-- $1 uuid run  $2 text[] paths of loops
-- Columns, one row per loop that has items: path text, items int4, begun, succeeded, failed, cancelled int4, length of the
-- list of outputs int8, indexes of the first 100 failed items json. Index: primary key (all events of the run). No locks.
WITH loop AS MATERIALIZED (
    SELECT e.step AS path, max((e.data ->> 'count')::int4) AS count
      FROM event e
     WHERE e.run_id = $1 AND e.organisation = current_organisation() AND e.step = ANY ($2::text[]) AND e.type = 22
       AND e.data ->> 'waits' = 'items'
     GROUP BY 1),
item AS MATERIALIZED (
    SELECT l.path, split_part(substr(e.step, length(l.path) + 2), ']', 1)::int4 AS n,
           max(e.seq) FILTER (WHERE strpos(substr(e.step, length(l.path) + 2), '.') = 0) AS end_seq
      FROM event e JOIN loop l ON starts_with(e.step, l.path || '[')
     WHERE e.run_id = $1 AND e.organisation = current_organisation()
     GROUP BY 1, 2),
ended AS MATERIALIZED (
    SELECT i.path, i.n, e.type, octet_length(o.output) AS bytes
      FROM item i
      LEFT JOIN LATERAL (SELECT b.type, coalesce((b.data ->> 'ref')::int4, b.seq) AS body FROM event b
                          WHERE b.run_id = $1 AND b.seq = i.end_seq AND b.organisation = current_organisation() OFFSET 0) e ON true
      LEFT JOIN LATERAL (SELECT b.output::text AS output FROM event b
                          WHERE b.run_id = $1 AND b.seq = e.body AND e.type = 24
                            AND b.organisation = current_organisation() OFFSET 0) o ON true)
SELECT l.path, l.count, count(e.n)::int4, (count(*) FILTER (WHERE e.type = 24))::int4,
       (count(*) FILTER (WHERE e.type = 25))::int4, (count(*) FILTER (WHERE e.type = 28))::int4,
       coalesce(sum(coalesce(e.bytes, 4)), 0)::int8 + 4 * (l.count - count(e.n)) + l.count + 1,
       (SELECT coalesce(json_agg(f.n ORDER BY f.n), '[]')
          FROM (SELECT x.n FROM ended x WHERE x.path = l.path AND x.type = 25 ORDER BY x.n LIMIT 100) f)
  FROM loop l LEFT JOIN ended e ON e.path = l.path
 GROUP BY l.path, l.count
