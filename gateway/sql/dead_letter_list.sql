-- A page of dead letters, newest first; bodies are left out.
-- $1 timestamptz, $2 uuid: letters before this one  $3 int4 how many  $4 bool those that name no organisation, too
-- $5 text status, NULL: any  $6 text reason, NULL: any
-- Columns: id uuid, at timestamptz, kind text, source text, run uuid, step text, reason text, bytes int4, type text,
-- message_id text, status text, ancestor uuid, decided_at timestamptz, decided_by text, named bool (an organisation).
-- Index: dead_letter_by_time, twice. No locks.
SELECT l.id, l.at, l.kind, l.source, l.run_id, l.step, l.reason, coalesce(l.bytes, length(l.body), 0), l.type, l.message_id,
       l.status, l.ancestor, l.decided_at, l.decided_by, l.organisation IS NOT NULL
  FROM ((SELECT * FROM dead_letter
          WHERE organisation = current_organisation() AND (at, id) < ($1, $2) AND ($5::text IS NULL OR status = $5)
            AND ($6::text IS NULL OR reason = $6)
          ORDER BY at DESC, id DESC LIMIT $3)
        UNION ALL
        (SELECT * FROM dead_letter
          WHERE $4 AND organisation IS NULL AND (at, id) < ($1, $2) AND ($5::text IS NULL OR status = $5)
            AND ($6::text IS NULL OR reason = $6)
          ORDER BY at DESC, id DESC LIMIT $3)) l
 ORDER BY l.at DESC, l.id DESC LIMIT $3
