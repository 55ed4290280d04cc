-- How many tasks of the organisation opened before this one in its pool and priority, and are still open.
-- $1 text pool  $2 int2 priority  $3 timestamptz when this one opened  $4 int rows of open work that are looked at, of all
-- Columns: count int8; whole bool, false: there are more rows, and may be more of these. No index, see work_ahead(). No locks.
SELECT ahead, whole FROM work_ahead($1, $2, $3, $4)
