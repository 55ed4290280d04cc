-- Who shares the shards, seen from $1 uuid: incarnation of this process. Columns: bigint, live schedulers; bigint, how many
-- of them come before this one by name; int, the oldest of their newest event formats; bigint, milliseconds until the
-- first lease of another ends (NULL: none). Few rows, read whole. No locks.
SELECT count(*), count(*) FILTER (WHERE name < (SELECT name FROM scheduler WHERE incarnation = $1)), min(format),
       (extract(epoch FROM min(lease_until) FILTER (WHERE incarnation <> $1) - now()) * 1000)::bigint
  FROM scheduler WHERE lease_until > now()
