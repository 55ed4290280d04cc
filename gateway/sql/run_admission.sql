-- The concurrency key that a run waits for, and its place in the queue.
-- $1 uuid run  $2 int the most running runs that an organisation may have for its own
-- Columns: workflow text (NULL: the organisation's limit), name json (text of the key, NULL: the workflow has none), bound int4
-- (runs at a time; NULL: no limit any more), held int4, position int8 (from 1), waiting int4, holders text (ids of the 5 oldest, with a comma between).
-- Indexes: admission_run, admission_order, primary keys. No locks.
SELECT k.workflow, k.name, coalesce(CASE WHEN k.workflow IS NULL AND o.limits ->> 'max_running_runs' IS NOT NULL
                                             THEN least((o.limits ->> 'max_running_runs')::integer, $2::int) END, a.bound), k.held,
       (SELECT count(*) FROM admission b WHERE b.key = a.key AND NOT b.granted AND b.number <= a.number), k.waiting,
       (SELECT string_agg(h.run_id::text, ', ') FROM (SELECT b.run_id FROM admission b WHERE b.key = a.key AND b.granted
                                                       ORDER BY b.number LIMIT 5) h)
  FROM admission a JOIN admission_key k ON k.key = a.key JOIN organisation o ON o.id = a.organisation
 WHERE a.run_id = $1 AND NOT a.granted AND a.organisation = current_organisation()
