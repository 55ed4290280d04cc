-- Inputs of runs. $1 uuid[]: runs. Columns: id, input as text. Index: primary key of run.
SELECT id, input::text FROM run WHERE id = ANY ($1::uuid[])
