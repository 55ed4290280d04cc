-- Opens a migration's transaction. Its statements shall not queue behind a long reader, with every insert behind them: they
-- give up soon, and the migrator tries again, for a minute at most.
BEGIN;
SET LOCAL lock_timeout = '500ms';
SET LOCAL client_min_messages = 'error';
