-- Locks the groups of what arrives at triggers with debounce, throttle or batch, after making those that there are not yet.
-- $1 text[] workflows  $2 text[] triggers  $3 text[] how they hold  $4 text[] keys  $5 smallint[] slots of the groups
-- Locks: the groups' rows, in order, until the transaction ends. Primary key. Columns: none of use.
SELECT held_lock($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[])
