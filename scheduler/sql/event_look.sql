-- Steps that wait for an event, of one type, look for what came before them. $1 smallint[] shards  $2 int how many steps
-- $3 int how many events of each. Columns: told int8 (commands written), remaining bool (others are to look, or go on to).
-- Locks: advisory 1919119221 of the type, exclusive, until the transaction ends: for events that are arriving it waits 250 ms
-- at most. Indexes: open_work_look, incoming_event_since, command_run.
SELECT told, remaining FROM event_look($1::smallint[], $2::int, $3::int)
