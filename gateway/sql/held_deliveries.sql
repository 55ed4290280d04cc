-- Takes deliveries of webhooks whose triggers have debounce, throttle or batch: nonce, idempotency key, and with the line of the
-- delivery log either a run or an arrival that waits. The caller has locked starts and groups.
-- $1 uuid[] run  $2 text[] workflow  $3 int[] version that was looked at  $4 smallint[] slot  $5 smallint[] priority
-- $6 timestamptz[] created_at  $7 json[] input  $8 text[] key or NULL  $9 bytea[] body hash  $10 text[] step that the run begins at
-- $11 json[] trigger  $12 text[] scope of the nonce  $13 text[] nonce or NULL  $14 int[] seconds that it is kept
-- $15 json[] delivery, as start_insert.sql has it  $16 json[] rule: held_take() in 0038
-- Columns, in the order given: verdict text (started, debounced, batched, queued, dropped, full, known, replayed, absent, disabled,
-- moved), shard int2 of the run. Locks: unique entries of delivery_nonce and idempotency: waits for equal ones that are being committed.
SELECT verdict, shard
  FROM held_take_deliveries($1::uuid[], $2::text[], $3::int[], $4::smallint[], $5::smallint[], $6::timestamptz[], $7::json[], $8::text[],
                            $9::bytea[], $10::text[], $11::json[], $12::text[], $13::text[], $14::int[], $15::json[], $16::json[])
