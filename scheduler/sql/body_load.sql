-- Outputs of events. $1 uuid[]: runs; $2 int[]: seqs. Columns: run, seq, output. Index: primary key, event by event.
SELECT e.run_id, e.seq, e.output
  FROM unnest($1::uuid[], $2::int[]) AS wanted (run_id, seq)
 CROSS JOIN LATERAL (SELECT * FROM event WHERE event.run_id = wanted.run_id AND event.seq = wanted.seq OFFSET 0) e
