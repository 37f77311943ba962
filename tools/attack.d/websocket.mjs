// A WebSocket client by hand: it can also not read, and send what is no message.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';

/** A masked frame (RFC 6455 section 5.2); `length` overrides what its header says. */
export function frame(payload, { opcode = 1, final = true, length = payload.length, masked = true } = {}) {
  const head = [(final ? 0x80 : 0) | opcode];
  const bit = masked ? 0x80 : 0;
  if (length < 126) head.push(bit | length);
  else if (length < 65536) head.push(bit | 126, length >> 8, length & 255);
  else {
    const wide = Buffer.alloc(8);
    wide.writeBigUInt64BE(BigInt(length));
    head.push(bit | 127, ...wide);
  }
  // A mask of zeros is a mask, and costs nothing.
  return Buffer.concat([Buffer.from(head), masked ? Buffer.alloc(4) : Buffer.alloc(0), payload]);
}

export class Channel {
  /** @type {import('node:net').Socket} */
  socket;
  closed = false;
  /** Of the answer to the upgrade. @type {number | undefined} */
  status;
  /** Received since then. */
  bytes = 0;

  /** Opens `url`; resolves with the channel whatever the status, which is in `status`. */
  static open(url, { headers = {}, reads = true } = {}) {
    const { hostname, port, pathname, search } = new URL(url);
    const channel = new Channel();
    return new Promise((resolve, reject) => {
      const socket = channel.socket = connect(Number(port), hostname);
      let head = '';
      const late = setTimeout(() => { socket.destroy(); reject(new Error(`${url} did not answer within 10 s`)); }, 10000);
      socket.on('error', error => { channel.closed = true; clearTimeout(late); reject(error); });
      socket.on('close', () => { channel.closed = true; clearTimeout(late); reject(new Error(`${url} was closed`)); });
      socket.on('connect', () => {
        const own = { Host: `${hostname}:${port}`, Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Key': randomBytes(16).toString('base64'), 'Sec-WebSocket-Version': '13', ...headers };
        socket.write(`GET ${pathname}${search} HTTP/1.1\r\n${Object.entries(own).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`);
      });
      const answer = data => {
        head += data.toString('latin1');
        if (!head.includes('\r\n\r\n')) return;
        clearTimeout(late);
        socket.off('data', answer);
        channel.status = Number(head.split(' ')[1]);
        channel.bytes = 0;
        if (reads) socket.on('data', more => { channel.bytes += more.length; });
        else socket.pause();
        resolve(channel);
      };
      socket.on('data', answer);
    });
  }

  /** Sends one text message; resolves when the kernel took it, or with false after `patience` milliseconds. */
  text(message, options, patience = 5000) { return this.raw(frame(Buffer.from(message), options), patience); }

  raw(bytes, patience = 5000) {
    if (this.closed) return Promise.resolve(false);
    return new Promise(resolve => {
      const late = setTimeout(() => resolve(false), patience);
      this.socket.write(bytes, error => { clearTimeout(late); resolve(!error); });
    });
  }

  close() { this.socket.destroy(); }
}
