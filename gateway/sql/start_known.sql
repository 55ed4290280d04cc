-- Which runs idempotency keys belong to, after the insert: one's own or an earlier one. One that is over is no key any more.
-- $1 text[] workflows  $2 text[] keys
-- Columns, in the order given, NULL where there is none: run uuid, body hash bytea, what was answered in place of a run text. Index:
-- primary key.
SELECT i.run_id, i.body_hash, i.held
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS a (scope, key, n)
  LEFT JOIN idempotency i ON i.organisation = current_organisation() AND i.scope = a.scope AND i.key = a.key
       AND i.expires_at >= now()
 ORDER BY n
