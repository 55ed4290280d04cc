-- One dead letter with all of its body. $1 uuid letter  $2 bool also one that names no organisation
-- Columns: those of dead_letter_list, then body bytea, body in base64 text, corrected bytea. Primary key. No locks.
SELECT id, at, kind, source, run_id, step, reason, coalesce(bytes, length(body), 0), type, message_id, status, ancestor, decided_at,
       decided_by, organisation IS NOT NULL, body, translate(encode(body, 'base64'), E'\n', ''), corrected
  FROM dead_letter
 WHERE id = $1 AND (organisation = current_organisation() OR (organisation IS NULL AND $2))
