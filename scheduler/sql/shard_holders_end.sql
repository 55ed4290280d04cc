-- Ends the server processes that still hold a batch of these shards open though their scheduler's lease has ended: it is
-- frozen in the middle of sending. $1 smallint[]: shards. Column: bool, ended. The role may end those of its own kind only.
SELECT pg_terminate_backend(l.pid)
  FROM pg_locks l
 WHERE l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.classid = 1919119216 AND l.objid = ANY (SELECT unnest($1::smallint[])::int::oid) AND l.objsubid = 2
   AND l.granted AND l.pid <> pg_backend_pid()
   AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND pg_has_role(a.usesysid, 'USAGE'))
