-- Forgets what was fired long ago: nobody fires times so old again, since after_at only rises.
-- $1 int4 how many
-- Index: schedule_fire_age. Locks: the rows.
DELETE FROM schedule_fire WHERE (schedule, nominal_at) IN (
    SELECT schedule, nominal_at FROM schedule_fire WHERE fired_at < now() - interval '7 days' ORDER BY fired_at LIMIT $1)
