-- Keeps a message of the exchange of events that is none.
-- $1 text queue  $2 text what is wrong with it  $3 bytea body  $4 text message id or NULL  $5 int4 bytes of all of it
-- $6 bool it may have been written before: then one of the last day of the same queue, message id and body is taken for it
-- Index: dead_letter_by_time.
INSERT INTO dead_letter (organisation, kind, source, reason, body, type, message_id, bytes)
SELECT current_organisation(), 'message', $1, $2, $3, 'event', $4, $5
 WHERE NOT $6::bool
    OR NOT EXISTS (SELECT FROM dead_letter d
                    WHERE d.organisation = current_organisation() AND d.at > now() - interval '1 day' AND d.source = $1
                      AND d.message_id IS NOT DISTINCT FROM $4 AND d.body IS NOT DISTINCT FROM $3::bytea)
