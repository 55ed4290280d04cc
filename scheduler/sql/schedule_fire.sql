-- Fires schedules: for each nominal time the unique row, and with it run and command; and what is next. A schedule that a
-- gateway has changed since it was looked at is left alone; so is a time that was fired already, or that is not yet there.
-- Of schedules: $1 uuid[] id  $2 int[] revision  $3 timestamptz[] after_at  $4 timestamptz[] next_at  $5 timestamptz[] due_at
-- Of times: $6 uuid[] schedule  $7 timestamptz[] nominal  $8 uuid[] run, of the schedule's slot; NULL: skipped  $9 json[] input
-- $10 json[] trigger  $11 uuid[] run that is cancelled for it, or NULL
-- Columns: schedule uuid, nominal timestamptz, run uuid of what was fired. Indexes: primary keys.
-- Locks: the schedules' rows, in the order of ids; unique entries of schedule_fire. The caller has asked shard_guard.
WITH mine AS MATERIALIZED (
    SELECT s.id, s.organisation, s.shard, s.workflow, s.priority, w.version,
           CASE WHEN s.definition -> 'start_at_step' IS NOT NULL
                THEN json_build_object('start_at_step', s.definition -> 'start_at_step') END AS begins, a.after_at, a.next_at, a.due_at
      FROM schedule s
      JOIN unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
           AS a (id, revision, after_at, next_at, due_at) ON a.id = s.id
      JOIN workflow w ON w.organisation = s.organisation AND w.name = s.workflow AND w.deleted_at IS NULL AND w.enabled
     WHERE s.revision = a.revision AND s.due_at IS NOT NULL AND a.after_at <= clock_timestamp()
     ORDER BY s.id FOR UPDATE OF s),
fired AS (
    INSERT INTO schedule_fire (schedule, nominal_at, organisation, run_id)
    SELECT f.schedule, f.nominal_at, mine.organisation, f.run_id
      FROM unnest($6::uuid[], $7::timestamptz[], $8::uuid[]) AS f (schedule, nominal_at, run_id) JOIN mine ON mine.id = f.schedule
     ORDER BY 1, 2
    ON CONFLICT DO NOTHING
    RETURNING schedule, nominal_at),
made AS MATERIALIZED (
    SELECT mine.*, f.nominal_at, f.run_id, f.input, f.trigger, f.cancels, f.n
      FROM unnest($6::uuid[], $7::timestamptz[], $8::uuid[], $9::json[], $10::json[], $11::uuid[]) WITH ORDINALITY
           AS f (schedule, nominal_at, run_id, input, trigger, cancels, n)
      JOIN fired ON fired.schedule = f.schedule AND fired.nominal_at = f.nominal_at
      JOIN mine ON mine.id = f.schedule
     WHERE f.run_id IS NOT NULL),
runs AS (
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input, trigger, begins)
    SELECT run_id, organisation, workflow, version, priority, date_trunc('milliseconds', clock_timestamp()), input, trigger, begins
      FROM made),
updated AS (
    UPDATE schedule s
       SET after_at = mine.after_at, next_at = mine.next_at, due_at = mine.due_at,
           last_at = coalesce(l.nominal_at, s.last_at), last_run = coalesce(l.run_id, s.last_run),
           last_fired_at = CASE WHEN l.run_id IS NULL THEN s.last_fired_at ELSE clock_timestamp() END
      FROM mine LEFT JOIN (SELECT DISTINCT ON (id) id, nominal_at, run_id FROM made ORDER BY id, nominal_at DESC) l ON l.id = mine.id
     WHERE s.id = mine.id),
commands AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT shard, organisation, run_id, CASE WHEN begins IS NULL THEN 'start' ELSE 'begin' END, begins FROM made
    UNION ALL
    SELECT shard, organisation, cancels, 'cancel', '{}'::json FROM made WHERE cancels IS NOT NULL)
SELECT id, nominal_at, run_id FROM made
