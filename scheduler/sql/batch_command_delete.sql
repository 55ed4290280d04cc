-- Removes commands that this batch has applied. $1 bigint[] id. Index: primary key.
DELETE FROM command WHERE id = ANY ($1::bigint[])
