-- Runs of an operation that have not been asked yet, in the order in which they will be.
CREATE INDEX bulk_run_waiting ON bulk_run (organisation, operation, not_before, run_id)
    WHERE command IS NULL AND new_run IS NULL AND code IS NULL;
