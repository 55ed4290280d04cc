-- Writes dead letters.
-- $1 int[] organisation  $2 text[] kind  $3 text[] source  $4 uuid[] run  $5 text[] step  $6 text[] reason  $7 bytea[] body
INSERT INTO dead_letter (organisation, kind, source, run_id, step, reason, body)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::bytea[])
