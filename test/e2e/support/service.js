// Stand-ins for the PowerSync Service, as far as the SDK's upload loop cares.
import { once } from 'node:events';
import { createServer } from 'node:http';

/** An address on this machine that refuses connections. */
export async function unreachableService() {
  const server = createServer();
  const url = await listen(server);
  server.close();
  await once(server, 'close');
  return url;
}

/**
 * A service that lets every client connect and then has nothing to sync. The
 * SDK repeats a failed upload by itself only while it is connected.
 */
export async function emptyService(t) {
  const server = createServer((request, response) => {
    if (request.url.startsWith('/sync/stream')) {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.write('{"token_expires_in":3600}\n');
    } else {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end('{"data":{"write_checkpoint":"1"}}');
    }
  });
  t.after(async () => {
    server.close();
    server.closeAllConnections();
  });
  return listen(server);
}

async function listen(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${server.address().port}`;
}
