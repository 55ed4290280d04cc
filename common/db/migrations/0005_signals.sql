-- A signal's Idempotency-Key is kept beside those of starts, with the number of the command that it became.
ALTER TABLE idempotency ADD COLUMN command bigint;             -- NULL: of a start
