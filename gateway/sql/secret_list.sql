-- A page of the organisation's secrets, by name; nothing of their values. Those of endpoints, '#...', are nobody's to see.
-- $1 text names above this one  $2 int4 how many
-- Columns: name text, version int4, key_version int4, created_at, updated_at timestamptz, updated_by text, last_used_at
-- timestamptz, used_by json [{"workflow", "pointer"}]. Primary keys. No locks.
SELECT s.name, s.version, s.key_version, s.created_at, s.updated_at, s.updated_by, s.last_used_at,
       coalesce((SELECT json_agg(json_build_object('workflow', u.workflow, 'pointer', u.pointer) ORDER BY u.workflow, u.pointer)
                   FROM secret_use u WHERE u.organisation = s.organisation AND u.secret = s.name), '[]')
  FROM secret s
 WHERE s.organisation = current_organisation() AND s.name > $1 AND NOT starts_with(s.name, '#') ORDER BY s.name LIMIT $2
