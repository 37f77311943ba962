// Free ports: the usual number when it is free, else one below those that the kernel gives to connections, since it could give it away
// before it is used.
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';

function tcp(port) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const bound = /** @type {import('node:net').AddressInfo} */ (server.address()).port;
      server.close(() => resolve(bound));
    });
  });
}

function udp(port) {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    socket.once('error', reject);
    socket.bind(port, '0.0.0.0', () => {
      const bound = socket.address().port;
      socket.close(() => resolve(bound));
    });
  });
}

const taken = new Set();

/** A free port on loopback, `preferred` if possible, never the same twice. */
export async function freePort(preferred, kind = 'tcp') {
  const probe = kind === 'udp' ? udp : tcp;
  const others = Array.from({ length: 20 }, () => 12_000 + Math.floor(Math.random() * 20_000));
  for (const candidate of [preferred, ...others]) {
    if (!candidate || taken.has(candidate)) continue;
    const port = await probe(candidate).catch(() => undefined);
    if (port) {
      taken.add(port);
      return port;
    }
  }
  throw new Error(`no free ${kind} port on loopback (wanted ${preferred})`);
}
