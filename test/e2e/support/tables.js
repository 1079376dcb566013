// The tables of the tests: PowerSync's demo tables, which `ferry dev` brings,
// and two of the tests' own; on the client, in Postgres, and compared.
import assert from 'node:assert/strict';
import { column, Schema, Table } from '@powersync/common';

const { text, integer, real } = column;

/** What the client's SQLite database holds. */
export const schema = new Schema({
  lists: new Table({ created_at: text, name: text, owner_id: text }),
  todos: new Table({
    created_at: text,
    completed_at: text,
    description: text,
    completed: integer,
    created_by: text,
    completed_by: text,
    list_id: text,
    photo_id: text
  }),
  samples: new Table({
    owner_id: text,
    label: text,
    quantity: integer,
    weight: real,
    done: integer,
    details: text,
    tags: text,
    due_at: text,
    price: text,
    reference: text
  }),
  counted: new Table({ owner_id: text, value: text })
});

const caller = `(nullif(current_setting('app.user_id', true), ''))::uuid`;

/** Every effect on a row of counted, triggers included, leaves one row in effects. */
const testTables = `
  create table samples (
    id uuid primary key,
    owner_id uuid not null default ${caller},
    label text,
    quantity bigint,
    weight double precision,
    done boolean,
    details jsonb,
    tags text[],
    due_at timestamptz,
    price numeric,
    reference uuid
  );
  create table counted (
    id uuid primary key,
    owner_id uuid not null default ${caller},
    value text
  );
  create table effects (
    effect bigint generated always as identity primary key,
    row_id uuid not null,
    operation text not null
  );
  create function record_effect() returns trigger
    language plpgsql security definer set search_path = public
    as $$
      begin
        insert into effects (row_id, operation) values (coalesce(new.id, old.id), tg_op);
        return null;
      end
    $$;
  create trigger record_effect after insert or update or delete on counted
    for each row execute function record_effect();

  alter table samples enable row level security;
  alter table counted enable row level security;
  create policy own on samples using (owner_id = ${caller});
  create policy own on counted using (owner_id = ${caller});
  grant select, insert, update, delete on samples, counted to authenticated;
`;

export async function createTestTables(db) {
  await db.query(testTables);
}

const same = (value) => value;
const parsed = (value) => (value === null ? null : JSON.parse(value));

/**
 * How a column is read on either side, so that equal values compare equal:
 * an SQL expression for Postgres, one for SQLite, and a last step for both.
 */
const kinds = {
  text: { postgres: (c) => `${c}::text`, sqlite: (c) => c, both: same },
  bigint: { postgres: (c) => `${c}::text`, sqlite: (c) => `cast(${c} as text)`, both: same },
  double: { postgres: (c) => c, sqlite: (c) => c, both: same },
  boolean: { postgres: (c) => `${c}::integer`, sqlite: (c) => c, both: same },
  json: { postgres: (c) => `${c}::text`, sqlite: (c) => c, both: parsed },
  array: { postgres: (c) => `to_json(${c})::text`, sqlite: (c) => c, both: parsed },
  timestamptz: {
    postgres: (c) => `to_char(${c} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
    sqlite: (c) => c,
    both: same
  }
};

const columns = {
  lists: { id: 'text', created_at: 'timestamptz', name: 'text', owner_id: 'text' },
  todos: {
    id: 'text',
    created_at: 'timestamptz',
    completed_at: 'timestamptz',
    description: 'text',
    completed: 'boolean',
    created_by: 'text',
    completed_by: 'text',
    list_id: 'text',
    photo_id: 'text'
  },
  samples: {
    id: 'text',
    owner_id: 'text',
    label: 'text',
    quantity: 'bigint',
    weight: 'double',
    done: 'boolean',
    details: 'json',
    tags: 'array',
    due_at: 'timestamptz',
    price: 'text',
    reference: 'text'
  }
};

/** The rows of a table in Postgres that `ids` names, in the order of their ids. */
export async function serverRows(ferry, table, ids) {
  return comparable(table, await ferry.rows(`${select(table, 'postgres')} where id::text = any($1) order by id`, ids));
}

/** A client's rows of a table, in the order of their ids. */
export async function localRows(database, table) {
  return comparable(table, await database.getAll(`${select(table, 'sqlite')} order by id`));
}

const rowsOfUser = {
  lists: 'select id::text from lists where owner_id = $1',
  todos: 'select t.id::text from todos t join lists l on l.id = t.list_id where l.owner_id = $1',
  samples: 'select id::text from samples where owner_id = $1'
};

/**
 * Fails unless Postgres holds, of the client's user, exactly the rows that the
 * client holds, column by column; returns these rows.
 */
export async function assertSameRows(ferry, client, table) {
  const owned = await ferry.rows(rowsOfUser[table], client.user.user_id);
  const ids = owned.map((row) => row.id);
  const rows = await serverRows(ferry, table, ids);
  assert.deepEqual(rows, await localRows(client.database, table), `${table}: Postgres differs from the client`);
  return rows;
}

function select(table, side) {
  const list = Object.entries(columns[table]).map(([name, kind]) => `${kinds[kind][side](name)} as ${name}`);
  return `select ${list.join(', ')} from ${table}`;
}

function comparable(table, rows) {
  const read = ([name, kind], row) => [name, kinds[kind].both(row[name])];
  return rows.map((row) => Object.fromEntries(Object.entries(columns[table]).map((column) => read(column, row))));
}
