-- Dead letters by time whatever their organisation: a message that is delivered again looks for its own of a moment ago.
CREATE INDEX dead_letter_at ON dead_letter (at)
