-- Endpoints of an organisation are made one after another.
-- Locks the organisation's row. Statements behind it see what others have made before.
SELECT id FROM organisation WHERE id = current_organisation() FOR NO KEY UPDATE
