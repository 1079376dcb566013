import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { drain, openClient, queuedEntries } from './support/client.js';
import { Ferry } from './support/ferry.js';
import { serverRows } from './support/tables.js';

describe('values that clients really send', { timeout: 120_000 }, () => {
  const ferry = new Ferry();
  before(() => ferry.start());
  after(() => ferry.stop());

  it('an UPDATE that changes nothing is a PATCH of {}, and is applied', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const id = await insert(client, { label: 'same', quantity: 1 });
    await drain(client);
    await client.database.execute('update samples set label = label, quantity = 1 where id = ?', [id]);
    const [entry] = await queuedEntries(client.database);
    assert.deepEqual([entry.op, entry.data], ['PATCH', {}]);

    const [answer] = await drain(client);

    assert.deepEqual([answer.applied, answer.ignored, answer.rejected], [1, 0, []]);
    const row = await sample(id);
    assert.deepEqual([row.label, row.quantity], ['same', '1']);
  });

  it('an UPDATE and a DELETE of a row that is gone are ignored', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const id = await insert(client, { label: 'gone' });
    await drain(client);
    await ferry.rows('delete from samples where id = $1', id);
    await client.database.execute('update samples set label = ? where id = ?', ['changed', id]);
    await client.database.execute('delete from samples where id = ?', [id]);

    const [answer] = await drain(client);

    assert.deepEqual([answer.applied, answer.ignored, answer.rejected], [0, 2, []]);
    assert.equal(await sample(id), undefined);
  });

  it('INSERT OR REPLACE keeps what it does not name', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const id = await insert(client, { label: 'first', quantity: 5 });
    await client.database.execute('insert or replace into samples (id, label) values (?, ?)', [id, 'second']);

    const [answer] = await drain(client);

    assert.deepEqual([answer.applied, answer.rejected], [2, []]);
    const row = await sample(id);
    assert.deepEqual([row.label, row.quantity], ['second', '5']);
  });

  it('columns that the client leaves out take their defaults', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const [list, todo] = [randomUUID(), randomUUID()];
    const { database } = client;
    await database.execute('insert into lists (id, name) values (?, ?)', [list, 'bare']);
    await database.execute('insert into todos (id, list_id, description) values (?, ?, ?)', [todo, list, 'bare']);

    await drain(client);

    const lists = `select name, owner_id::text, created_at > now() - interval '1 minute' as fresh
      from lists where id = $1`;
    assert.deepEqual(await ferry.rows(lists, list), [{ name: 'bare', owner_id: client.user.user_id, fresh: true }]);
    const todos = 'select description, completed, completed_at, photo_id from todos where id = $1';
    assert.deepEqual(await ferry.rows(todos, todo), [
      { description: 'bare', completed: false, completed_at: null, photo_id: null }
    ]);
  });

  it('NULL clears every column that it is set on', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const full = {
      label: 'x',
      quantity: 1,
      weight: 1.5,
      done: 1,
      details: '{}',
      tags: '["a"]',
      due_at: '2026-01-01T00:00:00.000000Z',
      price: '1.5',
      reference: randomUUID()
    };
    const id = await insert(client, full);
    await drain(client);
    assert.ok(Object.values(await sample(id)).every((value) => value !== null));
    const clear = Object.keys(full).map((name) => `${name} = null`);
    await client.database.execute(`update samples set ${clear.join(', ')} where id = ?`, [id]);

    await drain(client);

    const cleared = Object.fromEntries(Object.keys(full).map((name) => [name, null]));
    assert.deepEqual(await sample(id), { id, owner_id: client.user.user_id, ...cleared });
  });

  const texts = {
    'the empty string': '',
    spaces: '  \t ',
    'quotes and backslashes': `'"\`\\ \\n $1 %s -- ; drop`,
    'control characters': 'a\u0001\n\r\t\u007f\u2028\u2029b',
    markup: '</script>&amp;<!--',
    'letters outside ASCII': 'é ß Ж 日本語 עברית',
    'decomposed letters, not composed': 'e\u0301',
    emoji: '😀👩‍👩‍👧‍👦🇨🇭',
    'the last code point': '\u{10ffff}\ufffd\uffff',
    'what looks like another type': 'null',
    'what looks like a number': '1e3',
    'what looks like an array': '{a,b}',
    'a long text': 'long é '.repeat(20_000)
  };
  for (const [name, text] of Object.entries(texts)) {
    it(`text: ${name}`, async (t) => {
      const client = await openClient(t, ferry, 'alice');
      const document = { [text.slice(0, 50)]: text };
      const id = await insert(client, { label: text, tags: JSON.stringify([text]), details: JSON.stringify(document) });

      await drain(client);

      const row = await sample(id);
      assert.deepEqual([row.label, row.tags, row.details], [text, [text], document]);
    });
  }

  // JSON.stringify() prints a number of the SDK; what it prints is what Postgres must hold.
  const integers = [
    ['0', '0'],
    ['42', '42'],
    ['-2147483649', '-2147483649'],
    ['9007199254740991', '9007199254740991'],
    ['9007199254740993', '9007199254740992'],
    ['1000000000000000000', '1000000000000000000']
  ];
  for (const [sql, expected] of integers) {
    it(`integer ${sql} arrives as ${expected} from the JavaScript SDK`, async (t) => {
      const client = await openClient(t, ferry, 'alice');
      const id = await insertLiteral(client, sql);
      await drain(client);
      assert.equal((await sample(id)).quantity, expected);
    });
  }

  it('an integer that JavaScript rounds out of range is refused, and the queue goes on', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const tooLarge = await insertLiteral(client, '9223372036854775807');
    const good = await insertLiteral(client, '1');

    const [answer] = await drain(client);

    assert.equal(answer.applied, 1);
    assert.deepEqual(
      answer.rejected.map(({ id, code }) => [id, code]),
      [[tooLarge, 'numeric_value_out_of_range']]
    );
    assert.equal((await sample(good)).quantity, '1');
  });

  it('64-bit integers are exact from SDKs that send the queue as SQLite holds it', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const values = ['9007199254740993', '9223372036854775807', '-9223372036854775808'];
    const ids = [];
    for (const value of values) ids.push(await insertLiteral(client, value));

    const answer = await uploadRaw(client);

    assert.deepEqual([answer.applied, answer.rejected], [3, []]);
    for (const [i, id] of ids.entries()) assert.equal((await sample(id)).quantity, values[i]);
  });

  it('numbers bound in JavaScript are reals in the queue, and integers and booleans in Postgres', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const id = await insert(client, { quantity: 42, done: 1, price: '0.10' });
    const [{ data }] = await client.database.getAll('select data from ps_crud');
    assert.match(data, /"done":1\.0.*"quantity":42\.0/);

    const answer = await uploadRaw(client);

    assert.deepEqual([answer.applied, answer.rejected], [1, []]);
    const row = await sample(id);
    assert.deepEqual([row.quantity, row.done, row.price], ['42', 1, '0.10']);
  });

  const instants = [
    ['2026-02-03T04:05:06.789012Z', '2026-02-03T04:05:06.789012Z'],
    ['2026-02-03 04:05:06.789012Z', '2026-02-03T04:05:06.789012Z'],
    ['2026-02-03T04:05:06.789Z', '2026-02-03T04:05:06.789000Z'],
    ['2026-02-03T04:05:06+02:30', '2026-02-03T01:35:06.000000Z'],
    ['2026-02-03 04:05:06', '2026-02-03T04:05:06.000000Z'],
    ['1770091506789', '2026-02-03T04:05:06.789000Z']
  ];
  for (const [sent, stored] of instants) {
    it(`the instant ${sent} is stored as ${stored}`, async (t) => {
      const client = await openClient(t, ferry, 'alice');
      const id = await insert(client, { due_at: sent });
      await drain(client);
      assert.equal((await sample(id)).due_at, stored);
    });
  }

  const refused = {
    quantity: ['1.5', 'many', ''],
    done: ['2', ''],
    details: ['{', ''],
    tags: ['[1', 'plain'],
    due_at: ['06/03/2023', 'now', ''],
    price: ['ten'],
    reference: ['not-a-uuid', '']
  };
  for (const [name, values] of Object.entries(refused)) {
    for (const value of values) {
      it(`${JSON.stringify(value)} is refused as ${name}, and the queue goes on`, async (t) => {
        const client = await openClient(t, ferry, 'alice');
        const bad = randomUUID();
        const entries = [
          { op_id: 1, tx_id: 1, op: 'PUT', type: 'samples', id: bad, data: { [name]: value } },
          { op_id: 2, tx_id: 2, op: 'PUT', type: 'samples', id: randomUUID(), data: { label: 'good' } }
        ];

        const answer = await client.connector.send(client.database, entries);

        assert.equal(answer.applied, 1);
        assert.deepEqual(
          answer.rejected.map(({ op_id, table, id }) => ({ op_id, table, id })),
          [{ op_id: 1, table: 'samples', id: bad }]
        );
        assert.ok(answer.rejected[0].message);
        assert.equal(await sample(bad), undefined);
      });
    }
  }

  /** Inserts a row into the client's samples; returns its id. */
  async function insert({ database }, values) {
    const id = randomUUID();
    const names = ['id', ...Object.keys(values)];
    const sql = `insert into samples (${names.join(', ')}) values (${names.map(() => '?').join(', ')})`;
    await database.execute(sql, [id, ...Object.values(values)]);
    return id;
  }

  /** The same with a quantity that is written in SQL, because JavaScript would round it. */
  async function insertLiteral({ database }, quantity) {
    const id = randomUUID();
    await database.execute(`insert into samples (id, quantity) values (?, cast('${quantity}' as integer))`, [id]);
    return id;
  }

  async function sample(id) {
    return (await serverRows(ferry, 'samples', [id]))[0];
  }

  /** Uploads the queue with the text that SQLite holds, as SDKs in other languages do. */
  async function uploadRaw({ database, user }) {
    const rows = await database.getAll('select id, tx_id, data from ps_crud order by id');
    const crud = rows.map(({ id, tx_id, data }) => `{"op_id":${id},"tx_id":${tx_id},${data.slice(1)}`);
    const body = `{"client_id":${JSON.stringify(await database.getClientId())},"crud":[${crud.join(',')}]}`;
    const answer = await ferry.request('POST', '/upload', { session: user.session, body });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body;
  }
});
