-- +goose Up

-- ferry's own accounts: see docs/accounts.md. A guest has no address and no
-- password.
CREATE TABLE ferry.accounts (
    user_id          uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    email            text,       -- as it was given; nobody has checked whose it is
    email_key        text,       -- the same without regard to case: see internal/identity/email.go
    password_hash    text        CHECK (password_hash LIKE '$argon2id$%'),
    password_version bigint      NOT NULL DEFAULT 0, -- counts passwords; a new hash of the same one is none
    created_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT account_per_email UNIQUE (email_key),
    CONSTRAINT guest_or_full CHECK (num_nulls(email, email_key, password_hash) IN (0, 3))
);

-- Their sessions. Whoever can read this table can use none of them.
CREATE TABLE ferry.sessions (
    id         uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY, -- for operators
    token_hash bytea       NOT NULL UNIQUE,
    user_id    uuid        NOT NULL REFERENCES ferry.accounts ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    issued_at  timestamptz NOT NULL DEFAULT now(), -- counts against ferry.denylist.sessions_before
    used_at    timestamptz NOT NULL DEFAULT now(), -- to a day
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_user ON ferry.sessions (user_id);
CREATE INDEX sessions_expiry ON ferry.sessions (expires_at);

-- When something was tried that may be tried only so often. Unlike a counter
-- the times make a limit exact over any period.
CREATE TABLE ferry.attempts (
    key       bytea         NOT NULL PRIMARY KEY, -- a hash of what was tried, and of who or what is limited
    at        timestamptz[] NOT NULL,             -- rising
    forget_at timestamptz   NOT NULL              -- none of them counts any more
);
CREATE INDEX attempts_forget ON ferry.attempts (forget_at);

-- count_attempt counts an attempt under each key, or under none where one has
-- p_limits attempts within the period; wait is then how long until it has
-- fewer. It locks keys in the order in which they come: callers sort them.
-- +goose StatementBegin
CREATE FUNCTION ferry.count_attempt(
    p_keys bytea[], p_limits integer[], p_period interval,
    OUT counted_at timestamptz, OUT wait interval
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_at   timestamptz[];
    v_last timestamptz := '-infinity';
BEGIN
    wait := '0';
    FOR i IN 1 .. cardinality(p_keys) LOOP
        INSERT INTO ferry.attempts AS a (key, at, forget_at)
        VALUES (p_keys[i], '{}', clock_timestamp() + p_period)
        ON CONFLICT (key) DO UPDATE
        SET at = ARRAY(SELECT t FROM unnest(a.at) t WHERE t > clock_timestamp() - p_period ORDER BY t)
        RETURNING a.at INTO v_at;
        IF cardinality(v_at) >= p_limits[i] THEN
            wait := greatest(wait, v_at[cardinality(v_at) - p_limits[i] + 1] + p_period - clock_timestamp());
        END IF;
        v_last := greatest(v_last, v_at[cardinality(v_at)]);
    END LOOP;
    IF wait > '0' THEN
        RETURN;
    END IF;

    -- No two attempts of a key are at the same time: one can be taken back.
    counted_at := greatest(clock_timestamp(), v_last + interval '1 microsecond');
    UPDATE ferry.attempts SET at = at || counted_at, forget_at = counted_at + p_period
    WHERE key = ANY (p_keys);

    -- Forget a few in passing, so that nobody has to. None is waited for.
    DELETE FROM ferry.attempts
    WHERE key = ANY (ARRAY(
        SELECT a.key FROM ferry.attempts a
        WHERE a.forget_at < now()
        ORDER BY a.forget_at
        LIMIT 8
        FOR UPDATE SKIP LOCKED));
END
$$;
-- +goose StatementEnd

-- take_back_attempt makes an attempt one that never was.
-- +goose StatementBegin
CREATE FUNCTION ferry.take_back_attempt(p_keys bytea[], p_at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    FOR i IN 1 .. cardinality(p_keys) LOOP
        UPDATE ferry.attempts SET at = array_remove(at, p_at) WHERE key = p_keys[i];
    END LOOP;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION ferry.count_attempt(bytea[], integer[], interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION ferry.take_back_attempt(bytea[], timestamptz) FROM PUBLIC;

-- +goose Down
DROP FUNCTION ferry.take_back_attempt(bytea[], timestamptz);
DROP FUNCTION ferry.count_attempt(bytea[], integer[], interval);
DROP TABLE ferry.attempts;
DROP TABLE ferry.sessions;
DROP TABLE ferry.accounts;
