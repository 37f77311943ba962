// A scripted account of the private Prosody: logs in over plain TCP, enters rooms, answers requests. For recorders and gateways.
import { connect } from 'node:net';
import { once } from 'node:events';
import { until } from './process.mjs';

export const escaped = text => text.replace(/[&<>'"]/g, c => `&#${c.charCodeAt(0)};`);

/** An attribute of the first tag in a text. */
export const attribute = (xml, name) => {
  const found = new RegExp(`^<[^>]*?\\s${name}=(?:'([^']*)'|"([^"]*)")`).exec(xml);
  const text = found?.[1] ?? found?.[2];
  return text?.replace(/&(?:#(\d+)|amp|lt|gt|quot|apos);/g, (entity, code) =>
    code ? String.fromCharCode(Number(code)) : { '&amp;': '&', '&lt;': '<', '&gt;': '>', '&quot;': '"', '&apos;': "'" }[entity]);
};

/** Cuts whole stanzas off the beginning of a stream's text: [stanzas, rest]. Prosody writes no comments and no CDATA. */
export function stanzas(text) {
  const found = [];
  let depth = 0, start = 0, rest = 0;
  for (const tag of text.matchAll(/<(\/?)([^\s/>?]+)(?:'[^']*'|"[^"]*"|[^'">])*?(\/?)>/g)) {
    const [whole, closing, name, empty] = tag;
    if (name === 'stream:stream' || whole.startsWith('<?')) {
      rest = tag.index + whole.length;
      continue;
    }
    if (depth === 0) start = tag.index;
    if (closing) depth--;
    else if (!empty) depth++;
    if (depth === 0) {
      rest = tag.index + whole.length;
      found.push(text.slice(start, rest));
    }
  }
  return [found, text.slice(rest)];
}

export class XmppAccount {
  /** Everything that came, as text, in order. @type {string[]} */
  received = [];
  #text = '';
  #ids = 0;

  constructor({ port, user, password, domain = 'auth.meet.test' }) {
    this.port = port;
    this.user = user;
    this.password = password;
    this.domain = domain;
  }

  /** Answers to requests; see start. @type {(xml: string) => string | undefined} */
  onRequest = () => '';
  /** @type {import('node:net').Socket | undefined} */
  socket;

  /** Writes to the server. */
  send(xml) { this.socket?.write(xml); }

  /** Logs in. `onRequest(xml)` gets requests, and returns what is inside the result, or nothing for no answer. */
  async start(onRequest = this.onRequest) {
    this.onRequest = onRequest;
    const socket = this.socket = connect(this.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.setEncoding('utf8').on('data', text => this.#take(text)).on('error', () => {});
    const open = `<?xml version='1.0'?><stream:stream to='${this.domain}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`;
    this.send(open);
    await this.came(/<mechanisms/);
    const secret = Buffer.from(`\0${this.user}\0${this.password}`).toString('base64');
    this.send(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${secret}</auth>`);
    await this.came(/<success/);
    this.#text = '';
    this.send(open);
    await this.came(/<bind/);
    await this.ask('', `<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>`);
  }

  #take(text) {
    const [whole, rest] = stanzas(this.#text + text);
    this.#text = rest;
    for (const xml of whole) {
      this.received.push(xml);
      const type = attribute(xml, 'type');
      if (!xml.startsWith('<iq') || !['set', 'get'].includes(type ?? '')) continue;
      const inside = this.onRequest(xml);
      if (inside === undefined) continue;
      this.send(`<iq type='result' id='${escaped(attribute(xml, 'id') ?? '')}' to='${escaped(attribute(xml, 'from') ?? '')}'>${inside}</iq>`);
    }
  }

  /** Waits for something that matches. */
  async came(pattern, timeout = 10000) {
    await until(`${this.user} receives ${pattern}`, timeout, async () => this.received.some(xml => pattern.test(xml)), 20);
    return this.received.find(xml => pattern.test(xml));
  }

  /** A request of type `set`; the answer. */
  async ask(to, inside) {
    const id = `ask-${++this.#ids}`;
    this.send(`<iq type='set' id='${id}'${to ? ` to='${escaped(to)}'` : ''}>${inside}</iq>`);
    return this.came(new RegExp(`^<iq[^>]*\\sid=['"]${id}['"]`));
  }

  /** Enters a room, or says something new there. */
  async enter(room, nick, inside) {
    this.send(`<presence to='${room}/${nick}'>${inside}<x xmlns='http://jabber.org/protocol/muc'/></presence>`);
    await this.came(new RegExp(`^<presence[^>]*from=['"]${room}/${nick}['"]`));
  }

  stop() { this.socket?.destroy(); }
}
