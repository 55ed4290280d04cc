-- Revokes a key, but for the last admin key.
-- $1 uuid
-- Columns: found bool, revoked bool (also when it was before). Primary key. Locks: its row; the caller holds the lock of
-- revocations.
WITH other AS (
    SELECT EXISTS (SELECT FROM api_key WHERE organisation = current_organisation() AND role = 'admin' AND revoked_at IS NULL
                      AND id <> $1) AS admin),
done AS (
    UPDATE api_key SET revoked_at = coalesce(revoked_at, now())
     WHERE organisation = current_organisation() AND id = $1
       AND (role <> 'admin' OR revoked_at IS NOT NULL OR (SELECT admin FROM other))
    RETURNING id)
SELECT EXISTS (SELECT FROM api_key WHERE organisation = current_organisation() AND id = $1), EXISTS (SELECT FROM done)
