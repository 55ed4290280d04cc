-- Releases runs. $1 uuid[]: runs. Index: primary key.
DELETE FROM quarantine WHERE run_id = ANY ($1::uuid[])
