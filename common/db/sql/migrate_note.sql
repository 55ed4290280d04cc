-- Notes a migration as applied, in its transaction. $1 int: number; $2 text: name.
INSERT INTO ropewalk.schema_migration (number, name) VALUES ($1, $2)
