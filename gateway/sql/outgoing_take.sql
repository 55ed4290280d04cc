-- What endpoints of one kind are to be told now, of every organisation (SECURITY DEFINER), and held for the time given.
-- $1 text kind  $2 int4 of an endpoint at most, on their way anywhere  $3 int4 the same of one that fails  $4 int4 at most
-- $5 int4 at most of endpoints that fail  $6 int4 how long they are held, in ms
-- Columns: organisation int4, its name text, endpoint uuid, url text, secret int4, old secret int4, fails bool, event text, type text,
-- body json, attempt int4, tries int4. Indexes: outgoing_due, outgoing_held. Locks: rows, and their endpoints, those that are locked are
-- passed over.
SELECT organisation, organisation_name, endpoint, url, secret, old_secret, failing, event, type, body, attempt, tries
  FROM outgoing_take($1, $2, $3, $4, $5, $6::int4 * interval '1 ms')
