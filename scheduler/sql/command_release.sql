-- Lets what was kept of released runs be fetched again. $1 uuid[]: runs. Index: command_run.
UPDATE command SET held = false WHERE run_id = ANY ($1::uuid[]) AND held
