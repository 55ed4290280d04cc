-- Does a scheduler look after this slot's shard?
-- $1 int2 slot
-- Columns: shard int2, name of the scheduler text, alive bool. Primary keys. No locks.
SELECT s.shard, s.owner, coalesce(c.lease_until > now(), false)
  FROM slot JOIN shard s ON s.shard = slot.shard LEFT JOIN scheduler c ON c.incarnation = s.incarnation
 WHERE slot.slot = $1
