-- Keeps commands of quarantined runs from being fetched. $1 bigint[]: ids. Index: primary key.
UPDATE command SET held = true WHERE id = ANY ($1::bigint[]) AND NOT held
