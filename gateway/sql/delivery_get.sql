-- A delivery, whole. $1 uuid id.
-- Columns: those of delivery_list.sql, then request json, excerpt text. Index: primary key. No locks.
SELECT id, at, workflow, trigger, status, stage, reason, address, body_bytes, took_us, run_id, redelivered_from, old_secret, audit,
       stage NOT IN ('replay', 'hold') AND (run_id IS NOT NULL OR genuine OR body IS NOT NULL), request, excerpt
  FROM delivery WHERE organisation = current_organisation() AND id = $1
