-- Opens rows of open work of steps that wait for an event: they are still to look for what came before.
-- $1 smallint[] shard  $2 uuid[] run  $3 int[] seq  $4 int[] organisation  $5 text[] step  $6 timestamptz[] due_at
-- $7 timestamptz[] opened_at  $8 text[] reason  $9 text[] type  $10 text[] source or NULL
-- $11 bigint[] how far they look back, us; -1: to the event that started the run, or where none did to its beginning
-- Indexes: primary keys of run and incoming_event, row by row. The time is PostgreSQL's own: an event that is sent when the row
-- can be seen is later.
INSERT INTO open_work (shard, run_id, seq, organisation, kind, step, due_at, opened_at, reason, event_type, event_source,
                       event_since, event_seen)
SELECT c.shard, c.run_id, c.seq, c.organisation, 10, c.step, c.due_at, c.opened_at, c.reason, c.type, c.source,
       CASE WHEN c.look_back >= 0 THEN least(now(), c.opened_at) - c.look_back * interval '1 microsecond' ELSE coalesce(i.at, r.created_at, now()) END,
       coalesce(i.number, 0)
  FROM unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::text[],
              $9::text[], $10::text[], $11::bigint[])
       AS c (shard, run_id, seq, organisation, step, due_at, opened_at, reason, type, source, look_back)
  LEFT JOIN LATERAL (SELECT run.created_at, run.trigger FROM run WHERE run.id = c.run_id OFFSET 0) r ON true
  LEFT JOIN LATERAL (SELECT e.at, e.number FROM incoming_event e
                      WHERE c.look_back < 0 AND r.trigger ->> 'kind' = 'event' AND e.organisation = c.organisation
                        AND e.source = r.trigger #>> '{event,source}' AND e.id = r.trigger #>> '{event,id}' OFFSET 0) i ON true
