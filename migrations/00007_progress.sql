-- +goose Up

-- Decisions are noted by a statement: functions that did it took a quarter of
-- what Postgres does for an upload of one row.
DROP FUNCTION ferry.advance(text, text, bigint, bigint, bytea, integer, bigint);
DROP FUNCTION ferry.record(text, text, bigint, bigint, bytea, integer, bigint);

-- The client transaction that an upload begins with may have been begun by an
-- earlier one and rejected: only where its tx_id is not above this one is it worth
-- looking for.
ALTER TABLE ferry.progress ADD COLUMN rejected_tx_id bigint; -- the highest of a rejected transaction
UPDATE ferry.progress p
SET rejected_tx_id = (SELECT max(r.tx_id) FROM ferry.rejections r WHERE r.user_id = p.user_id AND r.client_id = p.client_id);

-- remember_recent moves a progress row's decisions, once they have grown too many,
-- to the history.
-- +goose StatementBegin
CREATE FUNCTION ferry.remember_recent(p ferry.progress) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM ferry.remember(p, p.recent_first, p.last_op_id, p.recent);
    UPDATE ferry.progress SET recent = '', recent_first = NULL
    WHERE user_id = p.user_id AND client_id = p.client_id;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION ferry.remember_recent(ferry.progress) FROM PUBLIC;

-- +goose Down
DROP FUNCTION ferry.remember_recent(ferry.progress);
ALTER TABLE ferry.progress DROP COLUMN rejected_tx_id;

-- record notes decisions. p_first and p_last bound the op ids in p_entries.
-- Only where all op ids are above p_above; it reports whether they are.
-- +goose StatementBegin
CREATE FUNCTION ferry.record(
    p_user text, p_client text, p_first bigint, p_last bigint,
    p_entries bytea, p_operations integer, p_above bigint
) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The row stays under a kilobyte: measured, a larger one slows small uploads.
    max_recent CONSTANT integer := 768;
    large boolean := octet_length(p_entries) > max_recent;
    p ferry.progress;
BEGIN
    UPDATE ferry.progress
    SET last_op_id   = greatest(last_op_id, p_last),
        operations   = operations + p_operations,
        recent       = CASE WHEN large THEN recent ELSE recent || p_entries END,
        recent_first = CASE WHEN large THEN recent_first ELSE least(recent_first, p_first) END,
        updated_at   = now()
    WHERE user_id = p_user AND client_id = p_client AND last_op_id < p_above
    RETURNING * INTO p;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF large THEN
        PERFORM ferry.remember(p, p_first, p_last, p_entries);
    ELSIF octet_length(p.recent) > max_recent THEN
        PERFORM ferry.remember(p, p.recent_first, p.last_op_id, p.recent);
        UPDATE ferry.progress SET recent = '', recent_first = NULL
        WHERE user_id = p_user AND client_id = p_client;
    END IF;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- advance is record for operations that are certainly new and continue no
-- rejected transaction; otherwise it raises FE001, and the caller finds out.
-- p_first_tx is the client transaction of the first operation: the only one
-- that an earlier upload may have begun.
-- +goose StatementBegin
CREATE FUNCTION ferry.advance(
    p_user text, p_client text, p_first bigint, p_last bigint,
    p_entries bytea, p_operations integer, p_first_tx bigint
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT ferry.record(p_user, p_client, p_first, p_last, p_entries, p_operations, p_first) THEN
        INSERT INTO ferry.progress (user_id, client_id, last_op_id)
        VALUES (p_user, p_client, -1)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND OR NOT ferry.record(p_user, p_client, p_first, p_last, p_entries, p_operations, p_first) THEN
            RAISE EXCEPTION 'these operations may have been seen before' USING ERRCODE = 'FE001';
        END IF;
    END IF;
    IF p_first_tx IS NOT NULL AND EXISTS (
        SELECT FROM ferry.rejections
        WHERE user_id = p_user AND client_id = p_client AND tx_id = p_first_tx
          AND last_op_id < p_first AND state <> 'replayed')
    THEN
        RAISE EXCEPTION 'this continues a rejected transaction' USING ERRCODE = 'FE001';
    END IF;
END
$$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION ferry.record(text, text, bigint, bigint, bytea, integer, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION ferry.advance(text, text, bigint, bigint, bytea, integer, bigint) FROM PUBLIC;
