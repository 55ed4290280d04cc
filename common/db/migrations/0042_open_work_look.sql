-- Waits that are still to look for events that came before them: none, as a rule.
CREATE INDEX open_work_look ON open_work (shard) WHERE event_since IS NOT NULL
