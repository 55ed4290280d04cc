-- Outputs of events. $1 uuid[] run  $2 int[] seq. Columns: run, seq, output. Index: primary key.
SELECT e.run_id, e.seq, e.output FROM event e JOIN unnest($1::uuid[], $2::integer[]) AS wanted (run_id, seq)
ON e.run_id = wanted.run_id AND e.seq = wanted.seq
