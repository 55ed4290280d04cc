-- The organisation's first data key, unless somebody else has just made it.
-- $1 text id of the master key  $2 bytea wrapped
INSERT INTO data_key (organisation, version, master, wrapped) VALUES (current_organisation(), 1, $1, $2)
ON CONFLICT DO NOTHING
