-- Documents of workflow versions. $1 int[]: organisations; $2 text[]: workflows; $3 int[]: versions. Columns: organisation,
-- workflow, version, document. Index: primary key.
SELECT v.organisation, v.workflow, v.version, v.document
  FROM unnest($1::int[], $2::text[], $3::int[]) AS wanted (organisation, workflow, version)
  JOIN workflow_version v
    ON v.organisation = wanted.organisation AND v.workflow = wanted.workflow AND v.version = wanted.version
