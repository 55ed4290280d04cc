-- Renews the lease and tells who shares the shards and who owns them: one statement each second, also when all is idle.
-- $1 uuid: incarnation of this process; $2 int: lease in milliseconds; $3 json: its load, for gateways; $4 json: its
-- health (migration 9).
-- Columns, a row per shard: smallint, shard; bigint, epoch; bool, mine; bool, free to take: nobody's, or of a process whose
-- lease has ended; and the same in each row: bigint, rows renewed (0: this process has been replaced or removed); bigint,
-- live schedulers; bigint, how many of them come before this one by name; int, the oldest of their newest event formats;
-- bigint, milliseconds until the first lease of another ends (NULL: none); timestamptz, PostgreSQL's clock.
-- Locks its own row. Few rows, read whole; HOT: no index on lease_until.
WITH renewed AS (
    UPDATE scheduler SET lease_until = now() + $2::int * interval '1 ms', load = $3::json,
                         load_at = CASE WHEN $3::json IS NOT NULL THEN now() END,
                         health = $4::json, health_at = now() WHERE incarnation = $1 RETURNING 1
), live AS (
    SELECT count(*) AS members,
           count(*) FILTER (WHERE name < (SELECT name FROM scheduler WHERE incarnation = $1)) AS before,
           min(format) AS format,
           (extract(epoch FROM min(lease_until) FILTER (WHERE incarnation <> $1) - now()) * 1000)::bigint AS expiry_ms
      FROM scheduler WHERE lease_until > now() OR incarnation = $1
)
SELECT s.shard, s.epoch, coalesce(s.incarnation = $1, false),
       NOT EXISTS (SELECT FROM scheduler o WHERE o.incarnation = s.incarnation AND o.lease_until > now()),
       (SELECT count(*) FROM renewed), live.members, live.before, live.format, live.expiry_ms, clock_timestamp()
  FROM shard s CROSS JOIN live
 ORDER BY s.shard
