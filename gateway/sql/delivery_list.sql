-- A page of the delivery log, newest first; headers, query and excerpt are left out.
-- $1 uuid lowest id  $2 uuid ids below this one  $3 int4 how many  $4 text workflow  $5 text trigger  $6 text stage  $7 text reason
-- $8 int2 status  $9 uuid run; $4 to $9 NULL: any
-- Columns: id uuid, at timestamptz, workflow text, trigger text, status int2, stage text, reason text, address text,
-- body_bytes int4, took_us int4, run uuid, redelivered from uuid, old secret bool, audit text, can be taken again bool.
-- Index: primary key. No locks.
SELECT id, at, workflow, trigger, status, stage, reason, address, body_bytes, took_us, run_id, redelivered_from, old_secret, audit,
       stage NOT IN ('replay', 'hold') AND (run_id IS NOT NULL OR genuine OR body IS NOT NULL)
  FROM delivery
 WHERE organisation = current_organisation() AND id >= $1 AND id < $2
   AND ($4::text IS NULL OR workflow = $4) AND ($5::text IS NULL OR trigger = $5) AND ($6::text IS NULL OR stage = $6)
   AND ($7::text IS NULL OR reason = $7) AND ($8::int2 IS NULL OR status = $8) AND ($9::uuid IS NULL OR run_id = $9)
 ORDER BY id DESC LIMIT $3
