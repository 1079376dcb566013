// A client: the real PowerSync SDK over a database file of its own, and the
// connector that an app developer would write for ferry.
import { EventEmitter } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConsoleLogger } from '@powersync/common';
import { PowerSyncDatabase } from '@powersync/node';
import { schema } from './tables.js';

// node:sqlite can load the SDK's extension from Node 24 on; it needs nothing installed.
const nodeMajor = Number(process.versions.node.split('.')[0]);
const implementation = { type: nodeMajor >= 24 ? 'node:sqlite' : 'better-sqlite3' };

const quiet = { log() {} };

/** Opens a client of a user, or of the one with this name; it is closed and removed when the test ends. */
export async function openClient(t, ferry, whose) {
  const folder = await mkdtemp(join(tmpdir(), 'ferry-e2e-client-'));
  const database = new PowerSyncDatabase({
    schema,
    database: { dbFilename: 'app.db', dbLocation: folder, implementation, readWorkerCount: 1 },
    logger: process.env.E2E_LOG ? createConsoleLogger() : quiet
  });
  t.after(async () => {
    await database.close();
    await rm(folder, { recursive: true, force: true });
  });
  await database.init();
  const user = typeof whose === 'string' ? ferry.user(whose) : whose;
  return { database, user, connector: new Connector(ferry, user) };
}

/** What uploadData() throws when ferry did not take a batch. */
export class UploadError extends Error {
  constructor({ status, body }) {
    super(`POST /upload: ${status} ${body?.code ?? ''} ${body?.message ?? ''}`);
    this.status = status;
    this.problem = body;
  }
}

/**
 * The connector: credentials from GET /token, mutations to POST /upload. It
 * emits `drained` when an upload has emptied the queue and, for whoever
 * listens, `error` when one failed.
 */
export class Connector extends EventEmitter {
  /** Every answer to an upload so far. */
  answers = [];

  /** Stands in for the PowerSync Service's address, where a test needs another. */
  endpoint;

  constructor(ferry, user) {
    super();
    this.ferry = ferry;
    this.user = user;
  }

  async fetchCredentials() {
    const { status, body } = await this.ferry.request('GET', '/token', { session: this.user.session });
    if (status !== 200) throw new Error(`GET /token: ${status} ${body.code}`);
    return { endpoint: this.endpoint ?? body.endpoint, token: body.token };
  }

  async uploadData(database) {
    try {
      const batch = await this.take(database);
      if (!batch) return;
      this.answers.push(await this.send(database, batch.crud));
      await batch.complete();
      if ((await queueLength(database)) === 0) this.emit('drained');
    } catch (error) {
      if (this.listenerCount('error') > 0) this.emit('error', error);
      throw error;
    }
  }

  /** Chooses what goes into one upload. */
  take(database) {
    return database.getCrudBatch();
  }

  /** Uploads the entries and returns ferry's answer; anything but a 2xx throws. */
  async send(database, crud) {
    const body = { client_id: await database.getClientId(), user_id: this.user.user_id, crud };
    const answer = await this.ferry.request('POST', '/upload', { session: this.user.session, body });
    if (answer.status < 200 || answer.status > 299) throw new UploadError(answer);
    return answer.body;
  }
}

/** Calls uploadData() until the queue is empty; returns the answers. */
export async function drain({ database, connector }) {
  const before = connector.answers.length;
  while ((await queueLength(database)) > 0) await connector.uploadData(database);
  return connector.answers.slice(before);
}

export async function queueLength(database) {
  return (await database.getUploadQueueStats()).count;
}

/** The whole queue as plain JSON values, in order, without taking anything from it. */
export async function queuedEntries(database) {
  const batch = await database.getCrudBatch(100_000);
  return batch ? JSON.parse(JSON.stringify(batch.crud)) : [];
}
