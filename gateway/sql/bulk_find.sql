-- How many runs match a filter, and the newest of them.
-- $1 uuid lowest id  $2 uuid ids below this one  $3 text workflow or NULL  $4 text[] states
-- $5 bool of the active ones: those with (true) or without (false) a task out, or NULL  $6 text q or NULL  $7 uuid exactly this
-- run  $8 text[] label keys  $9 text[] label values  $10 uuid the parent or NULL  $11 bool no child runs, unless by their parent
-- $12 int4 count so many at most  $13 int4 ids at most
-- Columns: how many int8, ids text, a comma between. Index: run_by_status. No locks.
SELECT count(*), array_to_string((array_agg(id ORDER BY id DESC))[1:$13::int4], ',')
  FROM (SELECT id FROM runs_matching($1, $2, $3, $4::text[], $5, $6, $7, $8::text[], $9::text[], $10, $11)
         ORDER BY id DESC LIMIT $12) matching
