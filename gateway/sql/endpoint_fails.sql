-- Whether an endpoint fails; nothing where that is known. One that is gone is sent nothing more.
-- $1 uuid  $2 bool it has failed  $3 bool it is gone
-- Primary key. Locks the row if it changes, and of one that is gone the organisation's.
UPDATE endpoint SET failing_since = CASE WHEN $2 THEN coalesce(failing_since, now()) END,
       enabled = enabled AND NOT $3, disabled_reason = CASE WHEN $3 AND enabled THEN 'gone' ELSE disabled_reason END,
       disabled_at = CASE WHEN $3 AND enabled THEN now() ELSE disabled_at END
 WHERE organisation = current_organisation() AND id = $1 AND ((failing_since IS NOT NULL) <> $2 OR (enabled AND $3))
