-- What it takes to take a refused delivery again: whether it was of the holder of a secret, and what makes it unique.
ALTER TABLE delivery ADD COLUMN genuine boolean NOT NULL DEFAULT false, ADD COLUMN nonce text;
