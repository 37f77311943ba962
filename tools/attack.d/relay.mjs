// A TCP relay on loopback that can be made slow, silent, or cut.
import { connect, createServer } from 'node:net';
import { freePort } from '../lib/ports.mjs';

/** How often a slow relay hands something on, milliseconds. */
const tick = 50;

export class Relay {
  constructor() {
    this.pairs = new Set();
    /** Bytes a second in each direction; undefined is as fast as it goes, 0 is nothing. */
    this.rate = undefined;
    this.refuses = false;
  }

  /** Leads to `target`; returns its own port. */
  async listen(target) {
    const server = this.server = createServer(client => {
      if (this.refuses) { client.destroy(); return; }
      const upstream = connect(target, '127.0.0.1');
      const pair = [client, upstream];
      this.pairs.add(pair);
      const end = () => { this.pairs.delete(pair); client.destroy(); upstream.destroy(); };
      for (const [from, to] of [[client, upstream], [upstream, client]]) {
        const queue = [];
        from.on('data', data => {
          if (this.rate === undefined && !queue.length) to.write(data);
          else queue.push(data);
          if (queue.length) from.pause();
        });
        const timer = setInterval(() => {
          let room = this.rate === undefined ? Infinity : this.rate * tick / 1000;
          while (queue.length && room > 0) {
            const part = queue[0].subarray(0, Math.min(room, queue[0].length));
            room -= part.length;
            to.write(part);
            if (part.length === queue[0].length) queue.shift();
            else queue[0] = queue[0].subarray(part.length);
          }
          if (!queue.length && from.isPaused()) from.resume();
        }, tick);
        from.on('close', () => { clearInterval(timer); end(); });
        from.on('error', end);
      }
    });
    const port = await freePort(0);
    await new Promise(resolve => server.listen(port, '127.0.0.1', () => resolve(undefined)));
    return port;
  }

  /** Breaks all connections, and refuses new ones for as long as `refuses` says. */
  cut() { for (const [client, server] of [...this.pairs]) { client.destroy(); server.destroy(); } }

  close() { this.cut(); this.server?.close(); }
}
