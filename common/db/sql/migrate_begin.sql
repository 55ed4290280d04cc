-- Opens a migration's transaction. Its statements shall not queue behind a long reader for ever, with every insert behind
-- them: they give up and the migrator is started again.
BEGIN;
SET LOCAL lock_timeout = '10s';
SET LOCAL client_min_messages = 'error';
