-- The first organisation, if it is not there. No parameters.
INSERT INTO organisation (name) VALUES ('default') ON CONFLICT (name) DO NOTHING
