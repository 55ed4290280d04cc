-- Another dispatch, another time or reason of open work (deferrals, polls). $1 smallint[]: shard; $2 uuid[]: run; $3 int[]:
-- seq; $4 int[]: dispatch; $5 timestamptz[]: due_at; $6 text[]: reason. Index: primary key, row by row, as in
-- batch_work_close; no index holds what changes (HOT).
UPDATE open_work SET dispatch = c.dispatch, due_at = c.due_at, reason = c.reason
  FROM (SELECT w.ctid AS place, u.dispatch, u.due_at, u.reason
          FROM unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::timestamptz[], $6::text[])
               AS u (shard, run_id, seq, dispatch, due_at, reason)
         CROSS JOIN LATERAL (SELECT o.ctid FROM open_work o
                              WHERE o.shard = u.shard AND o.run_id = u.run_id AND o.seq = u.seq OFFSET 0) w
        OFFSET 0) c
 WHERE open_work.ctid = c.place AND open_work.dispatch <= c.dispatch
