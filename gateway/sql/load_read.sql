-- What waits: for admission. A row for each live scheduler that has told of its load of late, one row without when none has.
-- $1 int: commands are counted up to so many
-- Columns: commands that wait int8, median age in ms of the oldest of each shard int8, load json or NULL.
-- Index: command_waiting. No locks.
SELECT b.waiting, b.age_ms, s.load
  FROM start_backlog($1::int) b
  LEFT JOIN scheduler s ON s.lease_until > now() AND s.load_at > now() - interval '5 s'
