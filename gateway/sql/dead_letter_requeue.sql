-- Sends an open dead letter again: a command for each run that it is about, and the letter's new status, or nothing at all.
-- $1 uuid letter  $2 bool also one that names no organisation  $3 text who  $4 bytea corrected body, NULL: as it is
-- $5 uuid[] runs  $6 smallint[] their slots  $7 json[] commands
-- Columns: known bool (every run is one of the organisation), sent bool (else it was not open), shard int2 to be told; a row for
-- each of those.
-- Primary keys; locks the letter's row, so that of two requests one finds it done.
WITH target AS (
    SELECT s.shard, r.id, m.body, m.n
      FROM unnest($5::uuid[], $6::smallint[], $7::json[]) WITH ORDINALITY AS m (run, slot, body, n)
      JOIN run r ON r.id = m.run AND r.organisation = current_organisation()
      JOIN slot s ON s.slot = m.slot),
known AS (SELECT count(*) = cardinality($5) AS all_runs FROM target),
letter AS (
    UPDATE dead_letter SET status = 'requeued', decided_at = now(), decided_by = $3, corrected = $4
      FROM known
     WHERE id = $1 AND status = 'open' AND (organisation = current_organisation() OR (organisation IS NULL AND $2))
       AND known.all_runs
    RETURNING id),
sent AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT t.shard, current_organisation(), t.id, 'requeue', t.body FROM target t, letter ORDER BY t.n
    RETURNING shard)
SELECT known.all_runs, EXISTS (SELECT FROM letter), s.shard FROM known LEFT JOIN (SELECT DISTINCT shard FROM sent) s ON true
