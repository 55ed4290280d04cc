-- A signal with an idempotency key: the command, and the key with its number. A key that is known writes nothing; one that is
-- committed at the same moment by somebody else is a unique violation, and to be tried again.
-- $1 uuid run  $2 int2 its slot  $3 json body  $4 text queue that waits for the verdict  $5 text key  $6 bytea body hash
-- Columns: known bool, same body bool, command int8 (NULL: the key is of a start), shard int2; no row when there is no such
-- run. Primary keys. Locks: the unique entry of the key; waits for an equal one that is being committed.
WITH target AS (
    SELECT r.id, r.workflow, s.shard FROM run r JOIN slot s ON s.slot = $2
     WHERE r.id = $1 AND r.organisation = current_organisation()),
known AS (
    SELECT i.command, i.body_hash, t.shard
      FROM target t JOIN idempotency i ON i.organisation = current_organisation() AND i.scope = t.workflow AND i.key = $5),
made AS (
    INSERT INTO command (shard, organisation, run_id, kind, body, reply_to)
    SELECT shard, current_organisation(), id, 'signal', $3, $4 FROM target WHERE NOT EXISTS (SELECT FROM known)
    RETURNING id, shard),
kept AS (
    INSERT INTO idempotency (organisation, scope, key, body_hash, run_id, expires_at, command)
    SELECT current_organisation(), t.workflow, $5, $6::bytea, t.id, now() + interval '24 hours', made.id FROM made, target t)
SELECT false, true, id, shard FROM made
UNION ALL SELECT true, body_hash = $6::bytea, command, shard FROM known
