-- Has this event been taken?
-- $1 text source  $2 text id
-- Columns: at timestamptz, what it has set off json. Primary key.
SELECT at, starts FROM incoming_event WHERE organisation = current_organisation() AND source = $1 AND id = $2
