-- One endpoint.
-- $1 uuid
-- Columns: id uuid, kind text, url text, description text, types json, workflows json, enabled bool, disabled_reason text,
-- disabled_at timestamptz, old_secret_until timestamptz, failing_since timestamptz, pending int8 (1000: or more), created_at
-- timestamptz, updated_at timestamptz, created_by text. Indexes: primary key, outgoing_due. No locks.
SELECT e.id, e.kind, e.url, e.description, to_json(e.types), to_json(e.workflows), e.enabled, e.disabled_reason, e.disabled_at,
       CASE WHEN e.old_secret_until > now() THEN e.old_secret_until END, e.failing_since,
       (SELECT count(*) FROM (SELECT FROM outgoing o WHERE o.endpoint = e.id AND o.next_at IS NOT NULL LIMIT 1000) AS waiting),
       e.created_at, e.updated_at, e.created_by
  FROM endpoint e WHERE e.organisation = current_organisation() AND e.id = $1
