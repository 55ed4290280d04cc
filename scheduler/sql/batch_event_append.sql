-- Appends events. A (run_id, seq) that exists is a conflict: someone else wrote it, or this batch was committed before.
-- $1 uuid[] run  $2 int[] seq  $3 int[] organisation  $4 timestamptz[] at  $5 smallint[] type  $6 text[] step
-- $7 smallint[] attempt  $8 json[] data  $9 json[] output
-- Unnested in the SELECT list, because in FROM the rows would be kept until all are there, on disk when bodies are large.
INSERT INTO event (run_id, seq, organisation, at, type, step, attempt, data, output)
SELECT unnest($1::uuid[]), unnest($2::integer[]), unnest($3::integer[]), unnest($4::timestamptz[]), unnest($5::smallint[]),
       unnest($6::text[]), unnest($7::smallint[]), unnest($8::json[]), unnest($9::json[])
