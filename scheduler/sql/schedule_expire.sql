-- Forgets what was fired long ago: nobody fires times so old again, since after_at only rises. What still waits is kept.
-- $1 int4 how many  $2 int4 how many of the oldest stay
-- Index: schedule_fire_age. Locks: the rows.
DELETE FROM schedule_fire WHERE (schedule, nominal_at) IN (
    SELECT f.schedule, f.nominal_at FROM schedule_fire f
     WHERE f.fired_at < now() - interval '7 days' AND NOT (f.queued AND EXISTS (SELECT FROM schedule s WHERE s.id = f.schedule))
     ORDER BY f.fired_at LIMIT $1::int OFFSET $2::int)
