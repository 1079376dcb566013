import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { drain, openClient, queuedEntries, queueLength } from './support/client.js';
import { Ferry } from './support/ferry.js';
import { unreachableService } from './support/service.js';
import { assertSameRows } from './support/tables.js';

describe('what the SDK queues arrives in Postgres', { timeout: 120_000 }, () => {
  const ferry = new Ferry();
  before(() => ferry.start());
  after(() => ferry.stop());

  // One user each, because the rows of the whole user are compared.
  it('through uploadData()', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    await useTheApp(client);
    const operations = (await queuedEntries(client.database)).length;

    const answers = await drain(client);

    assert.equal(answers.length, 1);
    assert.deepEqual(answers[0], {
      last_op_id: operations,
      exactly_once: true,
      applied: operations,
      duplicates: 0,
      ignored: 0,
      rejected: []
    });
    await assertSameApp(client);
  });

  it('through connect(), while the PowerSync Service is unreachable', async (t) => {
    const client = await openClient(t, ferry, 'bob');
    const { database, connector } = client;
    connector.endpoint = await unreachableService();
    await useTheApp(client);

    const drained = once(connector, 'drained');
    await database.connect(connector, { crudUploadThrottleMs: 10 });
    await drained;
    await assertSameApp(client);
    assert.equal(database.currentStatus.connected, false);

    // Now that the queue is empty, a write wakes the upload loop.
    const drainedAgain = once(connector, 'drained');
    await database.execute('update lists set name = ?', ['renamed while connected']);
    await drainedAgain;
    await assertSameApp(client);

    for (const answer of connector.answers) assert.deepEqual(answer.rejected, []);
  });

  /** Inserts, updates and deletes in all tables, alone and in transactions, with every column set. */
  async function useTheApp({ database, user }) {
    const [groceries, chores, doomed] = [randomUUID(), randomUUID(), randomUUID()];
    const [milk, bread, dishes] = [randomUUID(), randomUUID(), randomUUID()];
    const owner = user.user_id;

    const insertList = 'insert into lists (id, created_at, name, owner_id) values (?, ?, ?, ?)';
    const insertTodo = `insert into todos
      (id, created_at, completed_at, description, completed, created_by, completed_by, list_id, photo_id)
      values (?, ?, ?, ?, ?, ?, ?, ?, ?)`;

    await database.writeTransaction(async (tx) => {
      await tx.execute(insertList, [groceries, '2026-01-02T03:04:05.678901Z', 'groceries', owner]);
      await tx.execute(insertTodo, [
        milk,
        '2026-01-02T03:04:06.000000Z',
        null,
        'milk',
        0,
        owner,
        null,
        groceries,
        null
      ]);
      await tx.execute(insertTodo, [
        bread,
        '2026-01-02T03:04:07.000000Z',
        null,
        'bread',
        0,
        owner,
        null,
        groceries,
        null
      ]);
    });
    await database.execute(insertList, [chores, '2026-01-03T00:00:00.000000Z', 'chores', owner]);
    await database.execute(insertList, [doomed, '2026-01-03T00:00:01.000000Z', 'doomed', owner]);
    await database.execute(insertTodo, [
      dishes,
      '2026-01-03T00:00:02.000000Z',
      '2026-01-04T10:11:12.131415Z',
      'dishes',
      1,
      owner,
      owner,
      chores,
      randomUUID()
    ]);

    await database.writeTransaction(async (tx) => {
      await tx.execute('update todos set completed = 1, completed_at = ?, completed_by = ? where id = ?', [
        '2026-01-05T06:07:08.000009Z',
        owner,
        milk
      ]);
      await tx.execute('update lists set name = ? where id = ?', ['food', groceries]);
      await tx.execute('delete from todos where id = ?', [bread]);
    });
    await database.execute('update todos set completed = 0, completed_at = null, completed_by = null where id = ?', [
      dishes
    ]);
    await database.execute('delete from lists where id = ?', [doomed]);

    const insertSample = `insert into samples
      (id, owner_id, label, quantity, weight, done, details, tags, due_at, price, reference)
      values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;
    const [first, second] = [randomUUID(), randomUUID()];
    await database.execute(insertSample, [
      first,
      owner,
      'first',
      42,
      1.5,
      1,
      JSON.stringify({ a: [1, 2, { b: null }], text: 'é', yes: true }),
      JSON.stringify(['one', 'two, with a comma', '', null, '{"quoted"}']),
      '2026-02-03T04:05:06.789012Z',
      '12345678901234567890.123456789',
      randomUUID()
    ]);
    await database.execute(insertSample, [second, owner, 'second', -7, 0.1, 0, '[]', '[]', null, '0.10', null]);
    await database.execute(
      `update samples set quantity = quantity + 1, weight = -2.25, done = 0, details = ?, tags = ?, price = ?
       where id = ?`,
      [JSON.stringify('a string'), JSON.stringify(['é', '😀']), '-1', first]
    );
    await database.execute('update samples set label = null, due_at = ?, reference = ? where id = ?', [
      '1999-12-31T23:59:59.999999Z',
      first,
      second
    ]);
  }

  async function assertSameApp(client) {
    assert.equal(await queueLength(client.database), 0);
    assert.equal((await assertSameRows(ferry, client, 'lists')).length, 2);
    assert.equal((await assertSameRows(ferry, client, 'todos')).length, 2);
    assert.equal((await assertSameRows(ferry, client, 'samples')).length, 2);
  }
});
