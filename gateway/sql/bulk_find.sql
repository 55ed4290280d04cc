-- How many runs match a filter, and the newest of them.
-- $1 uuid lowest id  $2 uuid ids below this one  $3 text workflow or NULL  $4 text[] states
-- $5 bool of the active ones: those with (true) or without (false) a task out, or NULL  $6 text q or NULL: workflow that begins
-- so, or exactly the code or the step of the error, or  $7 uuid exactly this run  $8 text[] label keys  $9 text[] label values
-- $10 uuid the parent or NULL  $11 int4 at most so many  $12 bool no child runs, unless by their parent
-- Columns: how many int8, ids of the newest 20 text, a comma between. Index: run_by_status. No locks.
SELECT count(*), array_to_string((array_agg(id ORDER BY id DESC))[1:20], ',')
  FROM (SELECT r.id
          FROM run r
         CROSS JOIN LATERAL (SELECT r.status = 'active' AND EXISTS (SELECT FROM open_work o WHERE o.run_id = r.id AND o.kind = 1) AS out) w
         WHERE r.organisation = current_organisation() AND r.id >= $1 AND r.id < $2
           AND r.status = ANY ($4::text[])
           AND ($3::text IS NULL OR r.workflow = $3)
           AND ($5::bool IS NULL OR w.out = $5)
           AND ($6::text IS NULL OR r.id = $7::uuid OR starts_with(r.workflow, $6) OR r.error_code = $6 OR r.error_step = $6)
           AND NOT EXISTS (SELECT FROM unnest($8::text[], $9::text[]) AS l (key, value)
                            WHERE NOT EXISTS (SELECT FROM run_label x
                                               WHERE x.organisation = current_organisation() AND x.key = l.key
                                                 AND x.value = l.value AND x.run_id = r.id))
           AND CASE WHEN $12::bool THEN r.parent IS NOT DISTINCT FROM $10::uuid ELSE $10::uuid IS NULL OR r.parent = $10 END
         ORDER BY r.id DESC LIMIT $11) matching
