-- Lets quarantined runs go. $1 uuid[] run
DELETE FROM quarantine WHERE run_id = ANY ($1::uuid[])
