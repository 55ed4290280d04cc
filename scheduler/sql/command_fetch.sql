-- What was asked for and is not applied yet, by presence: numbers become visible out of order.
-- $1 smallint[]: shards; $2 int: at most so many of each shard; $3 bigint: and no more of a shard once their bodies come to so
-- many bytes, as stored; $4 uuid[]: runs that are left out, however many. Columns: shard, id, organisation, run_id, kind, body, reply_to. An event that is told
-- of stands in the command by its number: here it comes with it; NULL: it is not kept any more. Indexes: command_waiting,
-- incoming_event_number. No locks:
-- only the owner of a shard deletes its commands.
SELECT c.shard, c.id, c.organisation, c.run_id, c.kind,
       CASE WHEN c.kind = 'event' THEN (SELECT json_build_object('seq', c.body -> 'seq', 'event', e.event) FROM incoming_event e
                                         WHERE e.organisation = c.organisation AND e.number = (c.body ->> 'number')::bigint)
            ELSE c.body END, c.reply_to
  FROM unnest($1::smallint[]) AS wanted (shard)
 CROSS JOIN LATERAL (
       SELECT oldest.*, sum(CASE WHEN kind = 'event' THEN (body ->> 'bytes')::int ELSE pg_column_size(body) END) OVER (
                             ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
         FROM (SELECT * FROM command WHERE command.shard = wanted.shard AND NOT held
                   AND run_id NOT IN (SELECT unnest($4::uuid[])) ORDER BY id LIMIT $2::int) oldest) c
 WHERE coalesce(c.before, 0) < $3::bigint
 ORDER BY c.id
