-- +goose Up

-- How far each client's upload queue has been applied. One row per device and
-- user, locked by each upload: it is what makes a redelivery wait for the
-- first delivery, and then be recognised.
CREATE TABLE ferry.progress (
    user_id         text        NOT NULL,
    client_id       text        NOT NULL,
    last_op_id      bigint      NOT NULL,            -- the greatest op id decided so far; never falls
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
    refused_at      timestamptz,        -- when a replay was last refused: the reason is the newest one
    settled_at      timestamptz         -- when it was replayed or discarded
);
CREATE UNIQUE INDEX rejections_delivery ON ferry.rejections (user_id, client_id, delivery);
CREATE INDEX rejections_tx ON ferry.rejections (user_id, client_id, tx_id);
CREATE INDEX rejections_open ON ferry.rejections (user_id, created_at) WHERE state = 'open';
CREATE INDEX rejections_puts ON ferry.rejections USING gin (puts) WHERE state = 'open';
CREATE INDEX rejections_depends_on ON ferry.rejections (depends_on) WHERE depends_on IS NOT NULL;

-- Client transactions that timed out or deadlocked alone, so that one that
-- always does is rejected in the end and blocks its client no longer.
CREATE TABLE ferry.timeouts (
    user_id    text        NOT NULL,
    client_id  text        NOT NULL, -- empty where the request had none
    delivery   bytea       NOT NULL, -- as in ferry.rejections
    attempts   integer     NOT NULL DEFAULT 1,
    first_at   timestamptz NOT NULL,
    PRIMARY KEY (user_id, client_id, delivery)
);

-- remember writes the decisions of a client that its progress row is too small
-- for: a large upload's at once, the row's own once they have grown too many.
-- +goose StatementBegin
CREATE FUNCTION ferry.remember(p ferry.progress, p_first bigint, p_last bigint, p_entries bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO ferry.history (user_id, client_id, seq, first_op_id, last_op_id, entries)
    VALUES (p.user_id, p.client_id, p.operations, p_first, p_last, p_entries);

    -- Forget what is older than a day and further back than the last thousand
    -- operations; a few rows at a time, so that no upload pays for a backlog.
    DELETE FROM ferry.history
    WHERE user_id = p.user_id AND client_id = p.client_id
      AND seq IN (
          SELECT h.seq FROM ferry.history h
          WHERE h.user_id = p.user_id AND h.client_id = p.client_id
            AND h.seq <= p.operations - 1000
          ORDER BY h.seq
          LIMIT 8)
      AND created_at < now() - interval '1 day';
END
$$;
-- +goose StatementEnd

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

-- limit_clients bounds how many clients one user can make ferry remember: whoever
-- invents a client id per request would fill the database. It fires for rows
-- that are new, so that clients which are known pay nothing.
-- +goose StatementBegin
CREATE FUNCTION ferry.limit_clients() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- A browser that clears its storage every week takes nineteen years.
    max_clients CONSTANT integer := 1000;
    known bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE user_id = $1 LIMIT $2) AS known', TG_RELID::regclass)
    INTO known USING NEW.user_id, max_clients + 1;
    IF known > max_clients THEN
        RAISE EXCEPTION 'this user has more than % clients', max_clients USING ERRCODE = 'FE002';
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER limit_clients AFTER INSERT ON ferry.progress FOR EACH ROW EXECUTE FUNCTION ferry.limit_clients();

-- prune_rejections deletes what was settled before p_before and returns how
-- many that were. What a rejection that stays depends on stays as well. It runs
-- with its owner's rights, so that serving needs no right to delete rejections.
-- +goose StatementBegin
CREATE FUNCTION ferry.prune_rejections(p_before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_deleted bigint;
BEGIN
    WITH RECURSIVE needed (id) AS (
        SELECT r.depends_on FROM ferry.rejections r
        WHERE r.depends_on IS NOT NULL AND (r.state = 'open' OR r.settled_at >= p_before)
        UNION
        SELECT r.depends_on FROM needed JOIN ferry.rejections r ON r.id = needed.id
        WHERE r.depends_on IS NOT NULL
    )
    DELETE FROM ferry.rejections r
    WHERE r.state <> 'open' AND r.settled_at < p_before
      AND NOT EXISTS (SELECT FROM needed WHERE needed.id = r.id);
    GET DIAGNOSTICS v_deleted = ROW_COUNT;
    RETURN v_deleted;
END
$$;
-- +goose StatementEnd

-- existing_rows tells which ids exist, whoever may see them: what makes
-- "hidden by row-level security" different from "not there". Where its owner
-- cannot bypass the policies it raises, because row_security is off. It runs
-- with its owner's rights, so it runs no code of the app's: tables only, no
-- views, and ids of types whose input and comparison are Postgres' own.
-- +goose StatementBegin
CREATE FUNCTION ferry.existing_rows(p_table regclass, p_id_column name, p_ids text[])
RETURNS SETOF bigint -- positions in p_ids, from 1
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    v_type text;
BEGIN
    WITH RECURSIVE id_type AS (
        SELECT a.atttypid AS oid
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = p_id_column AND NOT a.attisdropped
        WHERE c.oid = p_table AND c.relkind IN ('r', 'p')
          AND n.nspname NOT IN ('ferry', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'
        UNION ALL
        SELECT t.typbasetype FROM id_type JOIN pg_type t ON t.oid = id_type.oid WHERE t.typtype = 'd'
    )
    SELECT quote_ident(n.nspname) || '.' || quote_ident(t.typname)
    INTO v_type
    FROM id_type
    JOIN pg_type t ON t.oid = id_type.oid
    JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype = 'e' OR (t.typtype = 'b' AND n.nspname = 'pg_catalog');
    IF v_type IS NULL THEN
        RAISE EXCEPTION 'cannot look for rows of %', p_table USING ERRCODE = '42501';
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT d.ord FROM unnest($1) WITH ORDINALITY AS d(id, ord)
         WHERE EXISTS (SELECT FROM %1$s t WHERE t.%2$I::%3$s = d.id::%3$s)', p_table, p_id_column, v_type)
    USING p_ids;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION ferry.existing_rows(regclass, name, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION ferry.limit_clients() FROM PUBLIC;
REVOKE ALL ON FUNCTION ferry.prune_rejections(timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION ferry.remember(ferry.progress, bigint, bigint, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION ferry.record(text, text, bigint, bigint, bytea, integer, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION ferry.advance(text, text, bigint, bigint, bytea, integer, bigint) FROM PUBLIC;

-- +goose Down
DROP FUNCTION ferry.prune_rejections(timestamptz);
DROP FUNCTION ferry.existing_rows(regclass, name, text[]);
DROP FUNCTION ferry.advance(text, text, bigint, bigint, bytea, integer, bigint);
DROP FUNCTION ferry.record(text, text, bigint, bigint, bytea, integer, bigint);
DROP FUNCTION ferry.remember(ferry.progress, bigint, bigint, bytea);
DROP TABLE ferry.timeouts;
DROP TABLE ferry.rejections;
DROP TABLE ferry.history;
DROP TABLE ferry.progress;
DROP FUNCTION ferry.limit_clients();
