-- Writes down a delivery that started nothing, or whose run is another delivery's.
-- $1 uuid id  $2 timestamptz at  $3 text workflow  $4 text trigger  $5 smallint status  $6 text stage  $7 text reason
-- $8 text address  $9 json request  $10 int bytes of the body  $11 text excerpt  $12 bytea body or NULL  $13 int took, in us
-- $14 uuid run or NULL  $15 uuid redelivered from or NULL  $16 bool with the old secret  $17 text audit or NULL
-- $18 bool of the holder of a secret  $19 text what makes it unique, or NULL
INSERT INTO delivery (organisation, id, at, workflow, trigger, status, stage, reason, address, request, body_bytes, excerpt, body,
                      took_us, run_id, redelivered_from, old_secret, audit, genuine, nonce)
VALUES (current_organisation(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
