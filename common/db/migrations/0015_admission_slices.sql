-- A limit that is lifted while ten thousand runs wait let all of them in with one statement, which took longer than a statement
-- may: it was never done, and its scheduler's other batches stood behind it. Now they are let in by and by.
-- What the owner of keys does with what was asked of them, in that order; gives the shards of the runs that are told something.
-- Asking twice, giving back twice, and asking for a run that has ended change nothing. A slot goes to who has waited longest,
-- and only while fewer are held than that one's own bound. "take" takes one whether or not one is free: of a run that goes on
-- after its end. The rows are this transaction's alone (shard_guard). No more than 100 of those that wait are let in at a time:
-- each leaves versions of its rows that the next has to step over, until the transaction ends. The rest the key tells itself.
CREATE OR REPLACE FUNCTION admission_apply(shards smallint[], keys uuid[], orgs integer[], runs uuid[], releases boolean[], seqs integer[],
                                bounds integer[], modes text[], workflows text[], names json[])
    RETURNS SETOF smallint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    asked record;
    mine admission;
    k admission_key;
    head admission;
    old admission;
    own integer; -- bound of the organisation, NULL: it has none of its own
    admitted integer := 0; -- of those that waited, whatever their key
BEGIN
    FOR asked IN SELECT * FROM unnest(shards, keys, orgs, runs, releases, seqs, bounds, modes, workflows, names) WITH ORDINALITY
                  AS a (shard, key, org, run, release, seq, bound, mode, workflow, name, n) ORDER BY n LOOP
        SELECT (o.limits ->> 'max_running_runs')::integer INTO own FROM organisation o WHERE o.id = asked.org;
        SELECT * INTO mine FROM admission a WHERE a.key = asked.key AND a.run_id = asked.run;
        IF asked.release AND FOUND AND mine.seq < asked.seq THEN
            DELETE FROM admission a WHERE a.key = asked.key AND a.run_id = asked.run;
            UPDATE admission_key a SET held = a.held - mine.granted::integer, waiting = a.waiting - (NOT mine.granted)::integer
             WHERE a.key = asked.key;
        ELSIF NOT asked.release AND FOUND THEN
            UPDATE admission a SET seq = asked.seq WHERE a.key = asked.key AND a.run_id = asked.run AND a.seq < asked.seq;
            IF mine.granted AND asked.mode <> 'take' THEN
                RETURN NEXT admission_tell(asked.org, asked.run, 'slot_grant', json_build_object('seq', mine.seq));
            END IF;
        ELSIF NOT asked.release AND EXISTS (SELECT FROM run r WHERE r.id = asked.run AND r.status IN ('pending', 'active', 'paused')) THEN
            INSERT INTO admission_key (key, organisation, shard, workflow, name)
            VALUES (asked.key, asked.org, asked.shard, asked.workflow, asked.name) ON CONFLICT DO NOTHING;
            SELECT * INTO k FROM admission_key a WHERE a.key = asked.key;
            IF asked.mode = 'take' OR (k.waiting = 0 AND k.held < admission_bound(k, asked.bound, own)) THEN
                INSERT INTO admission (key, run_id, organisation, seq, bound, granted)
                VALUES (asked.key, asked.run, asked.org, asked.seq, asked.bound, true);
                UPDATE admission_key a SET held = a.held + 1 WHERE a.key = asked.key;
                IF asked.mode <> 'take' THEN
                    RETURN NEXT admission_tell(asked.org, asked.run, 'slot_grant', json_build_object('seq', asked.seq));
                END IF;
            ELSIF asked.mode = 'skip' THEN
                RETURN NEXT admission_tell(asked.org, asked.run, 'slot_grant', json_build_object('seq', asked.seq, 'refused', true));
            ELSE
                INSERT INTO admission (key, run_id, organisation, seq, bound, granted)
                VALUES (asked.key, asked.run, asked.org, asked.seq, asked.bound, false);
                UPDATE admission_key a SET waiting = a.waiting + 1 WHERE a.key = asked.key;
            END IF;
            -- as many of the newest as may go on stay; those that are older make room
            IF asked.mode = 'cancel_oldest' THEN
                FOR old IN SELECT * FROM admission a WHERE a.key = asked.key ORDER BY a.number DESC OFFSET asked.bound LOOP
                    CONTINUE WHEN old.told;
                    UPDATE admission a SET told = true WHERE a.key = old.key AND a.run_id = old.run_id;
                    RETURN NEXT admission_tell(asked.org, old.run_id, 'cancel', json_build_object('superseded_by', asked.run));
                END LOOP;
            END IF;
        END IF;
        LOOP
            SELECT * INTO k FROM admission_key a WHERE a.key = asked.key AND a.waiting > 0;
            EXIT WHEN NOT FOUND;
            SELECT * INTO head FROM admission a WHERE a.key = asked.key AND NOT a.granted AND NOT a.told ORDER BY a.number LIMIT 1;
            EXIT WHEN NOT FOUND OR k.held >= admission_bound(k, head.bound, own);
            IF admitted = 100 THEN
                INSERT INTO command (shard, organisation, run_id, kind, body)
                SELECT asked.shard, asked.org, asked.key, 'slot_release', json_build_object('run', asked.key, 'seq', 0)
                 WHERE NOT EXISTS (SELECT FROM command c WHERE c.run_id = asked.key);
                RETURN NEXT asked.shard;
                EXIT;
            END IF;
            admitted := admitted + 1;
            UPDATE admission a SET granted = true, since = now() WHERE a.key = head.key AND a.run_id = head.run_id;
            UPDATE admission_key a SET held = a.held + 1, waiting = a.waiting - 1 WHERE a.key = asked.key;
            RETURN NEXT admission_tell(asked.org, head.run_id, 'slot_grant', json_build_object('seq', head.seq));
        END LOOP;
        DELETE FROM admission_key a WHERE a.key = asked.key AND a.held = 0 AND a.waiting = 0;
    END LOOP;
END $$;
