-- All shards, seen from $1 uuid: incarnation of this process. Columns: smallint, shard; bigint, epoch; bool, mine; bool,
-- free to take: nobody's, or of a process whose lease has ended. Few rows, read whole. No locks.
SELECT s.shard, s.epoch, coalesce(s.incarnation = $1, false),
       NOT EXISTS (SELECT FROM scheduler o WHERE o.incarnation = s.incarnation AND o.lease_until > now())
  FROM shard s ORDER BY s.shard
