import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, importJWK, jwtVerify } from 'jose';
import { Ferry } from './support/ferry.js';

describe('sync tokens', { timeout: 120_000 }, () => {
  const ferry = new Ferry();
  before(() => ferry.start());
  after(() => ferry.stop());

  const alice = () => ferry.user('alice');

  /** Verifies a token as the PowerSync Service does; see its table of accepted and refused tokens. */
  async function verify(token) {
    const jwk = { kty: 'oct', alg: 'HS256', kid: ferry.kid, k: ferry.secret };
    const { payload, protectedHeader } = await jwtVerify(token, await importJWK(jwk), {
      algorithms: [jwk.alg],
      audience: ferry.audience,
      requiredClaims: ['sub', 'iat', 'exp', 'aud'],
      clockTolerance: 60
    });
    assert.equal(protectedHeader.kid, jwk.kid);
    assert.ok(payload.exp - payload.iat <= 86_400, 'the service refuses tokens that live over a day');
    if ('parameters' in payload) assert.equal(typeof payload.parameters, 'object');
    return { payload, protectedHeader };
  }

  for (const method of ['GET', 'POST']) {
    it(`${method} /token answers a signed-in user with a token that the service accepts`, async () => {
      const asked = Math.floor(Date.now() / 1000);
      const { status, headers, body } = await ferry.request(method, '/token', { session: alice().session });

      assert.equal(status, 200);
      assert.equal(headers.get('cache-control'), 'no-store');
      assert.deepEqual(Object.keys(body).sort(), ['endpoint', 'expires_at', 'token', 'user_id']);
      assert.equal(body.endpoint, ferry.powersync_url);
      assert.doesNotMatch(body.endpoint, /\/$/);
      assert.equal(body.user_id, alice().user_id);

      const { payload, protectedHeader } = await verify(body.token);
      assert.deepEqual(protectedHeader, { alg: 'HS256', kid: ferry.kid, typ: 'JWT' });
      assert.equal(payload.sub, alice().user_id);
      assert.equal(payload.exp - payload.iat, 3600);
      assert.ok(Math.abs(payload.iat - asked) <= 5, `iat ${payload.iat} is not now, ${asked}`);
      assert.equal(Date.parse(body.expires_at), payload.exp * 1000);
    });
  }

  it("a token is its caller's own", async () => {
    for (const user of ferry.users) {
      const { body } = await ferry.request('GET', '/token', { session: user.session });
      assert.equal((await verify(body.token)).payload.sub, user.user_id);
    }
  });

  it('/token works with a trailing slash', async () => {
    const { status } = await ferry.request('GET', '/token/', { session: alice().session });
    assert.equal(status, 200);
  });

  it('the key is one that HS256 allows', () => {
    assert.ok(Buffer.from(ferry.secret, 'base64url').length >= 32);
  });

  it('the symmetric key is not published', async () => {
    const { status, body } = await ferry.request('GET', '/.well-known/jwks.json');
    assert.equal(status, 200);
    assert.ok(Array.isArray(body.keys));
    assert.deepEqual(
      body.keys.filter((key) => key.kty === 'oct' || 'k' in key || 'd' in key || key.kid === ferry.kid),
      []
    );
    assert.ok(!JSON.stringify(body).includes(ferry.secret.replace(/=+$/, '')));
  });

  describe('a caller without a session is refused with a problem', () => {
    const flipped = (session) => {
      const [header, payload, signature] = session.split('.');
      return [header, payload, (signature[0] === 'A' ? 'B' : 'A') + signature.slice(1)].join('.');
    };
    const unsigned = (session) => {
      const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
      return `${part({ ...decodeProtectedHeader(session), alg: 'none' })}.${part(decodeJwt(session))}.`;
    };
    const sessions = {
      'no session': () => undefined,
      'text that is no session': () => 'nonsense',
      'a forged signature': () => flipped(alice().session),
      'alg none': () => unsigned(alice().session)
    };
    for (const [name, session] of Object.entries(sessions)) {
      it(name, async () => assertRefused(await ferry.request('GET', '/token', { session: session() })));
    }

    it('a sync token, which is for the PowerSync Service alone', async () => {
      const { body } = await ferry.request('GET', '/token', { session: alice().session });
      assertRefused(await ferry.request('GET', '/token', { session: body.token }));
    });
  });

  function assertRefused({ status, headers, body }) {
    assert.equal(status, 401);
    assert.match(headers.get('content-type'), /^application\/problem\+json\b/);
    assert.equal(body.status, 401);
    assert.equal(body.code, 'invalid_session');
    for (const member of ['type', 'title', 'detail', 'message']) assert.ok(body[member], `${member} is empty`);
    assert.equal(body.message, body.detail);
    assert.equal('token' in body, false);
  }
});

describe('several token keys', { timeout: 120_000 }, () => {
  let ferry, home;
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'ferry-e2e-keys-'));
    ferry = new Ferry({ FERRY_TOKEN_KEYS_FILE: join(home, 'keys.json') });
    ferry.command('keys', 'add', '--kid', 'HS256', '--alg', 'HS256');
    for (const alg of ['EdDSA', 'ES256', 'RS256']) ferry.command('keys', 'add', '--kid', alg, '--alg', alg);
    await ferry.start();
  });
  after(async () => {
    await ferry?.stop();
    await rm(home, { recursive: true, force: true });
  });

  // The PowerSync Service fetches keys and verifies tokens with the same library.
  for (const alg of ['EdDSA', 'ES256', 'RS256']) {
    it(`${alg} tokens verify with the published keys, as soon as the key is activated`, async () => {
      ferry.command('keys', 'activate', alg, '--force');
      const published = createRemoteJWKSet(new URL(`${ferry.url}/.well-known/jwks.json`));
      const { protectedHeader, payload } = await jwtVerify(await tokenOf(alg), published, { audience: ferry.audience });
      assert.deepEqual(protectedHeader, { alg, kid: alg, typ: 'JWT' });
      assert.equal(payload.sub, ferry.user('alice').user_id);
    });
  }

  /** The first token that is signed with a key, which ferry takes within a second or so. */
  async function tokenOf(kid) {
    for (;;) {
      const { status, body } = await ferry.request('GET', '/token', { session: ferry.user('alice').session });
      assert.equal(status, 200);
      if (decodeProtectedHeader(body.token).kid === kid) return body.token;
      await delay(50);
    }
  }

  it('the published keys have nothing but their public halves', async () => {
    const { body } = await ferry.request('GET', '/api/auth/keys');
    const members = Object.fromEntries(body.keys.map((key) => [key.kid, Object.keys(key).sort().join()]));
    assert.deepEqual(members, { EdDSA: 'alg,crv,kid,kty,x', ES256: 'alg,crv,kid,kty,x,y', RS256: 'alg,e,kid,kty,n' });
  });
});
