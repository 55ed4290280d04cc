-- What is to be done next for an index that is built while others write: all that has been done is in the catalogues, so this
-- may be cut anywhere. An index that was begun and not finished is invalid, and dropped. A partitioned table has its own first,
-- which new partitions then get of themselves; those of the partitions are built one by one, and attached.
-- $1 text: CREATE [UNIQUE] INDEX name ON table ... Columns: statement text; transaction bool, it is brief and locks the table,
-- else it must be outside of a transaction. No row: the index is there. Reads catalogues only.
WITH asked AS MATERIALIZED (
    SELECT coalesce(m[1], '') AS uniquely, m[2] AS name, to_regclass('ropewalk.' || m[3])::oid AS relation, m[4] AS definition
      FROM regexp_match($1::text, '^(?:--[^\n]*\n)*CREATE (UNIQUE )?INDEX (\w+) ON (\w+) (.*)$') AS m),
existing AS MATERIALIZED (
    SELECT i.oid, i.relname, x.indrelid, x.indisvalid FROM pg_class i JOIN pg_index x ON x.indexrelid = i.oid
     WHERE i.relnamespace = 'ropewalk'::regnamespace)
SELECT s.statement, s.transaction
  FROM (SELECT 1 AS place, t.relkind = 'p' AS transaction,
               CASE WHEN i.oid IS NULL AND t.relkind = 'p'
                    THEN format('CREATE %sINDEX %I ON ONLY %I %s', a.uniquely, a.name, t.relname, a.definition)
                    WHEN i.oid IS NULL THEN format('CREATE %sINDEX CONCURRENTLY %I ON %I %s', a.uniquely, a.name, t.relname, a.definition)
                    WHEN NOT i.indisvalid AND t.relkind <> 'p' THEN format('DROP INDEX CONCURRENTLY %I', a.name) END AS statement
          FROM asked a JOIN pg_class t ON t.oid = a.relation LEFT JOIN existing i ON i.relname = a.name
        UNION ALL
        SELECT 2, i.indisvalid IS TRUE,
               CASE WHEN i.oid IS NULL THEN format('CREATE %sINDEX CONCURRENTLY %I ON %I %s', a.uniquely, n.name, t.relname, a.definition)
                    WHEN NOT i.indisvalid THEN format('DROP INDEX CONCURRENTLY %I', n.name)
                    ELSE format('ALTER INDEX %I ATTACH PARTITION %I', a.name, n.name) END
          FROM asked a JOIN pg_inherits h ON h.inhparent = a.relation JOIN pg_class t ON t.oid = h.inhrelid
         CROSS JOIN LATERAL (SELECT left(t.relname || '_' || a.name, 63) AS name) n
          LEFT JOIN existing i ON i.relname = n.name
         WHERE NOT EXISTS (SELECT FROM pg_inherits p JOIN existing whole ON whole.oid = p.inhparent AND whole.relname = a.name
                             JOIN existing part ON part.oid = p.inhrelid AND part.indrelid = t.oid)) s
 WHERE s.statement IS NOT NULL ORDER BY s.place, s.statement LIMIT 1
