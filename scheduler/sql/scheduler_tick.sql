-- Renews the lease and tells who shares the shards and who owns them: one statement each second, also when all is idle.
-- $1 uuid: incarnation of this process; $2 int: lease in milliseconds; $3 json: its load, for gateways; $4 json: its
-- health (migration 9).
-- Columns, a row per shard: smallint, shard; bigint, epoch; bool, mine; bool, free to take: nobody's, or of a process whose
-- lease has ended; int, event format that its runs need; and the same in each row: bigint, rows renewed (0: this process has
-- been replaced or removed); bigint, live schedulers; bigint, how many of them come before this one by name; int and int, the
-- oldest and the newest of the event formats that they announce; bigint and bigint, how many announce the newest, and how
-- many of those come before this one; bigint, milliseconds until the first lease of another ends (NULL: none); timestamptz,
-- PostgreSQL's clock.
-- Locks its own row. Few rows, read whole; HOT: no index on lease_until.
WITH renewed AS (
    UPDATE scheduler SET lease_until = now() + $2::int * interval '1 ms', load = $3::json,
                         load_at = CASE WHEN $3::json IS NOT NULL THEN now() END,
                         health = $4::json, health_at = now() WHERE incarnation = $1 RETURNING 1
), live AS (
    SELECT format, lease_until, incarnation <> $1 AS other, max(format) OVER () AS newest,
           name < (SELECT name FROM scheduler WHERE incarnation = $1) AS before
      FROM scheduler WHERE lease_until > now() OR incarnation = $1
), all_of_them AS (
    SELECT count(*) AS members, count(*) FILTER (WHERE before) AS before, min(format) AS oldest, max(newest) AS newest,
           count(*) FILTER (WHERE format = newest) AS newest_members,
           count(*) FILTER (WHERE format = newest AND before) AS newest_before,
           (extract(epoch FROM min(lease_until) FILTER (WHERE other) - now()) * 1000)::bigint AS expiry_ms
      FROM live
)
SELECT s.shard, s.epoch, coalesce(s.incarnation = $1, false),
       NOT EXISTS (SELECT FROM scheduler o WHERE o.incarnation = s.incarnation AND o.lease_until > now()), s.format,
       (SELECT count(*) FROM renewed), a.members, a.before, a.oldest, a.newest, a.newest_members, a.newest_before,
       a.expiry_ms, clock_timestamp()
  FROM shard s CROSS JOIN all_of_them a
 ORDER BY s.shard
