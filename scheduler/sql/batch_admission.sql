-- What is asked of the concurrency keys of this batch's shards, in that order; runs that are admitted, refused or have to make
-- room are told so by commands.
-- $1 smallint[] shard  $2 uuid[] key  $3 int[] organisation  $4 uuid[] run  $5 boolean[] it gives its slot back
-- $6 int[] seq of the event that says so  $7 int[] bound, NULL: the organisation's  $8 text[] queue, skip, cancel_oldest, take
-- $9 text[] workflow  $10 json[] name of the key  $11 int the most running runs that an organisation may have for its own
-- Column: smallint, the shard of a run that was told something. Indexes: primary keys, admission_order.
-- Locks: none that another waits for: only the owner of its shard writes the rows of a key (batch_guard).
SELECT admission_apply($1::smallint[], $2::uuid[], $3::int[], $4::uuid[], $5::boolean[], $6::int[], $7::int[], $8::text[],
                       $9::text[], $10::json[])
  FROM set_config('ropewalk.most_running_runs', $11::int::text, true)
