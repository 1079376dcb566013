import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { Connector, drain, openClient, queueLength } from './support/client.js';
import { Ferry } from './support/ferry.js';

describe('a queue is uploaded as the user who filled it', { timeout: 120_000 }, () => {
  const ferry = new Ferry();
  before(() => ferry.start());
  after(() => ferry.stop());

  it("what bob queued is not taken under alice's session, and waits for him", async (t) => {
    const client = await openClient(t, ferry, 'bob');
    const list = await queueList(client);
    const session = client.user.session;

    client.connector.user = { ...client.user, session: ferry.user('alice').session };
    await assert.rejects(client.connector.uploadData(client.database), isProblem(409, 'wrong_user'));
    assert.equal(await queueLength(client.database), 1);
    assert.deepEqual(await owners(list), []);

    client.connector.user = { ...client.user, session };
    const [answer] = await drain(client);
    assert.deepEqual([answer.applied, answer.duplicates, answer.rejected], [1, 0, []]);
    assert.deepEqual(await owners(list), [client.user.user_id]);
  });

  const noSessions = {
    'no session': () => undefined,
    'a session that is not valid': () => 'nonsense'
  };
  for (const [name, session] of Object.entries(noSessions)) {
    it(`${name}: the queue waits until the user signs in again`, async (t) => {
      const client = await openClient(t, ferry, 'alice');
      const list = await queueList(client);

      const signedOut = new Connector(ferry, { ...client.user, session: session() });
      await assert.rejects(signedOut.uploadData(client.database), isProblem(401, 'invalid_session'));
      assert.equal(await queueLength(client.database), 1);
      assert.deepEqual(await owners(list), []);

      await drain(client);
      assert.deepEqual(await owners(list), [client.user.user_id]);
    });
  }

  it("two users' clients do not disturb each other", async (t) => {
    const clients = await Promise.all(ferry.users.map(({ name }) => openClient(t, ferry, name)));
    const lists = await Promise.all(clients.map(queueList));

    await Promise.all(clients.map(drain));

    const found = await Promise.all(lists.map(owners));
    assert.deepEqual(
      found,
      clients.map(({ user }) => [user.user_id])
    );
  });

  async function queueList({ database }) {
    const id = randomUUID();
    await database.execute('insert into lists (id, name) values (?, ?)', [id, 'queued']);
    return id;
  }

  async function owners(list) {
    return (await ferry.rows('select owner_id::text from lists where id = $1', list)).map((row) => row.owner_id);
  }

  function isProblem(status, code) {
    return ({ status: actual, problem }) => {
      assert.deepEqual([actual, problem?.status, problem?.code], [status, status, code]);
      assert.ok(problem.message);
      return true;
    };
  }
});
