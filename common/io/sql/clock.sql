-- PostgreSQL's wall clock at this moment (not at the transaction's start). Column: timestamptz. No locks.
SELECT clock_timestamp()
