-- What endpoints are told of the batch's events: a row for each that wants it. Only asked for organisations that have one enabled,
-- or had a moment ago.
-- $1 int[] organisation  $2 uuid[] run  $3 text[] id of the event  $4 text[] type  $5 timestamptz[] at  $6 text[] workflow
-- $7 json[] CloudEvent
-- Index: primary key of endpoint. Locks: none; the events of a run are written by its shard's owner alone.
INSERT INTO outgoing (organisation, endpoint, event, type, run_id, at, body, next_at)
SELECT e.organisation, e.id, n.event, n.type, n.run_id, n.at, n.body, now()
  FROM unnest($1::integer[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::json[])
       AS n (organisation, run_id, event, type, at, workflow, body)
  JOIN endpoint e ON e.organisation = n.organisation AND e.enabled
   AND (e.types IS NULL OR n.type = ANY (e.types)) AND (e.workflows IS NULL OR n.workflow = ANY (e.workflows))
