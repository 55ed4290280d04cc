-- Organisations whose limits or weight have changed, or whether somebody is told of their runs, since $1 bigint: milliseconds ago.
-- Columns: int, id; int, weight; json, own limits; int, odd when somebody is told. Index: organisation_changed. No locks.
SELECT id, weight, limits, outgoing FROM organisation WHERE changed_at > now() - $1::bigint * interval '1 ms'
