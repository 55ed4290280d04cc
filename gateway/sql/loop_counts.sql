-- How far loops are: of each, how many iterations have begun and ended.
-- $1 uuid run  $2 text[] paths of loops
-- Columns, one row per loop that has items: path text, items int4, begun, succeeded, failed, cancelled int4, length of the
-- outputs int8, indexes of the first 100 failed items json. Index: primary key (all events of the run). No locks.
WITH loop AS (
    SELECT e.step AS path, max((e.data ->> 'count')::int4) AS count
      FROM event e
     WHERE e.run_id = $1 AND e.organisation = current_organisation() AND e.step = ANY ($2::text[]) AND e.type = 22
       AND e.data ->> 'waits' = 'items'
     GROUP BY 1),
item AS MATERIALIZED (
    SELECT l.path, split_part(substr(e.step, length(l.path) + 2), ']', 1)::int4 AS n,
           max(e.seq) FILTER (WHERE strpos(substr(e.step, length(l.path) + 2), '.') = 0) AS end_seq
      FROM loop l JOIN event e ON e.run_id = $1 AND e.organisation = current_organisation() AND starts_with(e.step, l.path || '[')
     GROUP BY 1, 2),
ended AS MATERIALIZED (
    SELECT i.path, i.n, e.type, octet_length(o.output::text) AS bytes
      FROM item i
      LEFT JOIN event e ON e.run_id = $1 AND e.seq = i.end_seq
      LEFT JOIN event o ON o.run_id = $1 AND e.type = 24 AND o.seq = coalesce((e.data ->> 'ref')::int4, e.seq))
SELECT l.path, l.count, count(e.n)::int4, (count(*) FILTER (WHERE e.type = 24))::int4,
       (count(*) FILTER (WHERE e.type = 25))::int4, (count(*) FILTER (WHERE e.type = 28))::int4,
       coalesce(sum(coalesce(e.bytes, 4)), 0)::int8 + 4 * (l.count - count(e.n)) + l.count + 1,
       (SELECT coalesce(json_agg(f.n ORDER BY f.n), '[]')
          FROM (SELECT x.n FROM ended x WHERE x.path = l.path AND x.type = 25 ORDER BY x.n LIMIT 100) f)
  FROM loop l LEFT JOIN ended e ON e.path = l.path
 GROUP BY l.path, l.count
