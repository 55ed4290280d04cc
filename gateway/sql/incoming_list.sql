-- A page of the events that were taken, newest first; large ones without their text.
-- $1 bigint numbers below this one  $2 int4 how many  $3 text type  $4 text source  $5 text subject; $3 to $5 NULL: any
-- Columns: number int8, at timestamptz, event json or NULL, its bytes int4, starts json. Index: incoming_event_number. No locks.
SELECT number, at, CASE WHEN octet_length(event::text) <= 4096 THEN event END, octet_length(event::text), starts
  FROM incoming_event
 WHERE organisation = current_organisation() AND number < $1
   AND ($3::text IS NULL OR type = $3) AND ($4::text IS NULL OR source = $4) AND ($5::text IS NULL OR subject = $5)
 ORDER BY number DESC LIMIT $2
