-- A page of a loop's iterations by index. An iteration that has not begun when its loop ends never will: it counts as
-- cancelled.
-- $1 uuid run  $2 text the loop's path  $3 int4 index to begin with  $4 int4 how many  $5 text status or NULL
-- Columns: index int4, status text, began timestamptz, ended timestamptz, data of the end json, output's length int4 (0: none),
-- output json when it is short enough to be shown. Index: primary key (all events of the run). No locks.
WITH loop AS (
    SELECT max((e.data ->> 'count')::int4) FILTER (WHERE e.type = 22 AND e.data ->> 'waits' = 'items') AS count,
           bool_or(e.type BETWEEN 24 AND 29) AS over
      FROM event e WHERE e.run_id = $1 AND e.organisation = current_organisation() AND e.step = $2),
begun AS (
    SELECT split_part(substr(e.step, length($2::text) + 2), ']', 1)::int4 AS n, min(e.at) AS at,
           max(e.seq) FILTER (WHERE strpos(substr(e.step, length($2) + 2), '.') = 0) AS end_seq,
           max(e.type) FILTER (WHERE strpos(substr(e.step, length($2) + 2), '.') = 0) AS end_type
      FROM event e
     WHERE e.run_id = $1 AND e.organisation = current_organisation() AND starts_with(e.step, $2 || '[')
     GROUP BY 1),
page AS (
    SELECT i.n, b.at, b.end_seq, s.status
      FROM loop
     CROSS JOIN LATERAL generate_series($3::int4, loop.count - 1) AS i (n)
      LEFT JOIN begun b ON b.n = i.n
     CROSS JOIN LATERAL (SELECT CASE b.end_type WHEN 24 THEN 'succeeded' WHEN 25 THEN 'failed' WHEN 28 THEN 'cancelled'
                                     ELSE CASE WHEN b.at IS NOT NULL THEN 'running' WHEN loop.over THEN 'cancelled'
                                               ELSE 'pending' END END AS status) s
     WHERE $5::text IS NULL OR s.status = $5
     ORDER BY i.n LIMIT $4)
SELECT p.n, p.status, p.at, e.at, e.data, coalesce(octet_length(o.output::text), 0),
       CASE WHEN octet_length(o.output::text) <= 4096 THEN o.output END
  FROM page p
  LEFT JOIN event e ON e.run_id = $1 AND e.seq = p.end_seq
  LEFT JOIN event o ON o.run_id = $1 AND e.type = 24 AND o.seq = coalesce((e.data ->> 'ref')::int4, e.seq)
 ORDER BY p.n
