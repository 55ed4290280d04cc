-- The end of a drained process: its lease. $1 uuid: incarnation. Locks its own row.
DELETE FROM scheduler WHERE incarnation = $1
