-- Bodies of events. $1 uuid[]: runs; $2 int[]: seqs. Columns: run_id, seq, output as text. Index: primary key of event.
SELECT e.run_id, e.seq, e.output::text
  FROM unnest($1::uuid[], $2::int[]) AS wanted (run_id, seq)
  JOIN event e ON e.run_id = wanted.run_id AND e.seq = wanted.seq
