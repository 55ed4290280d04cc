-- The output of a loop: a list of its items' outputs in order, null for those that have none. Joins here are lookups one by
-- one (OFFSET 0 keeps them so): with old statistics others may be quadratic.
-- $1 uuid run  $2 text the loop's path  $3 int4 how many items it has
-- Columns: list json. Index: primary key (all events of the run). No locks.
WITH newest AS MATERIALIZED (
    SELECT DISTINCT ON (1) split_part(substr(e.step, length($2::text) + 2), ']', 1)::int4 AS n,
           coalesce((e.data ->> 'ref')::int4, e.seq) AS seq, e.type
      FROM event e
     WHERE e.run_id = $1 AND e.organisation = current_organisation()
       AND starts_with(e.step, $2 || '[') AND strpos(substr(e.step, length($2) + 2), '.') = 0
     ORDER BY 1, e.seq DESC),
given AS (
    SELECT n, seq FROM newest WHERE type = 24),
-- each with the nulls of the items before it that gave none
spaced AS (
    SELECT g.n, repeat('null,', g.n - lag(g.n, 1, -1) OVER (ORDER BY g.n) - 1) || coalesce(o.output, 'null') AS output
      FROM given g
      LEFT JOIN LATERAL (SELECT b.output::text AS output FROM event b
                          WHERE b.run_id = $1 AND b.seq = g.seq AND b.organisation = current_organisation() OFFSET 0) o ON true)
SELECT ('[' || CASE WHEN count(*) > 0 THEN string_agg(output, ',' ORDER BY n) || repeat(',null', $3::int4 - 1 - max(n))
                    ELSE substr(repeat(',null', $3), 2) END || ']')::json
  FROM spaced
