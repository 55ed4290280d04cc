-- The net under pushed updates: how far watched runs are. One query for all runs of an organisation.
-- $1 uuid[] runs
-- Columns: run uuid, status text, newest seq int4. Indexes: primary keys. No locks.
SELECT r.id, r.status, coalesce((SELECT max(e.seq) FROM event e WHERE e.run_id = r.id), 0)
  FROM unnest($1::uuid[]) AS w (id) JOIN run r ON r.id = w.id AND r.organisation = current_organisation()
