import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { drain, openClient, queuedEntries, queueLength } from './support/client.js';
import { Ferry } from './support/ferry.js';

describe('what Postgres refuses is answered for, kept, and blocks nothing', { timeout: 120_000 }, () => {
  const ferry = new Ferry();
  before(() => ferry.start());
  after(() => ferry.stop());

  const insertList = 'insert into lists (id, name, owner_id) values (?, ?, ?)';
  const insertTodo = 'insert into todos (id, description, list_id) values (?, ?, ?)';

  const forbidden = {
    "a todo in another user's list": async (client) => {
      const list = await listOf(client.t, 'bob');
      const id = randomUUID();
      await client.database.execute(insertTodo, [id, 'intruder', list]);
      return { table: 'todos', id };
    },
    'a list for another user': async (client) => {
      const id = randomUUID();
      await client.database.execute(insertList, [id, 'gift', ferry.user('bob').user_id]);
      return { table: 'lists', id };
    },
    'a list that is given away': async (client) => {
      const id = await listOf(client.t, 'alice');
      await client.database.execute(insertList, [id, 'mine', ferry.user('alice').user_id]);
      await drain(client);
      await client.database.execute('update lists set owner_id = ? where id = ?', [ferry.user('bob').user_id, id]);
      return { table: 'lists', id };
    },
    "another user's list taken over": async (client) => {
      const id = await listOf(client.t, 'bob');
      await client.database.execute(insertList, [id, 'mine now', ferry.user('alice').user_id]);
      return { table: 'lists', id };
    }
  };

  for (const [name, queue] of Object.entries(forbidden)) {
    it(`${name}, among good transactions`, async (t) => {
      const client = { t, ...(await openClient(t, ferry, 'alice')) };
      const { database } = client;
      const [first, last] = [randomUUID(), randomUUID()];
      await database.execute(insertList, [first, 'before', client.user.user_id]);
      const refused = await queue(client);
      await database.execute(insertTodo, [last, 'after', first]);
      const entries = await queuedEntries(database);
      const entry = entries.find(({ type, id }) => type === refused.table && id === refused.id);
      const before = await ferry.rows(
        'select * from lists l full join todos t on false where $1 in (l.id, t.id)',
        refused.id
      );

      const [answer, ...more] = await drain(client);

      assert.deepEqual(more, []);
      const { rejected, ...counts } = answer;
      assert.deepEqual(counts, {
        last_op_id: entries.at(-1).op_id,
        exactly_once: true,
        applied: entries.length - 1,
        duplicates: 0,
        ignored: 0
      });
      assert.equal(rejected.length, 1);
      const { rejection_id, message, sqlstate, constraint, ...facts } = rejected[0];
      assert.deepEqual(facts, {
        tx_id: entry.tx_id,
        op_id: entry.op_id,
        op_index: 0,
        state: 'open',
        table: refused.table,
        id: refused.id,
        code: 'forbidden'
      });
      assert.ok(message);

      assert.equal((await ferry.rows('select id from lists where id = $1', first)).length, 1);
      assert.equal((await ferry.rows('select id from todos where id = $1', last)).length, 1);
      assert.deepEqual(
        await ferry.rows('select * from lists l full join todos t on false where $1 in (l.id, t.id)', refused.id),
        before
      );
      assert.deepEqual(await keptRejections(database), [
        {
          id: rejection_id,
          user_id: client.user.user_id,
          code: 'forbidden',
          table_name: refused.table,
          row_id: refused.id,
          state: 'open'
        }
      ]);
    });
  }

  it('a missing value, with the whole transaction that holds it', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const [list, todo] = [randomUUID(), randomUUID()];
    await client.database.writeTransaction(async (tx) => {
      await tx.execute(insertList, [list, 'half', client.user.user_id]);
      await tx.execute(insertTodo, [todo, null, list]);
    });

    const [answer] = await drain(client);

    assert.equal(answer.applied, 0);
    assert.deepEqual(
      answer.rejected.map(({ code, sqlstate, column, op_index, table, id }) => ({
        code,
        sqlstate,
        column,
        op_index,
        table,
        id
      })),
      [{ code: 'not_null_violation', sqlstate: '23502', column: 'description', op_index: 1, table: 'todos', id: todo }]
    );
    assert.deepEqual(await ferry.rows('select id from lists where id = $1', list), []);
    assert.equal((await keptRejections(client.database)).length, 1);
  });

  it('a change to a row whose insert was refused before', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const list = randomUUID();
    await client.database.execute(insertList, [list, 'gift', ferry.user('bob').user_id]);
    const [first] = await drain(client);
    await client.database.execute('update lists set name = ? where id = ?', ['better gift', list]);
    const [second] = await drain(client);

    assert.deepEqual(
      first.rejected.map(({ code }) => code),
      ['forbidden']
    );
    assert.deepEqual(
      second.rejected.map(({ code }) => code),
      ['depends_on_rejected']
    );
    assert.equal((await keptRejections(client.database)).length, 2);
  });

  it('the rest of a refused transaction that getCrudBatch() cut', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    client.connector.take = (database) => database.getCrudBatch(2);
    const lists = Array.from({ length: 4 }, () => randomUUID());
    await client.database.writeTransaction(async (tx) => {
      await tx.execute(insertList, [lists[0], 'gift', ferry.user('bob').user_id]);
      for (const list of lists.slice(1)) await tx.execute(insertList, [list, 'mine', client.user.user_id]);
    });

    const answers = await drain(client);

    assert.deepEqual(
      answers.map(({ applied, rejected }) => [applied, ...rejected.map(({ code }) => code)]),
      [
        [0, 'forbidden'],
        [0, 'depends_on_rejected']
      ]
    );
    assert.deepEqual(await ferry.rows('select id from lists where id = any($1)', lists), []);
  });

  it('a redelivered rejection, once and under its first id', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    await client.database.execute(insertList, [randomUUID(), 'gift', ferry.user('bob').user_id]);
    await client.database.execute(insertList, [randomUUID(), 'mine', client.user.user_id]);
    const entries = await queuedEntries(client.database);

    const first = await client.connector.send(client.database, entries);
    const second = await client.connector.send(client.database, entries);

    assert.deepEqual([first.applied, first.duplicates], [1, 0]);
    assert.deepEqual([second.applied, second.duplicates], [0, 1]);
    assert.deepEqual(second.rejected, first.rejected);
    assert.equal((await keptRejections(client.database)).length, 1);
  });

  it('a table that does not exist, one that takes no uploads, and a column that the table lacks', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const list = randomUUID();
    const answer = await client.connector.send(client.database, [
      { op_id: 1, tx_id: 1, op: 'PUT', type: 'nowhere', id: '1', data: { name: 'a' } },
      { op_id: 2, tx_id: 2, op: 'PUT', type: 'effects', id: '1', data: { operation: 'forged' } },
      { op_id: 3, tx_id: 3, op: 'PUT', type: 'lists', id: randomUUID(), data: { name: 'a', colour: 'red' } },
      { op_id: 4, tx_id: 4, op: 'PUT', type: 'lists', id: list, data: { name: 'good' } }
    ]);

    assert.equal(answer.applied, 1);
    assert.deepEqual(
      answer.rejected.map(({ op_id, code }) => [op_id, code]),
      [
        [1, 'unknown_table'],
        [2, 'forbidden'],
        [3, 'unknown_column']
      ]
    );
    assert.equal((await ferry.rows('select id from lists where id = $1', list)).length, 1);
  });

  it('text that Postgres cannot hold', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    await client.database.execute(insertList, [randomUUID(), 'a\u0000b', client.user.user_id]);

    const [answer] = await drain(client);

    assert.deepEqual(
      answer.rejected.map(({ code, table }) => [code, table]),
      [['malformed_value', 'lists']]
    );
    assert.equal(await queueLength(client.database), 0);
  });

  /** Makes a list of the named user's, uploaded from a client of theirs; returns its id. */
  async function listOf(t, name) {
    const client = await openClient(t, ferry, name);
    const id = randomUUID();
    await client.database.execute(insertList, [id, `${name}'s`, client.user.user_id]);
    await drain(client);
    return id;
  }

  async function keptRejections(database) {
    const sql = `select id::text, user_id, code, table_name, row_id, state from ferry.rejections
      where client_id = $1 order by first_op_id`;
    return ferry.rows(sql, await database.getClientId());
  }
});
