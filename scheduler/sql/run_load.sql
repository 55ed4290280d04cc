-- Runs with their events and open work, in one snapshot. $1 uuid[]: runs; $2 smallint[]: their shards.
-- Columns: run; part (0 the run, 1 an event, 2 open work); seq (of the run: 1 where it does not begin as others); organisation; created_at | at | due_at; version | type | kind;
-- priority | attempt | attempt; weight | bytes of the output | dispatch; depth | - | priority; workflow | step | step;
-- organisation's name | data | pool; input; trigger; parent; step of the parent; organisation's own limits, and outgoing (odd: somebody is told). By run, part, seq.
-- Indexes: primary keys, run by run (OFFSET 0 keeps the planner from turning the loop round while it believes a table to
-- be empty; partitions that an id does not name are not opened). No locks: only a shard's owner writes its runs.
SELECT r.id, 0::smallint AS part, (r.begins IS NOT NULL)::int AS seq, r.organisation, r.created_at, r.version, r.priority::int, r.weight, r.depth::int,
       r.workflow, r.name, r.input, r.trigger, r.parent, r.parent_step, r.limits, r.outgoing
  FROM unnest($1::uuid[]) AS wanted (run_id)
 CROSS JOIN LATERAL (SELECT run.*, o.name, o.weight, o.limits, o.outgoing FROM run JOIN organisation o ON o.id = run.organisation
                      WHERE run.id = wanted.run_id OFFSET 0) r
UNION ALL
SELECT e.run_id, 1::smallint, e.seq, e.organisation, e.at, e.type::int, e.attempt::int,
       octet_length(e.output::text), 0, e.step, e.data::text, NULL, NULL, NULL, NULL, NULL, NULL
  FROM unnest($1::uuid[]) AS wanted (run_id)
 CROSS JOIN LATERAL (SELECT * FROM event WHERE event.run_id = wanted.run_id OFFSET 0) e
UNION ALL
SELECT w.run_id, 2::smallint, w.seq, w.organisation, w.due_at, w.kind::int, w.attempt::int, w.dispatch, w.priority::int, w.step,
       w.pool, NULL, NULL, NULL, NULL, NULL, NULL
  FROM unnest($1::uuid[], $2::smallint[]) AS wanted (run_id, shard)
 CROSS JOIN LATERAL (SELECT * FROM open_work WHERE open_work.shard = wanted.shard AND open_work.run_id = wanted.run_id OFFSET 0) w
 ORDER BY 1, 2, 3
