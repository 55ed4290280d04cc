-- What schedulers tell gateways of their load, and how many starts wait to be applied, so that gateways can refuse starts
-- before those accepted wait for long.
ALTER TABLE scheduler ADD COLUMN load json;                    -- [[organisation, waiting tasks, delay in ms, priority], ...]
ALTER TABLE scheduler ADD COLUMN load_at timestamptz;          -- a former release leaves what it finds: not believed for long

-- How many commands wait, counted up to `most`; and how long the oldest of a shard has waited, in ms: the median of the
-- shards that somebody looks after, so that a shard that is changing hands says nothing. Commands of all organisations are
-- counted, none is shown. Index: command_waiting, in whole for the count, its first entry for each shard.
CREATE FUNCTION start_backlog(most integer) RETURNS TABLE (waiting bigint, age_ms bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ SELECT (SELECT count(*) FROM (SELECT FROM command WHERE NOT held LIMIT most) c),
              coalesce((SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY coalesce(
                               (extract(epoch FROM now() - (SELECT created_at FROM command
                                                             WHERE command.shard = s.shard AND NOT held ORDER BY id LIMIT 1)) * 1000)::bigint, 0))
                          FROM shard s JOIN scheduler o ON o.incarnation = s.incarnation AND o.lease_until > now()), 0) $$;
REVOKE ALL ON FUNCTION start_backlog FROM PUBLIC;
GRANT EXECUTE ON FUNCTION start_backlog TO ropewalk_gateway;
