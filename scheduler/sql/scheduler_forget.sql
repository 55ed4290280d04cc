-- Removes schedulers whose lease ended long ago: their names are not coming back. No parameters. Few rows.
DELETE FROM scheduler WHERE lease_until < now() - interval '1 hour'
