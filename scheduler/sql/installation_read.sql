-- What every scheduler of the installation knows. No parameters. Columns: int, incarnation; bytea, key of task tokens.
SELECT incarnation, token_key FROM installation
