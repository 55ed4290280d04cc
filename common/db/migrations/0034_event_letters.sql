-- What comes over the exchange of events and is none becomes a dead letter, written by the gateway that has read it.
GRANT INSERT ON dead_letter TO ropewalk_gateway;
