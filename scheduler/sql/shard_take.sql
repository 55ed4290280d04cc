-- Takes shards that are free. $1 text: name; $2 uuid: incarnation; $3 smallint[]: shards. Columns: smallint, shard; bigint,
-- its new epoch; only for those that were had. Takes the exclusive advisory lock of each shard, without waiting: a batch
-- of the old owner that is still open keeps its shard until it has ended. Then the shard's row.
WITH locked AS MATERIALIZED (
    SELECT wanted FROM unnest($3::smallint[]) wanted WHERE pg_try_advisory_xact_lock(1919119216, wanted)
)
UPDATE shard s SET owner = $1, incarnation = $2, epoch = s.epoch + 1
  FROM locked
 WHERE s.shard = locked.wanted
   AND NOT EXISTS (SELECT FROM scheduler o WHERE o.incarnation = s.incarnation AND o.lease_until > now())
RETURNING s.shard, s.epoch
