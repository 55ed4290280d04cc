-- How many runs of the organisation are open, and what became of those begun in the last minute.
-- $1 int4: each is counted up to so many
-- Columns: part text: open | recent; status text; runs int8. Indexes: run_by_status, run_by_time. No locks.
SELECT 'open'::text AS part, o.status, count(*) AS runs
  FROM unnest(ARRAY['pending', 'active', 'paused']) AS wanted
 CROSS JOIN LATERAL (SELECT r.status FROM run r WHERE r.organisation = current_organisation() AND r.status = wanted
                      ORDER BY r.id DESC LIMIT $1) o
 GROUP BY o.status
UNION ALL
SELECT 'recent', n.status, count(*)
  FROM (SELECT r.status FROM run r
         WHERE r.organisation = current_organisation()
           AND r.id > (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - 60000), 12, '0') || repeat('0', 20))::uuid
         ORDER BY r.id DESC LIMIT $1) n
 GROUP BY n.status
