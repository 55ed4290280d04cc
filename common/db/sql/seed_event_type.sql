-- The names of event numbers for the views. $1 smallint[]: numbers; $2 text[]: names, as event.def has them.
INSERT INTO event_type (type, name) SELECT * FROM unnest($1::smallint[], $2::text[])
ON CONFLICT (type) DO UPDATE SET name = excluded.name WHERE event_type.name <> excluded.name
