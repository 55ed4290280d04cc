-- Who waits for an event of this type.
CREATE INDEX open_work_event ON open_work (organisation, event_type) WHERE event_type IS NOT NULL
