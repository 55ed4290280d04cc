-- The newest text of a workflow where it differs from its newest version in metadata only (canvas positions): such a
-- change makes no version, and a version stays byte for byte what it was when it was made.
ALTER TABLE workflow ADD COLUMN document bytea;
