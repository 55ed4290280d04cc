-- Commands that have been applied or refused. $1 bigint[]: ids. Index: primary key.
DELETE FROM command WHERE id = ANY ($1::bigint[])
