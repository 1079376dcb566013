-- +goose Up

-- The rows that open rejections would have made are looked up by their hashes,
-- and by nothing else: a partial index on state invites Postgres to read all
-- open rejections instead, and so does a list of pending entries.
DROP INDEX ferry.rejections_puts;
CREATE INDEX rejections_puts ON ferry.rejections USING gin (puts) WITH (fastupdate = off);

-- Of the rejections of one client transaction the newest is looked for.
DROP INDEX ferry.rejections_tx;
CREATE INDEX rejections_tx ON ferry.rejections (user_id, client_id, tx_id, last_op_id);

-- A client may have made more history in a day than an upload can read.
CREATE INDEX history_op_ids ON ferry.history (user_id, client_id, last_op_id);

-- What a user's open rejections hold, so that their cap costs a look at one row.
CREATE TABLE ferry.open_rejections (
    user_id text   NOT NULL PRIMARY KEY,
    bytes   bigint NOT NULL -- of their operations
) WITH (fillfactor = 60); -- room for HOT updates
INSERT INTO ferry.open_rejections (user_id, bytes)
SELECT user_id, sum(octet_length(operations)) FROM ferry.rejections WHERE state = 'open' GROUP BY user_id;

-- measure_open keeps it. It runs with its owner's rights, as part of the COMMIT:
-- all other locks of the transaction are taken by then.
-- +goose StatementBegin
CREATE FUNCTION ferry.measure_open() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user  text;
    v_bytes bigint := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        v_user := OLD.user_id;
        v_bytes := CASE WHEN OLD.state = 'open' THEN -octet_length(OLD.operations) ELSE 0 END;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        v_user := NEW.user_id;
        v_bytes := v_bytes + CASE WHEN NEW.state = 'open' THEN octet_length(NEW.operations) ELSE 0 END;
    END IF;
    IF v_bytes <> 0 THEN
        INSERT INTO ferry.open_rejections AS o (user_id, bytes) VALUES (v_user, v_bytes)
        ON CONFLICT (user_id) DO UPDATE SET bytes = o.bytes + excluded.bytes;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION ferry.measure_open() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER measure_open AFTER INSERT OR UPDATE OF state, operations OR DELETE ON ferry.rejections
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ferry.measure_open();

-- +goose Down
DROP TRIGGER measure_open ON ferry.rejections;
DROP FUNCTION ferry.measure_open();
DROP TABLE ferry.open_rejections;
DROP INDEX ferry.history_op_ids;
DROP INDEX ferry.rejections_tx;
CREATE INDEX rejections_tx ON ferry.rejections (user_id, client_id, tx_id);
DROP INDEX ferry.rejections_puts;
CREATE INDEX rejections_puts ON ferry.rejections USING gin (puts) WHERE state = 'open';
