-- One of what an endpoint was told, with all attempts.
-- $1 uuid endpoint  $2 text event
-- Columns: as outgoing_list up to expires_at; body json, attempts json [{"attempt", "at", "took_us", "status", "error", "answer", "gateway"}].
-- Primary keys. No locks.
SELECT o.event, o.type, o.run_id, o.at, o.status, o.attempts, o.next_at, o.held, o.expires_at, o.body,
       coalesce((SELECT json_agg(json_build_object('attempt', a.attempt, 'at', to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                                                   'took_us', a.took_us, 'status', a.status, 'error', a.error, 'answer', a.answer,
                                                   'gateway', a.gateway) ORDER BY a.attempt)
                   FROM outgoing_attempt a
                  WHERE a.organisation = o.organisation AND a.endpoint = o.endpoint AND a.event = o.event), '[]')
  FROM outgoing o WHERE o.organisation = current_organisation() AND o.endpoint = $1 AND o.event = $2
