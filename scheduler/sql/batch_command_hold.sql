-- Keeps commands of a quarantined run without applying them. $1 bigint[] id. Index: primary key.
UPDATE command SET held = true WHERE id = ANY ($1::bigint[])
