-- Runs of an operation that refused: the first of them are told.
CREATE INDEX bulk_run_refused ON bulk_run (organisation, operation, run_id) WHERE code IS NOT NULL;
