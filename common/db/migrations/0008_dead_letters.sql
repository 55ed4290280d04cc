-- Dead letters can be read whole, sent again and put away. A letter that names no organisation is the installation's: the
-- gateway shows it to admins of the first one.
ALTER TABLE dead_letter
    ADD COLUMN type         text,                -- of the message, or the kind of the command
    ADD COLUMN message_id   text,
    ADD COLUMN bytes        integer,             -- of all of it; the body holds at most 1 MiB. NULL: as long as the body
    ADD COLUMN ancestor     uuid,                -- the letter that was requeued, and came to this
    ADD COLUMN status       text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'requeued', 'discarded')),
    ADD COLUMN decided_at   timestamptz,         -- when it was requeued or discarded
    ADD COLUMN decided_by   text,                -- prefix of the API key
    ADD COLUMN corrected    bytea;               -- what was sent instead of the body; NULL: the body
CREATE INDEX dead_letter_by_time ON dead_letter (organisation, at, id);

DROP POLICY tenant ON dead_letter;
DROP POLICY tenant_only ON dead_letter;
CREATE POLICY tenant ON dead_letter TO ropewalk_gateway
    USING (organisation = current_organisation() OR (organisation IS NULL AND current_organisation() = 1));
CREATE POLICY tenant_only ON dead_letter AS RESTRICTIVE TO ropewalk_gateway
    USING (organisation = current_organisation() OR (organisation IS NULL AND current_organisation() = 1));
GRANT UPDATE (status, decided_at, decided_by, corrected) ON dead_letter TO ropewalk_gateway;

-- What the scheduler's watch over open runs walks: small, however many runs have ended.
CREATE INDEX run_open ON run (id) WHERE status IN ('pending', 'active', 'paused');
