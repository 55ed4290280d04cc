-- What it takes to take a delivery again. $1 uuid id.
-- Columns: at timestamptz, workflow text, trigger text, stage text, address text, request json, body bytea or NULL, genuine bool,
-- nonce text or NULL, run uuid or NULL, what that run was started with json or NULL, hash under its key bytea or NULL.
-- Index: primary keys. No locks.
SELECT d.at, d.workflow, d.trigger, d.stage, d.address, d.request, d.body, d.genuine OR d.body IS NOT NULL, d.nonce, d.run_id,
       r.trigger, i.body_hash
  FROM delivery d
  LEFT JOIN run r ON r.id = d.run_id AND r.organisation = d.organisation
  LEFT JOIN idempotency i ON i.organisation = d.organisation AND i.scope = d.workflow
                         AND i.key = d.request -> 'headers' ->> 'idempotency-key'
 WHERE d.organisation = current_organisation() AND d.id = $1
