-- Starts child runs: run and command. Where the organisation has no such workflow or version, or it is disabled, nothing
-- is started, and the parent is told so by a command.
-- $1 smallint[] shard  $2 int[] organisation  $3 uuid[] run  $4 uuid[] parent  $5 text[] step of the parent  $6 text[] workflow
-- $7 int[] version, 0: the newest  $8 smallint[] priority  $9 smallint[] depth  $10 timestamptz[] created_at  $11 json[] input
-- No locks: a workflow that is disabled at the same moment may start one more. Indexes: primary keys.
WITH judged AS MATERIALIZED (
    SELECT a.*, v.version AS found,
           CASE WHEN w.version IS NULL THEN 'unknown_workflow'
                WHEN NOT w.enabled THEN 'workflow_disabled'
                WHEN v.version IS NULL THEN 'unknown_version' END AS fault
      FROM unnest($1::smallint[], $2::int[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::int[], $8::smallint[],
                  $9::smallint[], $10::timestamptz[], $11::json[]) WITH ORDINALITY
           AS a (shard, organisation, run_id, parent, step, workflow, version, priority, depth, created_at, input, n)
      LEFT JOIN LATERAL (SELECT workflow.version, workflow.enabled FROM workflow
                          WHERE workflow.organisation = a.organisation AND workflow.name = a.workflow
                            AND workflow.deleted_at IS NULL OFFSET 0) w ON true
      LEFT JOIN LATERAL (SELECT workflow_version.version FROM workflow_version
                          WHERE workflow_version.organisation = a.organisation AND workflow_version.workflow = a.workflow
                            AND workflow_version.version = CASE a.version WHEN 0 THEN w.version ELSE a.version END
                         OFFSET 0) v ON true),
runs AS (
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input, trigger, parent, parent_step, depth)
    SELECT run_id, organisation, workflow, found, priority, created_at, input,
           json_build_object('name', step, 'kind', 'workflow'), parent, step, depth
      FROM judged WHERE fault IS NULL)
INSERT INTO command (shard, organisation, run_id, kind, body)
SELECT shard, organisation, run_id, 'start', NULL FROM judged WHERE fault IS NULL
UNION ALL
SELECT shard, organisation, parent, 'child_ended',
       json_build_object('child', run_id, 'step', step, 'status', 'failed', 'error', json_build_object('code', fault, 'message',
           CASE fault WHEN 'unknown_workflow' THEN format('there is no workflow ''%s''', left(workflow, 100))
                      WHEN 'workflow_disabled' THEN format('workflow ''%s'' is disabled', workflow)
                      ELSE format('workflow ''%s'' has no version %s', workflow, version) END))
  FROM judged WHERE fault IS NOT NULL
