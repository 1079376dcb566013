-- +goose Up

-- Users who are kept out, whatever signs them in: see docs/accounts.md.
CREATE TABLE ferry.denylist (
    user_id         text        NOT NULL PRIMARY KEY,
    disabled        boolean     NOT NULL DEFAULT false, -- may not use the app at all
    sessions_before timestamptz CHECK (isfinite(sessions_before)), -- sessions issued before this are void
    reason          text        NOT NULL DEFAULT '',
    forget_at       timestamptz, -- from then on nothing can be older than sessions_before; null: never
    changed_at      timestamptz NOT NULL DEFAULT now()
);

-- One row that is another one after each change of the list, so that replicas
-- see with a glance whether their copies are good. Random, and no counter: a
-- standby that was promoted without the last changes must not count up to the
-- same number again.
CREATE TABLE ferry.denylist_version (
    one     boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (one),
    version uuid    NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO ferry.denylist_version DEFAULT VALUES;

-- It runs with its owner's rights: nobody else needs to change the version.
-- +goose StatementBegin
CREATE FUNCTION ferry.denylist_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE ferry.denylist_version SET version = gen_random_uuid();
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION ferry.denylist_changed() FROM PUBLIC;
CREATE TRIGGER denylist_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON ferry.denylist
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.denylist_changed();

-- +goose Down
DROP TABLE ferry.denylist;
DROP TABLE ferry.denylist_version;
DROP FUNCTION ferry.denylist_changed();
