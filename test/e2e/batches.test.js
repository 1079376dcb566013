import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { drain, openClient } from './support/client.js';
import { Ferry } from './support/ferry.js';

describe('however the connector cuts the queue', { timeout: 120_000 }, () => {
  const ferry = new Ferry();
  before(() => ferry.start());
  after(() => ferry.stop());

  it('getCrudBatch() drains it in as many uploads as it takes', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    client.connector.take = (database) => database.getCrudBatch(3);
    const rows = newRows(10);
    for (const row of rows) await insert(client.database, row);

    const answers = await drain(client);

    assert.deepEqual(
      answers.map((answer) => answer.applied),
      [3, 3, 3, 1]
    );
    assert.deepEqual(await stored(rows), rows);
  });

  it('getCrudBatch() may cut a transaction', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const rows = newRows(250);
    await client.database.writeTransaction((tx) => insertAll(tx, rows));

    const answers = await drain(client);

    assert.deepEqual(
      answers.map((answer) => answer.applied),
      [100, 100, 50]
    );
    assert.deepEqual(await stored(rows), rows);
  });

  it('getNextCrudTransaction() gives a transaction of 250 operations, which is applied whole', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    client.connector.take = (database) => database.getNextCrudTransaction();
    const rows = newRows(250);
    await client.database.writeTransaction((tx) => insertAll(tx, rows));

    assert.deepEqual(await drain(client), [
      { last_op_id: 250, exactly_once: true, applied: 250, duplicates: 0, ignored: 0, rejected: [] }
    ]);
    assert.deepEqual(await stored(rows), rows);
    const transactions = 'select distinct xmin::text from counted where id = any($1)';
    assert.equal(
      (
        await ferry.rows(
          transactions,
          rows.map((row) => row.id)
        )
      ).length,
      1
    );
  });

  it('a transaction of 250 operations with one that is refused leaves nothing behind', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    client.connector.take = (database) => database.getNextCrudTransaction();
    const rows = newRows(250);
    rows[199].owner_id = ferry.user('bob').user_id;
    await client.database.writeTransaction((tx) => insertAll(tx, rows));

    const [answer, ...more] = await drain(client);

    assert.deepEqual(more, []);
    assert.deepEqual([answer.applied, answer.duplicates, answer.ignored], [0, 0, 0]);
    assert.equal(answer.last_op_id, 250);
    assert.deepEqual(
      answer.rejected.map(({ code, op_id, op_index, id }) => ({ code, op_id, op_index, id })),
      [{ code: 'forbidden', op_id: 200, op_index: 199, id: rows[199].id }]
    );
    assert.deepEqual(await stored(rows), []);
  });

  it('getCrudTransactions() gives whole transactions, and several of them make one upload', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    client.connector.take = takeTransactions;
    const rows = newRows(9);
    for (const part of [rows.slice(0, 2), rows.slice(2, 7), rows.slice(7)]) {
      await client.database.writeTransaction((tx) => insertAll(tx, part));
    }

    assert.deepEqual(await drain(client), [
      { last_op_id: 9, exactly_once: true, applied: 9, duplicates: 0, ignored: 0, rejected: [] }
    ]);
    assert.deepEqual(await stored(rows), rows);
  });

  /** Completing the last of some transactions completes those before it. */
  async function takeTransactions(database) {
    const crud = [];
    let last;
    for await (const transaction of database.getCrudTransactions()) {
      crud.push(...transaction.crud);
      last = transaction;
    }
    return last && { crud, complete: () => last.complete() };
  }

  /** Rows for the table counted, in the order of their ids. */
  function newRows(count) {
    const ids = Array.from({ length: count }, () => randomUUID()).sort();
    return ids.map((id, i) => ({ id, owner_id: ferry.user('alice').user_id, value: `value ${i}` }));
  }

  function insert(database, { id, owner_id, value }) {
    return database.execute('insert into counted (id, owner_id, value) values (?, ?, ?)', [id, owner_id, value]);
  }

  async function insertAll(tx, rows) {
    for (const row of rows) await insert(tx, row);
  }

  function stored(rows) {
    const sql = 'select id::text, owner_id::text, value from counted where id = any($1) order by id';
    return ferry.rows(
      sql,
      rows.map((row) => row.id)
    );
  }
});
