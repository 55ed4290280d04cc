-- Notes that a secret is in use. Who else writes it is not waited for: the next use says so again.
-- $1 text name
-- Primary key. Locks the row if nobody has it.
UPDATE secret SET last_used_at = now()
 WHERE organisation = current_organisation() AND name = (
       SELECT name FROM secret WHERE organisation = current_organisation() AND name = $1 FOR NO KEY UPDATE SKIP LOCKED)
