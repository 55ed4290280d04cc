-- Renews the lease. $1 uuid: incarnation; $2 int: lease in milliseconds. Column: int, 1 per row renewed; no row: this
-- process has been replaced or removed. Locks its own row. Index: scheduler_incarnation_key. HOT: no index on lease_until.
UPDATE scheduler SET lease_until = now() + $2::int * interval '1 ms' WHERE incarnation = $1 RETURNING 1
