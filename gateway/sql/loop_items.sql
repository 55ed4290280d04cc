-- A page of a loop's iterations by index. They begin in order. One that has not begun when its loop ends counts as
-- cancelled. What a retry goes on with is as its newest event says. Joins here are lookups one by one (OFFSET 0 keeps them so): with old statistics others may be
-- quadratic.
-- $1 uuid run  $2 text the loop's path  $3 int4 index to begin with  $4 int4 how many  $5 text status or NULL
-- Columns: index int4, status text, began timestamptz, ended timestamptz, data of the end json, output's length int4 (0: none),
-- output json when it is short enough to be shown. Index: primary key (all events of the run). No locks.
WITH loop AS MATERIALIZED (
    SELECT max((e.data ->> 'count')::int4) FILTER (WHERE e.type = 22 AND e.data ->> 'waits' = 'items') AS count,
           (array_agg(e.type ORDER BY e.seq DESC) FILTER (WHERE e.type <> 30))[1] BETWEEN 24 AND 29 AS over
      FROM event e WHERE e.run_id = $1 AND e.organisation = current_organisation() AND e.step = $2),
begun AS MATERIALIZED (
    SELECT split_part(substr(e.step, length($2::text) + 2), ']', 1)::int4 AS n, min(e.at) AS at,
           max(e.seq) FILTER (WHERE strpos(substr(e.step, length($2) + 2), '.') = 0) AS end_seq,
           (array_agg(e.type ORDER BY e.seq DESC) FILTER (WHERE strpos(substr(e.step, length($2) + 2), '.') = 0))[1] AS end_type
      FROM event e
     WHERE e.run_id = $1 AND e.organisation = current_organisation() AND starts_with(e.step, $2 || '[')
     GROUP BY 1),
item AS (
    SELECT n, at, end_seq,
           CASE end_type WHEN 24 THEN 'succeeded' WHEN 25 THEN 'failed' WHEN 28 THEN 'cancelled' ELSE 'running' END AS status
      FROM begun WHERE n >= $3::int4
    UNION ALL
    SELECT i.n, NULL, NULL, CASE WHEN loop.over THEN 'cancelled' ELSE 'pending' END
      FROM loop
     CROSS JOIN LATERAL generate_series(greatest($3::int4, (SELECT coalesce(max(n) + 1, 0) FROM begun)), loop.count - 1) AS i (n)),
page AS MATERIALIZED (
    SELECT * FROM item WHERE $5::text IS NULL OR status = $5 ORDER BY n LIMIT $4)
SELECT p.n, p.status, p.at, e.at, e.data, coalesce(octet_length(o.output), 0),
       CASE WHEN octet_length(o.output) <= 4096 THEN o.output::json END
  FROM page p
  LEFT JOIN LATERAL (SELECT b.at, b.data, coalesce((b.data ->> 'ref')::int4, b.seq) AS body FROM event b
                      WHERE b.run_id = $1 AND b.seq = p.end_seq AND b.organisation = current_organisation() OFFSET 0) e ON true
  LEFT JOIN LATERAL (SELECT b.output::text AS output FROM event b
                      WHERE b.run_id = $1 AND b.seq = e.body AND p.status = 'succeeded'
                        AND b.organisation = current_organisation() OFFSET 0) o ON true
 ORDER BY p.n
