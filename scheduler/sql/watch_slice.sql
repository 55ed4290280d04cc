-- A slice of the open runs by id, and which of them look as if nothing would move them. Who finds something here reads the
-- run before it believes it. $1 uuid: runs above this one  $2 int4 how many  $3 int2[] shards that count
-- Columns: run uuid, mine bool (of those shards, and no command waits: only then the others say something), suspect bool
-- (nothing open, or nothing but timeout and loops, or due for a minute; not of those that are paused, which may rest), child bool
-- (waits for a child that has ended 15 s ago), events int4 (of its history, of those that are mine).
-- Indexes: run_open; open_work and event by their primary keys, command_run, run_children, run by run. A row of each for most
-- runs. No locks.
WITH slice AS MATERIALIZED (
    SELECT id, status, organisation, ((get_byte(uuid_send(id), 14) & 15) * 256 + get_byte(uuid_send(id), 15))::smallint AS slot
      FROM run WHERE status IN ('pending', 'active', 'paused') AND id > $1 ORDER BY id LIMIT $2),
placed AS MATERIALIZED (
    SELECT s.*, p.shard, p.shard = ANY ($3::smallint[]) AND c.run_id IS NULL AS mine
      FROM slice s JOIN slot p ON p.slot = s.slot
      LEFT JOIN LATERAL (SELECT command.run_id FROM command WHERE command.run_id = s.id AND p.shard = ANY ($3::smallint[])
                          LIMIT 1) c ON true)
SELECT p.id, p.mine, p.mine AND p.status <> 'paused' AND (w.moving IS NOT TRUE OR coalesce(w.late, false)),
       p.mine AND coalesce(w.child, false)
       AND EXISTS (SELECT FROM open_work o
                    CROSS JOIN LATERAL (SELECT k.ended_at FROM run k
                                         WHERE k.organisation = p.organisation AND k.parent = p.id AND k.parent_step = o.step
                                         ORDER BY k.id DESC LIMIT 1) k
                    WHERE o.shard = p.shard AND o.run_id = p.id AND o.kind = 8 AND k.ended_at < now() - interval '15 s'),
       CASE WHEN p.mine THEN coalesce((SELECT e.seq FROM event e WHERE e.run_id = p.id ORDER BY e.seq DESC LIMIT 1), 0) ELSE 0 END
  FROM placed p
  LEFT JOIN LATERAL (SELECT bool_or(o.kind NOT IN (4, 6)) AS moving, bool_or(o.due_at < now() - interval '1 min') AS late,
                            bool_or(o.kind = 8) AS child
                       FROM open_work o WHERE o.shard = p.shard AND o.run_id = p.id AND p.mine) w ON true
 ORDER BY p.id
