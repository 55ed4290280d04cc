-- Runs are looked for by what they failed with, and where: those that did not cost nothing here.
CREATE INDEX run_by_error ON run (organisation, error_code, id DESC) WHERE error_code IS NOT NULL;
CREATE INDEX run_by_error_step ON run (organisation, error_step, id DESC) WHERE error_step IS NOT NULL;
