-- One event that was taken.
-- $1 bigint number
-- Columns: number int8, at timestamptz, event json, its bytes int4, starts json. Index: incoming_event_number. No locks.
SELECT number, at, event, octet_length(event::text), starts
  FROM incoming_event WHERE organisation = current_organisation() AND number = $1
