-- A look at the operation on many runs whose turn it is, of every organisation (SECURITY DEFINER): what has been decided is
-- counted, and more runs are asked.
-- $1 int4 so many commands of it may be out
-- Columns: when there is something to do next int4 ms, NULL: nothing is going on; shards that have commands text, a comma between. Indexes: bulk_operation_next, bulk_run_waiting,
-- bulk_run_asked. Locks: the operation's row, one that is locked is passed over; its runs' rows.
SELECT due_ms, shards FROM bulk_step($1)
