-- Enters this process as the scheduler of its name. A process that had the name before finds at its next renewal that it
-- has been replaced. $1 text: name; $2 uuid: incarnation of the process; $3 int: lease in milliseconds; $4 int: newest
-- event format it can write. Locks its own row. Index: primary key.
INSERT INTO scheduler (name, incarnation, lease_until, format) VALUES ($1, $2, now() + $3::int * interval '1 ms', $4)
ON CONFLICT (name) DO UPDATE
   SET incarnation = excluded.incarnation, lease_until = excluded.lease_until, format = excluded.format, started_at = now()
