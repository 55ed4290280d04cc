-- Groups of these shards whose time has come, the longest due first: what waits at triggers with debounce, throttle or batch. While
-- many starts wait to be applied only few more are given; whether they do is asked only when something is due.
-- $1 smallint[] shards  $2 int4 how many
-- Columns: id int8, shard int2, slot int2, organisation and workflow text as starts are locked by, how many runs it may start now int4.
-- Indexes: held_group_due, command_waiting. No locks.
WITH due AS MATERIALIZED (
    SELECT g.id, g.shard, g.slot, g.organisation || '/' || g.workflow AS name, g.due_at,
           CASE g.how WHEN 'throttle' THEN greatest(1, least(g.waiting, (g.rule ->> 'limit')::int4, 20)) ELSE 1 END AS runs
      FROM held_group g
     WHERE g.due_at <= clock_timestamp() AND g.shard = ANY ($1::smallint[])
     ORDER BY g.due_at LIMIT $2)
SELECT id, shard, slot, name, runs FROM due
 ORDER BY due_at
 LIMIT CASE WHEN EXISTS (SELECT FROM due)
            THEN greatest(20, 1000 - (SELECT count(*) FROM (SELECT FROM command c WHERE c.shard = ANY ($1::smallint[]) AND NOT c.held
                                                               AND c.kind IN ('start', 'begin') LIMIT 1000) x)) ELSE 0 END
