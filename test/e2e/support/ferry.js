// A ferry of the test's own: `ferry dev` with a private Postgres.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { createTestTables } from './tables.js';

const binary = process.env.E2E_FERRY ?? fileURLToPath(new URL('../.bin/ferry', import.meta.url));
const startMilliseconds = 60_000;
const stopMilliseconds = 20_000;

/**
 * One running ferry. After start() it has what ferry's line of JSON tells
 * (url, powersync_url, audience, kid, secret, users), and `db`, a pool of
 * superuser connections to its Postgres.
 */
export class Ferry {
  #environment;
  #process;
  #home;
  #log = [];
  /** Every secret that the tests used so far: ferry logs none of them. */
  #secrets = new Set();

  /** `environment` has settings beside those of `ferry dev`. */
  constructor(environment = {}) {
    this.#environment = environment;
  }

  async start() {
    // Postgres does not run as root; whoever it runs as must get to its files.
    this.#home = await mkdtemp(join(tmpdir(), 'ferry-e2e-'));
    await chmod(this.#home, 0o755);
    const args = ['dev', '--dir', join(this.#home, 'dev'), '--listen', '127.0.0.1:0', '--json'];
    this.#process = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'], env: this.#variables() });
    stopWithThisProcess(this.#process);
    this.#keepLog();
    Object.assign(this, JSON.parse(await this.#firstLine()));
    this.#uses(this.secret, new URL(this.database_url).password, ...this.users.map((user) => user.session));
    this.db = new pg.Pool({ connectionString: this.database_url, max: 2 });
    this.db.on('error', () => {}); // of an idle connection: the next query tells
    await createTestTables(this.db);
  }

  /** Stops ferry and its Postgres; fails unless both went in good order, and if ferry logged a secret. */
  async stop() {
    await this.db?.end();
    try {
      await this.#terminate();
    } finally {
      await rm(this.#home, { recursive: true, force: true });
    }
    for (const secret of this.#secrets) {
      const line = this.#log.find((line) => line.includes(secret));
      if (line) throw new Error(`ferry logged a secret: ${line}`);
    }
  }

  #uses(...secrets) {
    for (const secret of secrets) if (secret?.length >= 8) this.#secrets.add(secret); // shorter text stands there by chance
  }

  /** Runs another command of ferry's with the same settings, and returns what it prints. */
  command(...args) {
    return execFileSync(binary, args, { env: this.#variables(), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  }

  #variables() {
    const database = this.database_url && { DATABASE_URL: this.database_url };
    return { ...unconfigured(process.env), ...database, ...this.#environment };
  }

  user(name) {
    const user = this.users.find((user) => user.name === name);
    if (!user) throw new Error(`ferry dev has no user ${name}`);
    return user;
  }

  /** Sends a request to ferry; `body` goes as JSON unless it is text already. */
  async request(method, path, { session, body } = {}) {
    const headers = {};
    if (session) headers.authorization = `Bearer ${session}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    const response = await fetch(this.url + path, {
      method,
      headers,
      body: typeof body === 'object' ? JSON.stringify(body) : body,
      signal: AbortSignal.timeout(30_000)
    });
    const text = await response.text();
    const json = /\bjson\b/.test(response.headers.get('content-type') ?? '');
    const answer = json ? JSON.parse(text) : text;
    this.#uses(session, body?.password, answer?.token, answer?.session_token);
    return { status: response.status, headers: response.headers, body: answer };
  }

  /** Rows of a query to ferry's Postgres, as its superuser. */
  async rows(sql, ...parameters) {
    return (await this.db.query(sql, parameters)).rows;
  }

  /** What ferry says once it takes requests. */
  #firstLine() {
    return new Promise((resolve, reject) => {
      const fail = (how) => reject(new Error(`ferry dev ${how}\n${this.#endOfLog()}`));
      setTimeout(fail, startMilliseconds, `was not ready after ${startMilliseconds / 1000} s`).unref();
      createInterface({ input: this.#process.stdout }).once('line', resolve);
      this.#process.once('error', (error) => fail(`did not start: ${error.message}`));
      this.#process.once('close', (code, signal) => fail(`ended with ${code ?? signal} before it was ready`));
    });
  }

  async #terminate() {
    const child = this.#process;
    if (child.exitCode === null && child.signalCode === null) {
      const closed = once(child, 'close');
      const overdue = setTimeout(() => child.kill('SIGKILL'), stopMilliseconds);
      child.kill('SIGTERM');
      await closed;
      clearTimeout(overdue);
    }
    if (child.exitCode !== 0) {
      throw new Error(`ferry dev ended with ${child.exitCode ?? child.signalCode}\n${this.#endOfLog()}`);
    }
  }

  #endOfLog() {
    return this.#log.slice(-40).join('\n');
  }

  /** Keeps ferry's log, to look for secrets and for error messages; E2E_LOG=1 shows it. */
  #keepLog() {
    createInterface({ input: this.#process.stderr }).on('line', (line) => {
      if (process.env.E2E_LOG) console.error(line);
      this.#log.push(line);
    });
  }
}

/** An environment without the settings that the caller may have for a ferry of theirs. */
function unconfigured(environment) {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('FERRY_')));
}

/** Makes sure that a child does not outlive a test process that is stopped or fails. */
function stopWithThisProcess(child) {
  const stop = () => child.kill('SIGTERM');
  const interrupted = () => process.exit(1);
  process.once('exit', stop);
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  child.once('exit', () => {
    process.off('exit', stop);
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', interrupted);
  });
}
