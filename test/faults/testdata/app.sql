-- An app under test. Triggers note each effect of each operation, which names
-- itself in its data: client.transaction.operation.size, where size is how many
-- effects a reader must see of the transaction, 0 for any number.
CREATE TABLE effects (
    seq    bigserial PRIMARY KEY,
    dbtx   bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    client int    NOT NULL,
    tx     int,
    size   int    NOT NULL,
    row    text   NOT NULL,
    name   text   NOT NULL
);
CREATE INDEX ON effects (client, tx);

CREATE TABLE entries (
    id     text PRIMARY KEY,
    owner  text NOT NULL DEFAULT current_setting('app.user_id', true),
    client int  NOT NULL,
    writer text NOT NULL,
    value  int  CHECK (value >= 0),
    body   text
);
-- A register is two rows, a and b, which transactions overwrite together.
CREATE TABLE registers (
    id     text PRIMARY KEY,
    client int  NOT NULL DEFAULT 0,
    writer text NOT NULL DEFAULT '',
    value  int  NOT NULL DEFAULT 0
);
INSERT INTO registers SELECT n || half FROM generate_series(0, 7) AS n, unnest('{a,b}'::text[]) AS half;

CREATE TABLE counters (id text PRIMARY KEY, value int NOT NULL DEFAULT 0);
INSERT INTO counters SELECT n FROM generate_series(0, 3) AS n;

CREATE TABLE increments (
    id      text PRIMARY KEY,
    client  int  NOT NULL,
    writer  text NOT NULL,
    counter text NOT NULL REFERENCES counters DEFERRABLE INITIALLY DEFERRED
);

-- What a fault asks the triggers for.
CREATE TABLE disturbance (serialization_failures boolean NOT NULL);
INSERT INTO disturbance VALUES (false);

CREATE FUNCTION note_effect() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    IF random() < 0.2 AND (SELECT serialization_failures FROM disturbance) THEN
        RAISE EXCEPTION 'a reader came in between' USING ERRCODE = 'serialization_failure';
    END IF;
    IF tg_op = 'DELETE' THEN
        INSERT INTO effects (client, size, row, name)
        VALUES (old.client, 0, tg_table_name || '/' || old.id, '-' || tg_table_name || '/' || old.id);
    ELSE
        INSERT INTO effects (client, tx, size, row, name)
        VALUES (new.client, split_part(new.writer, '.', 2)::int, split_part(new.writer, '.', 4)::int,
                tg_table_name || '/' || new.id, new.writer);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_effect AFTER INSERT OR UPDATE OR DELETE ON entries FOR EACH ROW EXECUTE FUNCTION note_effect();
CREATE TRIGGER note_effect AFTER INSERT OR UPDATE OR DELETE ON registers FOR EACH ROW EXECUTE FUNCTION note_effect();
CREATE TRIGGER note_effect AFTER INSERT OR UPDATE OR DELETE ON increments FOR EACH ROW EXECUTE FUNCTION note_effect();

CREATE FUNCTION count_increment() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    UPDATE counters SET value = value + 1 WHERE id = new.counter;
    RETURN NULL;
END $$;
CREATE TRIGGER count_increment AFTER INSERT OR UPDATE ON increments FOR EACH ROW EXECUTE FUNCTION count_increment();

ALTER TABLE entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE registers ENABLE ROW LEVEL SECURITY;
ALTER TABLE increments ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON entries TO authenticated USING (owner = current_setting('app.user_id', true));
CREATE POLICY everybody ON registers TO authenticated USING (true);
CREATE POLICY everybody ON increments TO authenticated USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON entries TO authenticated;
GRANT SELECT, UPDATE ON registers TO authenticated;
GRANT SELECT, INSERT, UPDATE ON increments TO authenticated;
