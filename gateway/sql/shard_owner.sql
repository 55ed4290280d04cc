-- Does a scheduler look after this slot's shard, and what has it told of its broker and queues in the last 10 s?
-- $1 int2 slot
-- Columns: shard int2, name of the scheduler text, alive bool, now timestamptz, health json or NULL, when it was told timestamptz.
-- Primary keys. No locks.
SELECT s.shard, s.owner, coalesce(c.lease_until > now(), false), now(),
       CASE WHEN c.health_at > now() - interval '10 s' THEN c.health END, c.health_at
  FROM slot JOIN shard s ON s.shard = slot.shard LEFT JOIN scheduler c ON c.incarnation = s.incarnation
 WHERE slot.slot = $1
