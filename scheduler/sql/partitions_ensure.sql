-- Keeps the partitions of the weeks to come. $1 int: days ahead. Column: int, tables made. One at a time (advisory lock);
-- 55P03 when a lock could not be had soon: tried again later.
SELECT partitions_ensure(now(), $1)
