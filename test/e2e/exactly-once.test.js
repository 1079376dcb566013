import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { drain, openClient, queuedEntries, queueLength } from './support/client.js';
import { Ferry } from './support/ferry.js';
import { emptyService } from './support/service.js';

describe('an operation takes effect once', { timeout: 120_000 }, () => {
  const ferry = new Ferry();
  before(() => ferry.start());
  after(() => ferry.stop());

  it('when the same request is sent twice', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const { row, entries } = await queueChanges(client);

    const first = await client.connector.send(client.database, entries);
    const second = await client.connector.send(client.database, entries);

    const answer = { last_op_id: 3, exactly_once: true, ignored: 0, rejected: [] };
    assert.deepEqual(first, { ...answer, applied: 3, duplicates: 0 });
    assert.deepEqual(second, { ...answer, applied: 0, duplicates: 3 });
    assert.deepEqual(await effects(row), ['INSERT', 'UPDATE', 'UPDATE']);
  });

  it('when the same request is sent several times at once', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const { row, entries } = await queueChanges(client);

    const sent = Array.from({ length: 5 }, () => client.connector.send(client.database, entries));
    const answers = await Promise.all(sent);

    assert.deepEqual(answers.map(({ applied }) => applied).sort(), [0, 0, 0, 0, 3]);
    assert.deepEqual(answers.map(({ duplicates }) => duplicates).sort(), [0, 3, 3, 3, 3]);
    assert.deepEqual(await effects(row), ['INSERT', 'UPDATE', 'UPDATE']);
  });

  it('when the queue comes again, cut into other batches', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const row = randomUUID();
    await insert(client.database, row);
    for (let i = 0; i < 11; i++) await change(client.database, row, `value ${i}`);
    const entries = await queuedEntries(client.database);

    const deliveries = [
      { from: 0, to: 4, applied: 4, duplicates: 0 },
      { from: 0, to: 7, applied: 3, duplicates: 4 },
      { from: 3, to: 5, applied: 0, duplicates: 2 },
      { from: 5, to: 12, applied: 5, duplicates: 2 },
      { from: 0, to: 12, applied: 0, duplicates: 12 },
      { from: 11, to: 12, applied: 0, duplicates: 1 }
    ];
    for (const { from, to, applied, duplicates } of deliveries) {
      assert.deepEqual(
        await client.connector.send(client.database, entries.slice(from, to)),
        { last_op_id: to, exactly_once: true, applied, duplicates, ignored: 0, rejected: [] },
        `operations ${from + 1} to ${to}`
      );
    }

    assert.deepEqual(await effects(row), ['INSERT', ...Array(11).fill('UPDATE')]);
    assert.equal(await value(row), 'value 10');
  });

  it('when a transaction comes again, cut elsewhere', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const row = randomUUID();
    await client.database.writeTransaction(async (tx) => {
      await insert(tx, row);
      for (let i = 0; i < 5; i++) await change(tx, row, `value ${i}`);
    });
    const entries = await queuedEntries(client.database);
    assert.equal(new Set(entries.map((entry) => entry.tx_id)).size, 1);

    const first = await client.connector.send(client.database, entries.slice(0, 4));
    const second = await client.connector.send(client.database, entries);

    assert.deepEqual([first.applied, first.duplicates], [4, 0]);
    assert.deepEqual([second.applied, second.duplicates], [2, 4]);
    assert.deepEqual(await effects(row), ['INSERT', ...Array(5).fill('UPDATE')]);
  });

  it('when a delete comes again after the row was made anew', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const row = randomUUID();
    await insert(client.database, row);
    await client.database.execute('delete from counted where id = ?', [row]);
    const entries = await queuedEntries(client.database);
    await client.connector.send(client.database, entries);
    const other = await openClient(t, ferry, 'alice');
    await insert(other.database, row);
    await drain(other);

    const again = await client.connector.send(client.database, entries);

    assert.deepEqual([again.applied, again.duplicates], [0, 2]);
    assert.deepEqual(await effects(row), ['INSERT', 'DELETE', 'INSERT']);
  });

  it("and a redelivery does not overwrite another client's later change", async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const { row, entries } = await queueChanges(client);
    await client.connector.send(client.database, entries);
    await ferry.rows(`update counted set value = 'from elsewhere' where id = $1`, row);

    const again = await client.connector.send(client.database, entries);

    assert.deepEqual([again.applied, again.duplicates], [0, 3]);
    assert.equal(await value(row), 'from elsewhere');
  });

  it('when the answer is lost and the SDK retries', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const { database, connector } = client;
    connector.endpoint = await emptyService(t);
    const sent = loseFirstAnswer(connector);
    const { row } = await queueChanges(client);

    const drained = new Promise((resolve) => connector.once('drained', resolve));
    await database.connect(connector, { retryDelayMs: 20, crudUploadThrottleMs: 10 });
    await drained;

    assert.deepEqual(
      sent.map(({ crud }) => crud),
      [
        [1, 2, 3],
        [1, 2, 3]
      ]
    );
    assert.deepEqual(
      sent.map(({ answer }) => [answer.applied, answer.duplicates]),
      [
        [3, 0],
        [0, 3]
      ]
    );
    assert.deepEqual(await effects(row), ['INSERT', 'UPDATE', 'UPDATE']);
  });

  it('when the answer is lost and the retry takes later operations with it', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const sent = loseFirstAnswer(client.connector);
    const { row } = await queueChanges(client);
    await assert.rejects(client.connector.uploadData(client.database), /lost/);
    await change(client.database, row, 'later');

    const [answer] = await drain(client);

    assert.deepEqual(
      sent.map(({ crud }) => crud),
      [
        [1, 2, 3],
        [1, 2, 3, 4]
      ]
    );
    assert.deepEqual(answer, {
      last_op_id: 4,
      exactly_once: true,
      applied: 1,
      duplicates: 3,
      ignored: 0,
      rejected: []
    });
    assert.deepEqual(await effects(row), ['INSERT', 'UPDATE', 'UPDATE', 'UPDATE']);
    assert.equal(await value(row), 'later');
  });

  it('also after the client has signed out, where op ids go on rising', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const { row } = await queueChanges(client);
    await drain(client);
    await client.database.disconnectAndClear();
    const other = randomUUID();
    await insert(client.database, other);

    const [answer] = await drain(client);

    assert.deepEqual([answer.applied, answer.duplicates, answer.last_op_id], [1, 0, 4]);
    assert.deepEqual(await effects(row), ['INSERT', 'UPDATE', 'UPDATE']);
    assert.deepEqual(await effects(other), ['INSERT']);
  });

  it('unless it is another operation that reuses an op id', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const { entries } = await queueChanges(client);
    await client.connector.send(client.database, entries);
    const row = randomUUID();

    const reset = [{ op_id: 1, tx_id: 1, op: 'PUT', type: 'counted', id: row, data: { value: 'after a reset' } }];
    const answer = await client.connector.send(client.database, reset);

    assert.deepEqual([answer.applied, answer.duplicates], [1, 0]);
    assert.deepEqual(await effects(row), ['INSERT']);
  });

  it('and without op ids the answer says that nothing is promised', async (t) => {
    const client = await openClient(t, ferry, 'alice');
    const { row, entries } = await queueChanges(client);
    const answer = await client.connector.send(
      client.database,
      entries.map(({ op_id, ...entry }) => entry)
    );

    assert.deepEqual(answer, {
      last_op_id: null,
      exactly_once: false,
      applied: 3,
      duplicates: 0,
      ignored: 0,
      rejected: []
    });
    assert.equal(await value(row), 'second change');
  });

  /** Queues an insert and two updates of one row of counted. */
  async function queueChanges({ database }) {
    const row = randomUUID();
    await insert(database, row);
    await change(database, row, 'first change');
    await change(database, row, 'second change');
    return { row, entries: await queuedEntries(database) };
  }

  function insert(database, row) {
    return database.execute('insert into counted (id, value) values (?, ?)', [row, 'new']);
  }

  function change(database, row, value) {
    return database.execute('update counted set value = ? where id = ?', [value, row]);
  }

  /** Makes a connector fail once after ferry has answered; returns what it sends from now on. */
  function loseFirstAnswer(connector) {
    const sent = [];
    const send = connector.send.bind(connector);
    connector.send = async (database, crud) => {
      const answer = await send(database, crud);
      sent.push({ crud: crud.map((entry) => entry.clientId), answer });
      if (sent.length === 1) throw new Error('the answer was lost');
      return answer;
    };
    return sent;
  }

  async function effects(row) {
    const rows = await ferry.rows('select operation from effects where row_id = $1 order by effect', row);
    return rows.map(({ operation }) => operation);
  }

  async function value(row) {
    return (await ferry.rows('select value from counted where id = $1', row))[0].value;
  }
});
