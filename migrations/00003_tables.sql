-- +goose Up

-- Settings of client tables that are not just the table of that name. See
-- docs/tables.md.
CREATE TABLE ferry.tables (
    client_name     text  NOT NULL PRIMARY KEY,           -- the table as clients call it
    schema_name     text  NOT NULL DEFAULT 'public',
    table_name      text  NOT NULL,
    id_column       text  NOT NULL DEFAULT 'id',
    columns         jsonb NOT NULL DEFAULT '{}',           -- {"client's name": "column"}
    put_absent      text  NOT NULL DEFAULT 'keep'   CHECK (put_absent IN ('keep', 'null')),
    unknown_columns text  NOT NULL DEFAULT 'reject' CHECK (unknown_columns IN ('reject', 'drop')),
    bytea_encoding  jsonb NOT NULL DEFAULT '{}',           -- {"column": "base64" | "hex"}
    stamp_insert    jsonb NOT NULL DEFAULT '{}',           -- {"column": "path.to.claim"}, when a row is made
    stamp_write     jsonb NOT NULL DEFAULT '{}',           -- the same, with each PUT and PATCH
    CONSTRAINT columns_object        CHECK (jsonb_typeof(columns) = 'object'),
    CONSTRAINT bytea_encoding_object CHECK (jsonb_typeof(bytea_encoding) = 'object'),
    CONSTRAINT stamp_insert_object   CHECK (jsonb_typeof(stamp_insert) = 'object'),
    CONSTRAINT stamp_write_object    CHECK (jsonb_typeof(stamp_write) = 'object'),
    CONSTRAINT apps_schema           CHECK (schema_name NOT IN ('ferry', 'information_schema') AND schema_name NOT LIKE 'pg\_%')
);

-- +goose Down
DROP TABLE ferry.tables;
