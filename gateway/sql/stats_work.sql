-- What the newest active and pending runs of the organisation have open: tasks that are out or wait for a worker, and what
-- else is waited for, slots of concurrency limits too. The run's own timeout is left out, and what a
-- reason says behind its code.
-- $1 int4: so many runs of each are looked at  $2 int4: and so many rows of theirs
-- Columns: kind text; pool text; priority int2; reason text; count int8; oldest opened_at timestamptz; next due_at timestamptz.
-- Indexes: run_by_status, open_work_run. No locks.
SELECT CASE w.kind WHEN 9 THEN 'admission' ELSE open_work_name(w.kind) END AS kind, w.pool, w.priority, w.reason, count(*) AS count,
       min(w.opened_at) AS oldest, min(w.due_at) AS next
  FROM (SELECT o.kind, o.pool, o.priority, o.reason, o.opened_at, o.due_at
          FROM unnest(ARRAY['active', 'pending']) AS wanted
         CROSS JOIN LATERAL (SELECT r.id FROM run r WHERE r.organisation = current_organisation() AND r.status = wanted
                              ORDER BY r.id DESC LIMIT $1) a
         CROSS JOIN LATERAL (SELECT w.kind, w.pool, w.priority, split_part(w.reason, ':', 1) AS reason, w.opened_at, w.due_at FROM open_work w
                              WHERE w.run_id = a.id AND w.kind > 0 AND w.kind <> 4
                                AND w.organisation = current_organisation()) o
         LIMIT $2) w
 GROUP BY w.kind, w.pool, w.priority, w.reason
 ORDER BY count(*) DESC, 1, 2, 3, 4 LIMIT 200
