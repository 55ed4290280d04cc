-- What came of an attempt: in the log, and of the row if it is still that attempt's, or it was delivered after all.
-- $1 uuid endpoint  $2 text event  $3 int4 attempt  $4 text status  $5 int8 pending: when again, in ms  $6 int4 how long it took, in us
-- $7 int2 status of the answer, NULL: none  $8 text why there was none  $9 text the answer's beginning  $10 text gateway
-- Primary keys. Locks the row.
WITH changed AS (
    UPDATE outgoing SET status = $4, tries = tries + 1, held = false,
           next_at = CASE WHEN $4 = 'pending' THEN now() + $5 * interval '1 ms' END
     WHERE organisation = current_organisation() AND endpoint = $1 AND event = $2 AND status = 'pending'
       AND ((held AND attempts = $3) OR $4 = 'delivered'))
INSERT INTO outgoing_attempt (organisation, endpoint, event, attempt, at, took_us, status, error, answer, gateway)
SELECT o.organisation, o.endpoint, o.event, $3, now(), $6, $7, $8, $9, $10 FROM outgoing o
 WHERE o.organisation = current_organisation() AND o.endpoint = $1 AND o.event = $2
ON CONFLICT DO NOTHING
