-- Writes dead letters; one that names a run but no organisation gets the run's, if there is such a run.
-- $1 int[] organisation  $2 text[] kind  $3 text[] source  $4 uuid[] run  $5 text[] step  $6 text[] reason  $7 bytea[] body
-- $8 text[] type  $9 text[] message id  $10 int[] bytes of all of it  $11 uuid[] the letter it comes from
-- Index: primary key of run, row by row.
INSERT INTO dead_letter (organisation, kind, source, run_id, step, reason, body, type, message_id, bytes, ancestor)
SELECT coalesce(l.organisation, r.organisation), l.kind, l.source, l.run_id, l.step, l.reason, l.body, l.type, l.message_id,
       l.bytes, l.ancestor
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::bytea[], $8::text[], $9::text[],
              $10::integer[], $11::uuid[])
       AS l (organisation, kind, source, run_id, step, reason, body, type, message_id, bytes, ancestor)
  LEFT JOIN LATERAL (SELECT run.organisation FROM run WHERE run.id = l.run_id OFFSET 0) r ON l.organisation IS NULL
