-- Behind a transaction pooler nothing set at connection time holds: each batch says where its tables are.
-- No parameters. Column: the value. No locks.
SELECT set_config('search_path', 'ropewalk, pg_temp', true)
