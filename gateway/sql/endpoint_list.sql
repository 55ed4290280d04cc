-- A page of the organisation's endpoints, newest first.
-- $1 uuid ids below this one  $2 int4 how many
-- Columns: as endpoint_get. Indexes: primary key, outgoing_due. No locks.
SELECT e.id, e.kind, e.url, e.description, to_json(e.types), to_json(e.workflows), e.enabled, e.disabled_reason, e.disabled_at,
       CASE WHEN e.old_secret_until > now() THEN e.old_secret_until END, e.failing_since,
       (SELECT count(*) FROM (SELECT FROM outgoing o WHERE o.endpoint = e.id AND o.next_at IS NOT NULL LIMIT 1000) AS waiting),
       e.created_at, e.updated_at, e.created_by
  FROM endpoint e WHERE e.organisation = current_organisation() AND e.id < $1 ORDER BY e.id DESC LIMIT $2
