-- Writes the row of a run whose status has changed; NULL leaves a column as it is.
-- $1 uuid[] run  $2 text[] status  $3 timestamptz[] started_at  $4 timestamptz[] ended_at  $5 text[] error_code
-- $6 text[] error_step  $7 text[] error_text. Index: primary key.
UPDATE run r SET status = c.status, started_at = coalesce(c.started_at, r.started_at), ended_at = coalesce(c.ended_at, r.ended_at),
    error_code = coalesce(c.error_code, r.error_code), error_step = coalesce(c.error_step, r.error_step),
    error_text = coalesce(c.error_text, r.error_text)
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[], $7::text[])
     AS c (id, status, started_at, ended_at, error_code, error_step, error_text)
WHERE r.id = c.id
