-- +goose Up

-- How far each client's upload queue has been applied. One row per device and
-- user, locked by each upload: it is what makes a redelivery wait for the
-- first delivery, and then be recognised.
CREATE TABLE ferry.progress (
    user_id         text        NOT NULL,
    client_id       text        NOT NULL,
    last_op_id      bigint      NOT NULL,            -- the greatest op id decided so far; never falls
    rejected_tx_id  bigint,                          -- the newest rejected client transaction, which may be continued
    operations      bigint      NOT NULL DEFAULT 0,  -- how many were decided, ever
    recent          bytea       NOT NULL DEFAULT '', -- the newest decisions: see internal/postgres/history.go
    recent_first    bigint,                          -- the lowest op id in recent
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, client_id)
) WITH (fillfactor = 60); -- room for HOT updates: this row changes with every upload

-- Older decisions, moved out of ferry.progress so that its row stays small.
CREATE TABLE ferry.history (
    user_id     text        NOT NULL,
    client_id   text        NOT NULL,
    seq         bigint      NOT NULL, -- ferry.progress.operations when this was written
    first_op_id bigint      NOT NULL, -- no op id in entries is lower,
    last_op_id  bigint      NOT NULL, -- and none is higher
    entries     bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, client_id, seq)
);
ALTER TABLE ferry.history ALTER COLUMN entries SET STORAGE EXTERNAL; -- hashes do not compress

-- Client transactions that the database refused, whole, with the reason.
CREATE TABLE ferry.rejections (
    id              uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    user_id         text        NOT NULL,
    client_id       text,                 -- null where the request had none
    tx_id           bigint,
    first_op_id     bigint,
    last_op_id      bigint,
    delivery        bytea,                -- hash of the op ids and fingerprints; null without op ids
    claims          bytea       NOT NULL, -- the session's claims at the time, JSON
    operations      bytea       NOT NULL, -- the client transaction as sent, a JSON array (bytea: jsonb cannot hold all JSON)
    code            text        NOT NULL,
    sqlstate        text        NOT NULL DEFAULT '',
    constraint_name text        NOT NULL DEFAULT '',
    column_name     text        NOT NULL DEFAULT '',
    message         text        NOT NULL,
    table_name      text        NOT NULL, -- of the refused operation, as the client named it
    row_id          text        NOT NULL,
    op_id           bigint,
    op_index        integer     NOT NULL, -- within the client transaction
    depends_on      uuid        REFERENCES ferry.rejections,
    puts            bytea[]     NOT NULL, -- hashes of the rows that it would have made
    state           text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'discarded')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    settled_at      timestamptz
);
CREATE UNIQUE INDEX rejections_delivery ON ferry.rejections (user_id, client_id, delivery);
CREATE INDEX rejections_tx ON ferry.rejections (user_id, client_id, tx_id);
CREATE INDEX rejections_open ON ferry.rejections (user_id, created_at) WHERE state = 'open';
CREATE INDEX rejections_puts ON ferry.rejections USING gin (puts) WHERE state = 'open';
CREATE INDEX rejections_depends_on ON ferry.rejections (depends_on) WHERE depends_on IS NOT NULL;

-- record notes decisions. first and last bound the op ids in entries.
-- +goose StatementBegin
CREATE FUNCTION ferry.record(
    p_user text, p_client text, p_first bigint, p_last bigint,
    p_entries bytea, p_operations integer, p_rejected_tx bigint
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The row stays under a kilobyte: measured, a larger one slows small uploads.
    max_recent CONSTANT integer := 768;
    large boolean := octet_length(p_entries) > max_recent;
    p ferry.progress;
BEGIN
    UPDATE ferry.progress
    SET last_op_id     = greatest(last_op_id, p_last),
        rejected_tx_id = coalesce(p_rejected_tx, rejected_tx_id),
        operations     = operations + p_operations,
        recent         = CASE WHEN large THEN recent ELSE recent || p_entries END,
        recent_first   = CASE WHEN large THEN recent_first ELSE least(recent_first, p_first) END,
        updated_at     = now()
    WHERE user_id = p_user AND client_id = p_client
    RETURNING * INTO STRICT p;

    IF large THEN
        INSERT INTO ferry.history (user_id, client_id, seq, first_op_id, last_op_id, entries)
        VALUES (p_user, p_client, p.operations, p_first, p_last, p_entries);
    ELSIF octet_length(p.recent) > max_recent THEN
        INSERT INTO ferry.history (user_id, client_id, seq, first_op_id, last_op_id, entries)
        VALUES (p_user, p_client, p.operations, p.recent_first, p.last_op_id, p.recent);
        UPDATE ferry.progress SET recent = '', recent_first = NULL
        WHERE user_id = p_user AND client_id = p_client;
    ELSE
        RETURN;
    END IF;

    -- Forget what is older than a day and further back than the last thousand
    -- operations; a few rows at a time, so that no upload pays for a backlog.
    DELETE FROM ferry.history
    WHERE user_id = p_user AND client_id = p_client
      AND seq IN (
          SELECT h.seq FROM ferry.history h
          WHERE h.user_id = p_user AND h.client_id = p_client
            AND h.seq <= p.operations - 1000
          ORDER BY h.seq
          LIMIT 8)
      AND created_at < now() - interval '1 day';
END
$$;
-- +goose StatementEnd

-- advance is record for operations that are certainly new; otherwise it raises
-- FE001, and the caller finds out which of them are.
-- +goose StatementBegin
CREATE FUNCTION ferry.advance(
    p_user text, p_client text, p_first bigint, p_last bigint,
    p_entries bytea, p_operations integer, p_first_tx bigint
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM ferry.progress
    WHERE user_id = p_user AND client_id = p_client
      AND last_op_id < p_first
      AND (p_first_tx IS NULL OR rejected_tx_id IS DISTINCT FROM p_first_tx)
    FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO ferry.progress (user_id, client_id, last_op_id)
        VALUES (p_user, p_client, p_last)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'these operations may have been seen before' USING ERRCODE = 'FE001';
        END IF;
    END IF;
    PERFORM ferry.record(p_user, p_client, p_first, p_last, p_entries, p_operations, NULL);
END
$$;
-- +goose StatementEnd

-- existing_rows tells which ids exist, whoever may see them: what makes
-- "hidden by row-level security" different from "not there". Where its owner
-- cannot bypass the policies it raises, because row_security is off.
-- +goose StatementBegin
CREATE FUNCTION ferry.existing_rows(p_table regclass, p_id_column name, p_ids text[])
RETURNS SETOF bigint -- positions in p_ids, from 1
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    v_schema name;
    v_type   text;
BEGIN
    SELECT n.nspname, quote_ident(tn.nspname) || '.' || quote_ident(t.typname)
    INTO STRICT v_schema, v_type
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = p_id_column AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_namespace tn ON tn.oid = t.typnamespace
    WHERE c.oid = p_table;
    IF v_schema IN ('ferry', 'information_schema') OR v_schema LIKE 'pg\_%' THEN
        RAISE EXCEPTION 'not a table of the app' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT d.ord FROM unnest($1) WITH ORDINALITY AS d(id, ord)
         WHERE EXISTS (SELECT FROM %s t WHERE t.%I = d.id::%s)', p_table, p_id_column, v_type)
    USING p_ids;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION ferry.existing_rows(regclass, name, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION ferry.record(text, text, bigint, bigint, bytea, integer, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION ferry.advance(text, text, bigint, bigint, bytea, integer, bigint) FROM PUBLIC;

-- +goose Down
DROP FUNCTION ferry.existing_rows(regclass, name, text[]);
DROP FUNCTION ferry.advance(text, text, bigint, bigint, bytea, integer, bigint);
DROP FUNCTION ferry.record(text, text, bigint, bigint, bytea, integer, bigint);
DROP TABLE ferry.rejections;
DROP TABLE ferry.history;
DROP TABLE ferry.progress;
