-- How many endpoints the organisation has.
-- Columns: count int8, one of kind exchange bool. Primary key. No locks.
SELECT count(*), coalesce(bool_or(kind = 'exchange'), false) FROM endpoint WHERE organisation = current_organisation()
