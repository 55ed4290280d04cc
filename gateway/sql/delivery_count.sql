-- How many deliveries ended where and why, most first.
-- $1 uuid lowest id  $2 uuid ids below this one  $3 text workflow  $4 text trigger  $5 text stage  $6 text reason
-- $7 int2 status  $8 uuid run; $3 to $8 NULL: any
-- Columns: stage text, reason text, status int2, count int8. Index: primary key. No locks.
SELECT stage, reason, status, count(*)
  FROM delivery
 WHERE organisation = current_organisation() AND id >= $1 AND id < $2
   AND ($3::text IS NULL OR workflow = $3) AND ($4::text IS NULL OR trigger = $4) AND ($5::text IS NULL OR stage = $5)
   AND ($6::text IS NULL OR reason = $6) AND ($7::int2 IS NULL OR status = $7) AND ($8::uuid IS NULL OR run_id = $8)
 GROUP BY stage, reason, status ORDER BY count(*) DESC, stage, reason, status
