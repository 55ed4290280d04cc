-- Writes the row of a run whose status has changed; NULL leaves a column as it is, but for the end of one that was opened
-- again.
-- $1 uuid[] run  $2 text[] status  $3 timestamptz[] started_at  $4 timestamptz[] ended_at  $5 text[] error_code
-- $6 text[] error_step  $7 text[] error_text  $8 boolean[] reopened. Index: primary key.
UPDATE run r SET status = c.status, started_at = coalesce(c.started_at, r.started_at),
    ended_at = CASE WHEN c.reopened THEN c.ended_at ELSE coalesce(c.ended_at, r.ended_at) END,
    error_code = CASE WHEN c.reopened THEN c.error_code ELSE coalesce(c.error_code, r.error_code) END,
    error_step = CASE WHEN c.reopened THEN c.error_step ELSE coalesce(c.error_step, r.error_step) END,
    error_text = CASE WHEN c.reopened THEN c.error_text ELSE coalesce(c.error_text, r.error_text) END
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::boolean[])
     AS c (id, status, started_at, ended_at, error_code, error_step, error_text, reopened)
WHERE r.id = c.id
