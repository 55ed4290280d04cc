-- No more runs of an operation are asked; those that have been are. One that was cancelled before, or has asked all, stays as it is.
-- $1 uuid operation  $2 text prefix of the API key
-- Columns: was it there bool. Locks the row. Index: primary key.
WITH changed AS (
    UPDATE bulk_operation o SET cancelled_at = now(), cancelled_by = $2, next_at = now()
     WHERE o.organisation = current_organisation() AND o.id = $1 AND o.cancelled_at IS NULL AND o.next_at IS NOT NULL
       AND EXISTS (SELECT FROM bulk_run b WHERE b.organisation = o.organisation AND b.operation = o.id
                      AND b.command IS NULL AND b.new_run IS NULL AND b.code IS NULL))
SELECT EXISTS (SELECT FROM bulk_operation WHERE organisation = current_organisation() AND id = $1)
