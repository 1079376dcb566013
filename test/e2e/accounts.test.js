import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { decodeJwt } from 'jose';
import { drain, openClient, queueLength } from './support/client.js';
import { Ferry } from './support/ferry.js';
import { emptyService } from './support/service.js';

describe("ferry's own accounts", { timeout: 120_000 }, () => {
  const ferry = new Ferry({ FERRY_ACCOUNTS: 'true', FERRY_ACCOUNTS_GUESTS: 'true' });
  before(() => ferry.start());
  after(() => ferry.stop());

  it('who signs up uploads and fetches tokens at once, and again after a sign-in', async (t) => {
    const account = await signUp();
    const client = await openClient(t, ferry, userOf(account));
    const first = await queueList(client.database);
    await drain(client);
    assert.deepEqual(await owners(first), [account.user_id]);

    const { token } = await client.connector.fetchCredentials();
    assert.equal(decodeJwt(token).sub, account.user_id);

    const { status, body } = await auth('sign-in', { email: account.email, password });
    assert.equal(status, 200);
    assert.equal(body.user_id, account.user_id);
    client.connector.user = userOf(body);
    const second = await queueList(client.database);
    await drain(client);
    assert.deepEqual(await owners(second), [account.user_id]);
  });

  it('who is disabled is told so and keeps the queue, which goes on by itself once enabled', async (t) => {
    const account = await signUp();
    const client = await openClient(t, ferry, userOf(account));
    const { database, connector } = client;
    connector.endpoint = await emptyService(t);
    await database.connect(connector, { retryDelayMs: 50, crudUploadThrottleMs: 10 });
    const uploaded = await drained(connector, () => queueList(database));
    assert.deepEqual(await owners(uploaded), [account.user_id]);

    ferry.command('users', 'disable', account.email, '--reason', 'spam');
    await withinASecond(() => isProblem(403, 'user_disabled', ferry.request('GET', '/token', account)));
    const refused = new Promise((resolve) => connector.once('error', resolve));
    const kept = await queueList(database);
    const { status, problem } = await refused;
    assert.deepEqual([status, problem.code], [403, 'user_disabled']);
    assert.ok(problem.message);
    assert.equal(await queueLength(database), 1);
    assert.deepEqual(await owners(kept), []);
    const signIn = await auth('sign-in', { email: account.email, password });
    assert.deepEqual([signIn.status, signIn.body.code], [403, 'user_disabled']);

    // Nobody tells the client: its own retries find out.
    await drained(connector, () => ferry.command('users', 'enable', account.email));
    assert.deepEqual(await owners(kept), [account.user_id]);
    const [{ applied, duplicates, rejected }] = connector.answers.slice(-1);
    assert.deepEqual([applied, duplicates, rejected], [1, 0, []]);
  });

  it('who is signed out keeps the queue until the next sign-in', async (t) => {
    const account = await signUp();
    const client = await openClient(t, ferry, userOf(account));
    const list = await queueList(client.database);

    ferry.command('users', 'revoke', account.user_id);
    await withinASecond(() => isProblem(401, 'invalid_session', ferry.request('GET', '/token', account)));
    await assert.rejects(client.connector.uploadData(client.database), { status: 401 });
    assert.equal(await queueLength(client.database), 1);

    const { body } = await auth('sign-in', { email: account.email, password });
    client.connector.user = userOf(body);
    await drain(client);
    assert.deepEqual(await owners(list), [account.user_id]);
  });

  it('a guest becomes an account and keeps its user id, its rows and its queue', async (t) => {
    const { body: guest } = await auth('guest');
    const client = await openClient(t, ferry, userOf(guest));
    const uploaded = await queueList(client.database);
    await drain(client);
    const queued = await queueList(client.database);

    const email = `${randomUUID()}@example.com`;
    const { status, body: account } = await auth('sign-up', { email, password }, guest.session_token);
    assert.equal(status, 201);
    assert.equal(account.user_id, guest.user_id);

    await assert.rejects(client.connector.uploadData(client.database), { status: 401 });
    await assert.rejects(client.connector.fetchCredentials(), /401 invalid_session/);
    assert.equal(await queueLength(client.database), 1);

    client.connector.user = userOf(account);
    await drain(client);
    assert.deepEqual(await owners(uploaded), [guest.user_id]);
    assert.deepEqual(await owners(queued), [guest.user_id]);
    const { body: session } = await ferry.request('GET', '/auth/session', { session: account.session_token });
    assert.deepEqual([session.user_id, session.email, session.guest], [guest.user_id, email, false]);
  });

  const password = 'correct horse battery';

  function auth(what, body, session) {
    return ferry.request('POST', `/auth/${what}`, { body, session });
  }

  /** A new account, with its session as `session` as well. */
  async function signUp() {
    const email = `${randomUUID()}@example.com`;
    const { status, body } = await auth('sign-up', { email, password });
    assert.equal(status, 201);
    return { ...body, email, session: body.session_token };
  }

  function userOf({ user_id, session_token }) {
    return { user_id, session: session_token };
  }

  async function queueList(database) {
    const id = randomUUID();
    await database.execute('insert into lists (id, name) values (?, ?)', [id, 'queued']);
    return id;
  }

  async function owners(list) {
    return (await ferry.rows('select owner_id::text from lists where id = $1', list)).map((row) => row.owner_id);
  }

  /** Does something, waits until an upload has emptied the queue, and returns what it gave. */
  async function drained(connector, action) {
    const emptied = new Promise((resolve) => connector.once('drained', resolve));
    const result = await action();
    await emptied;
    return result;
  }

  async function isProblem(status, code, request) {
    const { status: actual, body } = await request;
    return actual === status && body.code === code;
  }

  /** Asks again and again; what an operator does holds within a second. */
  async function withinASecond(holds) {
    const started = Date.now();
    for (;;) {
      const asked = Date.now();
      if (await holds()) return;
      assert.ok(asked - started <= 1000, 'it does not hold after a second');
      await delay(20); // or the user has too many tokens
    }
  }
});
