-- Runs of an operation that have been asked, and are not counted yet.
CREATE INDEX bulk_run_asked ON bulk_run (organisation, operation)
    WHERE NOT counted AND (command IS NOT NULL OR new_run IS NOT NULL OR code IS NOT NULL);
