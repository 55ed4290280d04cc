-- Closes rows of open work; one that is not there is no error. $1 smallint[]: shard; $2 uuid[]: run; $3 int[]: seq.
-- Index: primary key, row by row. The table is empty at one moment and full at the next: a join would be planned for the
-- wrong one. The rows found are this batch's alone (guard), so their places hold until they are deleted.
DELETE FROM open_work
 WHERE ctid = ANY (ARRAY(
           SELECT w.ctid
             FROM unnest($1::smallint[], $2::uuid[], $3::int[]) AS c (shard, run_id, seq)
            CROSS JOIN LATERAL (SELECT o.ctid FROM open_work o
                                 WHERE o.shard = c.shard AND o.run_id = c.run_id AND o.seq = c.seq OFFSET 0) w))
