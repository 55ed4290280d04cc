-- What came since a step's run began, oldest first, for the step that begins to wait for an event of that type.
CREATE INDEX incoming_event_since ON incoming_event (organisation, type, at, number)
