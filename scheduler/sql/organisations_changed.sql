-- Organisations whose limits or weight have changed since $1 bigint: milliseconds ago.
-- Columns: int, id; int, weight; json, own limits. Index: organisation_changed. No locks.
SELECT id, weight, limits FROM organisation WHERE changed_at > now() - $1::bigint * interval '1 ms'
