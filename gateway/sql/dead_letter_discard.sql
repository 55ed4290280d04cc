-- Puts an open dead letter away. $1 uuid letter  $2 bool also one that names no organisation  $3 text who
-- Primary key; locks the letter's row.
UPDATE dead_letter SET status = 'discarded', decided_at = now(), decided_by = $3
 WHERE id = $1 AND status = 'open' AND (organisation = current_organisation() OR (organisation IS NULL AND $2))
