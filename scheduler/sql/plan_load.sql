-- Documents of workflow versions. $1 int[] organisation  $2 text[] workflow  $3 int[] version.
-- Columns: organisation, workflow, version, document. Index: primary key.
SELECT v.organisation, v.workflow, v.version, v.document FROM workflow_version v
JOIN unnest($1::integer[], $2::text[], $3::integer[]) AS wanted (organisation, workflow, version)
ON v.organisation = wanted.organisation AND v.workflow = wanted.workflow AND v.version = wanted.version
