-- Runs with their events and open work, in one snapshot. $1 uuid[]: runs; $2 smallint[]: their shards.
-- Columns: run; part (0 the run, 1 an event, 2 open work); seq; organisation; created_at | at | due_at; version | type | kind;
-- priority | attempt | attempt; weight | bytes of the output | dispatch; - | - | priority; workflow | step | step;
-- organisation's name | data | pool; input; trigger. By run, part, seq.
-- Indexes: primary keys. No locks: a run is written by its shard's owner alone.
SELECT r.id, 0::smallint AS part, 0 AS seq, r.organisation, r.created_at, r.version, r.priority::int, o.weight, 0,
       r.workflow, o.name, r.input, r.trigger
  FROM run r JOIN organisation o ON o.id = r.organisation
 WHERE r.id = ANY ($1::uuid[])
UNION ALL
SELECT e.run_id, 1::smallint, e.seq, e.organisation, e.at, e.type::int, e.attempt::int,
       octet_length(e.output::text), 0, e.step, e.data::text, NULL, NULL
  FROM event e
 WHERE e.run_id = ANY ($1::uuid[])
UNION ALL
SELECT w.run_id, 2::smallint, w.seq, w.organisation, w.due_at, w.kind::int, w.attempt::int, w.dispatch, w.priority::int, w.step,
       w.pool, NULL, NULL
  FROM unnest($1::uuid[], $2::smallint[]) AS wanted (run_id, shard)
  JOIN open_work w ON w.shard = wanted.shard AND w.run_id = wanted.run_id
 ORDER BY 1, 2, 3
