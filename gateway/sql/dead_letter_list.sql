-- A page of the organisation's dead letters by id; bodies are left out.
-- $1 uuid ids above this one  $2 int4 how many
-- Columns: id uuid, at timestamptz, kind text, source text, run uuid, step text, reason text, bytes int4. No locks.
SELECT id, at, kind, source, run_id, step, reason, length(body) FROM dead_letter
 WHERE organisation = current_organisation() AND id > $1 ORDER BY id LIMIT $2
