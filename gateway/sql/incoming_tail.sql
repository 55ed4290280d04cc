-- Events that were taken after a place, oldest first. Only those of transactions before which none is under way any more: what
-- is not visible yet comes behind the place that is given.
-- $1 bigint transaction and $2 bigint number of the place; $1 NULL: nothing but the place of now  $3 int4 how many
-- $4 text type  $5 text source; NULL: any
-- Columns: transaction that everything before is seen of int8, number int8 (NULL: none), at timestamptz, event json or NULL, its
-- bytes int4, starts json, transaction of the event int8. Index: incoming_event_written. No locks.
SELECT h.upto, e.number, e.at, e.event, e.bytes, e.starts, e.written
  FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS upto) h
  LEFT JOIN LATERAL (
       SELECT number, at, CASE WHEN octet_length(i.event::text) <= 4096 THEN i.event END AS event,
              octet_length(i.event::text) AS bytes, starts, written
         FROM incoming_event i
        WHERE organisation = current_organisation() AND (written, number) > ($1::bigint, $2::bigint) AND written < h.upto
          AND ($4::text IS NULL OR type = $4) AND ($5::text IS NULL OR source = $5)
        ORDER BY written, number LIMIT $3) e ON true
