-- Times of a schedule that wait for the end of the run before (overlap: queue), and what became of a schedule that cannot be
-- fired, or of a time that could not start a run.
ALTER TABLE schedule
    ADD COLUMN waiting smallint NOT NULL DEFAULT 0, -- times that wait
    ADD COLUMN fault json,                          -- why it is not looked at any more, until somebody changes it; NULL: nothing
    ADD COLUMN last_error json;                     -- why its last time started no run; NULL: it did
CREATE INDEX schedule_waiting ON schedule (shard) WHERE waiting > 0;

ALTER TABLE schedule_fire ADD COLUMN queued boolean NOT NULL DEFAULT false; -- waits
CREATE INDEX schedule_fire_queued ON schedule_fire (schedule, nominal_at) WHERE queued;
GRANT UPDATE (run_id, queued, fired_at) ON schedule_fire TO ropewalk_scheduler;
