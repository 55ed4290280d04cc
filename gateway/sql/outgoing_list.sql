-- A page of what an endpoint was told, or is to be, newest runs first, each with its last attempt.
-- $1 uuid endpoint  $2 text events below this one, NULL: from the newest  $3 int4 how many  $4 text status  $5 text type; NULL: any
-- Columns: event text, type text, run uuid, at timestamptz, status text, attempts int4, next_at timestamptz, held bool, expires_at
-- timestamptz, of the last attempt: at timestamptz, took us int4, status int2, error text, answer text. Primary keys. No locks.
SELECT o.event, o.type, o.run_id, o.at, o.status, o.attempts, o.next_at, o.held, o.expires_at, a.at, a.took_us, a.status, a.error, a.answer
  FROM outgoing o
  LEFT JOIN LATERAL (SELECT * FROM outgoing_attempt l
                      WHERE l.organisation = o.organisation AND l.endpoint = o.endpoint AND l.event = o.event
                      ORDER BY l.attempt DESC LIMIT 1) a ON true
 WHERE o.organisation = current_organisation() AND o.endpoint = $1 AND ($2::text IS NULL OR o.event < $2)
   AND ($4::text IS NULL OR o.status = $4) AND ($5::text IS NULL OR o.type = $5)
 ORDER BY o.event DESC LIMIT $3
