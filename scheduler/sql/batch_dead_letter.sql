-- Writes dead letters; one that names a run but no organisation gets the run's, if there is such a run.
-- $1 int[] organisation  $2 text[] kind  $3 text[] source  $4 uuid[] run  $5 text[] step  $6 text[] reason  $7 bytea[] body
-- $8 text[] type  $9 text[] message id  $10 int[] bytes of all of it  $11 uuid[] the letter it comes from
-- $12 boolean[] it may have been written before: by a process that died, or a commit of which nothing was heard. Then one of the
-- last day of the same queue, type, message id and body is taken for it.
-- Indexes: primary key of run, row by row; dead_letter_at. Locks: none; letters of one inbox are written by its shard's owner alone.
INSERT INTO dead_letter (organisation, kind, source, run_id, step, reason, body, type, message_id, bytes, ancestor)
SELECT coalesce(l.organisation, r.organisation), l.kind, l.source, l.run_id, l.step, l.reason, l.body, l.type, l.message_id,
       l.bytes, l.ancestor
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::bytea[], $8::text[], $9::text[],
              $10::integer[], $11::uuid[], $12::boolean[])
       AS l (organisation, kind, source, run_id, step, reason, body, type, message_id, bytes, ancestor, again)
  LEFT JOIN LATERAL (SELECT run.organisation FROM run WHERE run.id = l.run_id OFFSET 0) r ON l.organisation IS NULL
 WHERE NOT l.again
    OR NOT EXISTS (SELECT FROM dead_letter d
                    WHERE d.at > now() - interval '1 day' AND d.source = l.source AND d.type IS NOT DISTINCT FROM l.type
                      AND d.message_id IS NOT DISTINCT FROM l.message_id AND d.body IS NOT DISTINCT FROM l.body)
