-- Fires schedules: for each nominal time the unique row, and with it run and command; and what is next. A schedule that a
-- gateway has changed since it was looked at is left alone; so is a time that was fired already, or that is not yet there.
-- Of schedules: $1 uuid[] id  $2 int[] revision  $3 timestamptz[] after_at  $4 timestamptz[] next_at  $5 timestamptz[] due_at
-- Of times: $6 uuid[] schedule  $7 timestamptz[] nominal  $8 uuid[] run, of the schedule's slot; NULL: skipped, or waits
-- $9 json[] input  $10 json[] trigger  $11 uuid[] run that is cancelled for it, or NULL  $12 bool[] it waits for the run before
-- $13 bool[] it has waited  $14 json[] why it starts no run after all, or NULL
-- Columns: schedule uuid, nominal timestamptz, run uuid of what was fired. Indexes: primary keys, schedule_fire_queued.
-- Locks: the schedules' rows, in the order of ids; unique entries of schedule_fire. The caller has asked shard_guard.
WITH mine AS MATERIALIZED (
    SELECT s.id, s.organisation, s.shard, s.workflow, s.priority, w.version,
           CASE WHEN s.definition -> 'start_at_step' IS NOT NULL
                THEN json_build_object('start_at_step', s.definition -> 'start_at_step') END AS begins, a.after_at, a.next_at, a.due_at
      FROM schedule s
      JOIN unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
           AS a (id, revision, after_at, next_at, due_at) ON a.id = s.id
      JOIN workflow w ON w.organisation = s.organisation AND w.name = s.workflow AND w.deleted_at IS NULL AND w.enabled
     WHERE s.revision = a.revision AND NOT s.paused AND s.fault IS NULL AND (s.due_at IS NOT NULL OR s.waiting > 0)
       AND a.after_at <= clock_timestamp()
     ORDER BY s.id FOR UPDATE OF s),
times AS MATERIALIZED (
    SELECT f.*
      FROM unnest($6::uuid[], $7::timestamptz[], $8::uuid[], $9::json[], $10::json[], $11::uuid[], $12::bool[], $13::bool[], $14::json[])
           AS f (schedule, nominal_at, run_id, input, trigger, cancels, queued, released, error)
     WHERE f.schedule IN (SELECT id FROM mine)),
new AS (
    INSERT INTO schedule_fire (schedule, nominal_at, organisation, run_id, queued)
    SELECT t.schedule, t.nominal_at, mine.organisation, t.run_id, t.queued
      FROM times t JOIN mine ON mine.id = t.schedule
     WHERE NOT t.released
     ORDER BY 1, 2
    ON CONFLICT DO NOTHING
    RETURNING schedule, nominal_at),
old AS (
    UPDATE schedule_fire q SET queued = false, run_id = t.run_id, fired_at = now()
      FROM times t
     WHERE t.released AND q.schedule = t.schedule AND q.nominal_at = t.nominal_at AND q.queued
    RETURNING q.schedule, q.nominal_at),
done AS MATERIALIZED (
    SELECT t.* FROM times t
      JOIN (SELECT schedule, nominal_at FROM new UNION ALL SELECT schedule, nominal_at FROM old) d
        ON d.schedule = t.schedule AND d.nominal_at = t.nominal_at),
made AS MATERIALIZED (
    SELECT mine.*, d.nominal_at, d.run_id, d.input, d.trigger, d.cancels
      FROM done d JOIN mine ON mine.id = d.schedule
     WHERE d.run_id IS NOT NULL),
runs AS (
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input, trigger, begins)
    SELECT run_id, organisation, workflow, version, priority, date_trunc('milliseconds', clock_timestamp()), input, trigger, begins
      FROM made),
sums AS (
    SELECT schedule, count(*) FILTER (WHERE queued) - count(*) FILTER (WHERE released) AS waiting, bool_or(run_id IS NOT NULL) AS started,
           (array_agg(error ORDER BY nominal_at DESC) FILTER (WHERE error IS NOT NULL))[1] AS error
      FROM done GROUP BY schedule),
latest AS (
    SELECT DISTINCT ON (id) id, nominal_at, run_id FROM made ORDER BY id, nominal_at DESC),
updated AS (
    UPDATE schedule s
       SET after_at = mine.after_at, next_at = mine.next_at, due_at = mine.due_at, waiting = s.waiting + coalesce(sums.waiting, 0),
           last_at = coalesce(l.nominal_at, s.last_at), last_run = coalesce(l.run_id, s.last_run),
           last_fired_at = CASE WHEN l.run_id IS NULL THEN s.last_fired_at ELSE clock_timestamp() END,
           last_error = CASE WHEN sums.error IS NOT NULL THEN sums.error WHEN NOT coalesce(sums.started, false) THEN s.last_error END
      FROM mine LEFT JOIN latest l ON l.id = mine.id LEFT JOIN sums ON sums.schedule = mine.id
     WHERE s.id = mine.id),
commands AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT shard, organisation, run_id, CASE WHEN begins IS NULL THEN 'start' ELSE 'begin' END, begins FROM made
    UNION ALL
    SELECT shard, organisation, cancels, 'cancel', '{}'::json FROM made WHERE cancels IS NOT NULL)
SELECT id, nominal_at, run_id FROM made
