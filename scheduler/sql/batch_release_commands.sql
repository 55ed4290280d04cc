-- What was kept of released runs is applied now, in order. $1 uuid[] run. Index: command_run.
UPDATE command SET held = false WHERE held AND run_id = ANY ($1::uuid[])
