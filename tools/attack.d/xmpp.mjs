// A guest by hand: plain TCP to Prosody, anonymous SASL, and any bytes after it.
import { connect } from 'node:net';
import { sleep } from '../lib/process.mjs';

const entities = { lt: '<', gt: '>', amp: '&', apos: "'", quot: '"' };
const unescape_ = text => text.replace(/&(lt|gt|amp|apos|quot);/g, (_, name) => entities[name]);
export const escape = text => text.replace(/[<&'"]/g, c => `&#${c.charCodeAt(0)};`);

/** One element: name, attributes, children, text. */
export class Element {
  constructor(name, attributes) {
    this.name = name;
    this.attributes = attributes;
    this.children = [];
    this.text = '';
  }
  child(name, xmlns) { return this.children.find(one => one.name === name && (!xmlns || one.attributes.xmlns === xmlns)); }
  all(name) { return this.children.filter(one => one.name === name); }
  /** The first element of that name at any depth. */
  find(name) {
    for (const one of this.children) {
      const found = one.name === name ? one : one.find(name);
      if (found) return found;
    }
    return undefined;
  }
}

/** Cuts a stream into the elements below its root; enough of XML for what Prosody sends. */
export class Reader {
  constructor() { this.rest = ''; this.stack = []; this.open = false; }

  /** Takes text, returns the stanzas that it completes; an end of the stream is the string 'end'. */
  push(text) {
    this.rest += text;
    const out = [];
    for (;;) {
      const start = this.rest.indexOf('<');
      if (start < 0) break;
      const top = this.stack.at(-1);
      if (start > 0 && top) top.text += unescape_(this.rest.slice(0, start));
      this.rest = this.rest.slice(start);
      // A '>' may stand in a quoted value.
      const match = /^<(?:"[^"]*"|'[^']*'|[^'">])*>/.exec(this.rest);
      if (!match) break;
      this.rest = this.rest.slice(match[0].length);
      const tag = match[0];
      if (tag.startsWith('<?') || tag.startsWith('<!')) continue;
      if (tag.startsWith('</')) {
        const done = this.stack.pop();
        if (!done) { out.push('end'); this.open = false; } else if (!this.stack.length) out.push(done);
        continue;
      }
      const [, name, attributes, closed] = /** @type {RegExpExecArray} */ (/^<([^\s/>]+)([\s\S]*?)(\/?)>$/.exec(tag));
      const values = {};
      for (const [, key, a, b] of attributes.matchAll(/([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g)) values[key] = unescape_(a ?? b);
      const element = new Element(name, values);
      if (name === 'stream:stream') { this.open = true; this.stack = []; continue; }
      this.stack.at(-1)?.children.push(element);
      if (!closed) this.stack.push(element);
      else if (!this.stack.length) out.push(element);
    }
    return out;
  }
}

let next = 0;
/** An id for a stanza that nobody has had. */
export const newId = () => `a${process.pid}-${++next}`;

const header = domain => `<?xml version='1.0'?><stream:stream to='${domain}' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>`;

export class Guest {
  /** After `login`. @type {import('node:net').Socket} */
  socket;

  constructor(rig) {
    this.rig = rig;
    this.reader = new Reader();
    this.listeners = new Set();
    this.received = [];
    this.handlers = [];
  }

  /** Logs in as anybody can; `join` waits for a full JID. */
  async login() {
    this.socket = connect(this.rig.stack.prosody.clientPort, '127.0.0.1');
    this.socket.setEncoding('utf8');
    this.socket.on('error', () => { this.closed = true; });
    this.socket.on('close', () => { this.closed = true; for (const one of this.listeners) one(undefined); });
    this.socket.on('data', text => {
      for (const stanza of this.reader.push(text)) {
        this.received.push(stanza);
        if (this.received.length > 500) this.received.shift();
        for (const one of [...this.listeners]) one(stanza);
        if (stanza !== 'end') for (const handle of this.handlers) handle(stanza);
      }
    });
    this.send(header('meet.test'));
    await this.wait('features', stanza => stanza.name === 'stream:features');
    this.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>");
    await this.wait('success', stanza => stanza.name === 'success');
    this.reader = new Reader();
    this.send(header('meet.test'));
    await this.wait('features again', stanza => stanza.name === 'stream:features');
    const bound = await this.iq("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>", { type: 'set', to: undefined });
    this.jid = bound.find('jid').text;
    return this;
  }

  /** Sends bytes; false when the stream has ended. */
  send(text) {
    if (this.closed) return false;
    this.socket.write(text);
    return true;
  }

  /** Sends a large text and waits until the kernel has taken it, or the stream ended. */
  async sendAll(text) {
    if (this.closed) return false;
    const taken = new Promise(resolve => this.socket.write(text, () => resolve(true)));
    return Promise.race([taken, sleep(5000).then(() => false)]);
  }

  /** The first stanza from now on for which `choose` is true. */
  wait(what, choose, timeout = 10000) {
    return new Promise((resolve, reject) => {
      const done = () => { clearTimeout(late); this.listeners.delete(listen); };
      const listen = stanza => {
        if (stanza === undefined || stanza === 'end') { done(); reject(new Error(`${what}: the stream ended`)); } else if (choose(stanza)) { done(); resolve(stanza); }
      };
      const late = setTimeout(() => { done(); reject(new Error(`${what}: not within ${timeout / 1000} s`)); }, timeout);
      this.listeners.add(listen);
    });
  }

  /**
   * An IQ and its answer, whatever it is.
   * @param {string} payload
   * @param {{ type?: string, to?: string, timeout?: number }} [options]
   */
  iq(payload, { type = 'get', to, timeout } = {}) {
    const id = newId();
    const answer = this.wait(`answer to ${id}`, stanza => stanza.name === 'iq' && stanza.attributes.id === id && ['result', 'error'].includes(stanza.attributes.type), timeout);
    this.send(`<iq type='${type}' id='${id}'${to ? ` to='${escape(to)}'` : ''}>${payload}</iq>`);
    return answer;
  }

  /** Asks the focus for a conference. */
  conference(room, more = '') {
    return this.iq(`<conference xmlns='http://jitsi.org/protocol/focus' room='${escape(room)}' machine-uid='${newId()}'>${more}</conference>`,
      { type: 'set', to: this.rig.focusJid, timeout: 30000 });
  }

  close() { this.socket?.destroy(); }
}

const features = ['urn:xmpp:jingle:1', 'urn:xmpp:jingle:apps:rtp:1', 'urn:xmpp:jingle:transports:ice-udp:1', 'urn:xmpp:jingle:apps:dtls:0',
  'urn:xmpp:jingle:apps:rtp:audio', 'urn:xmpp:jingle:apps:rtp:video', 'urn:ietf:rfc:4588', 'http://jitsi.org/tcc',
  'http://jitsi.org/json-encoded-sources', 'http://jitsi.org/source-name', 'http://jitsi.org/receive-multiple-video-streams'];

/** Somebody in a room, who answers as a client does unless ordered otherwise. */
export class Intruder extends Guest {
  constructor(rig, room, { nick = Math.random().toString(16).slice(2, 10).padEnd(8, '0'), features: own = features } = {}) {
    super(rig);
    this.room = `${room}@conference.meet.test`;
    this.nick = nick;
    this.features = own;
    this.focus = `${this.room}/focus`;
    this.handlers.push(stanza => this.answer(stanza));
  }

  /** Into the room, and the focus's offer. */
  async join() {
    await this.login();
    const answer = await this.conference(this.room);
    if (answer.attributes.type !== 'result') throw new Error(`the focus refused the conference: ${answer.find('text')?.text}`);
    const offer = this.wait('an offer', stanza => stanza.child('jingle')?.attributes.action === 'session-initiate', 20000);
    // Whoever waits for it hears of a failure; nobody else does.
    offer.catch(() => {});
    this.send(`<presence to='${this.room}/${this.nick}'><x xmlns='http://jabber.org/protocol/muc'/><stats-id>x</stats-id>`
      + `<SourceInfo>{"${this.nick}-a0":{"muted":false},"${this.nick}-v0":{"muted":false}}</SourceInfo></presence>`);
    this.offer = offer;
    return this;
  }

  answer(stanza) {
    const { type, id, from } = stanza.attributes;
    if (stanza.name !== 'iq') return;
    const query = stanza.child('query', 'http://jabber.org/protocol/disco#info');
    if (type === 'get' && query) {
      const node = query.attributes.node ? ` node='${escape(query.attributes.node)}'` : '';
      this.send(`<iq type='result' id='${escape(id)}' to='${escape(from)}'><query xmlns='http://jabber.org/protocol/disco#info'${node}>`
        + `<identity category='client' type='bot'/>${this.features.map(name => `<feature var='${name}'/>`).join('')}</query></iq>`);
    } else if (type === 'set') {
      this.send(`<iq type='result' id='${escape(id)}' to='${escape(from)}'/>`);
    }
  }

  /** What the offer says of the transport. */
  async transport() {
    const stanza = await this.offer;
    const jingle = stanza.child('jingle');
    const transport = jingle.find('transport');
    const candidate = transport.all('candidate').find(one => one.attributes.protocol === 'udp');
    return {
      sid: jingle.attributes.sid,
      ufrag: transport.attributes.ufrag, password: transport.attributes.pwd,
      fingerprint: transport.child('fingerprint').text.trim(),
      remote: `${candidate.attributes.ip}:${candidate.attributes.port}`,
      webSocket: transport.child('web-socket')?.attributes.url,
      sources: jingle.child('json-message') && JSON.parse(jingle.child('json-message').text),
    };
  }

  /** The answer to the offer, by content: what stands in the descriptions is the caller's. */
  async accept({ audio, video, credentials, fingerprintHash = 'sha-256' }) {
    const { sid } = await this.transport();
    const transport = `<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='${credentials.ufrag}' pwd='${credentials.password}'>`
      + `<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='${fingerprintHash}' setup='active'>${credentials.fingerprint}</fingerprint></transport>`;
    const content = (kind, inner) => `<content creator='responder' name='${kind}' senders='both'>`
      + `<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='${kind}'>${inner}<rtcp-mux/></description>${transport}</content>`;
    return this.jingle('session-accept', content('audio', audio) + content('video', video), { sid, responder: `${this.room}/${this.nick}` });
  }

  /**
   * A Jingle request of any kind and its answer.
   * @param {string} action
   * @param {string} inner
   * @param {{ sid?: string, responder?: string, timeout?: number }} [options]
   */
  async jingle(action, inner, { sid, responder, timeout } = {}) {
    sid ??= (await this.transport()).sid;
    const by = responder ? ` responder='${responder}'` : '';
    return this.iq(`<jingle xmlns='urn:xmpp:jingle:1' action='${action}' initiator='${this.focus}'${by} sid='${sid}'>${inner}</jingle>`,
      { type: 'set', to: this.focus, timeout });
  }

  /** Leaves the room in order. */
  leave() {
    if (this.socket) this.send(`<presence type='unavailable' to='${this.room}/${this.nick}'/></stream:stream>`);
    setTimeout(() => this.close(), 300);
  }
}

/** A source as a client signals it. */
export const source = (ssrc, name, msid, more = '') =>
  `<source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='${ssrc}' name='${escape(name)}'${more}><parameter name='msid' value='${escape(msid)}'/></source>`;

/** What a well-behaved answer says: Opus with audio levels, VP8 with transport-wide feedback, and these sources. */
export const decent = {
  audio: sources => "<payload-type id='111' name='opus' clockrate='48000' channels='2'/>"
    + "<rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='1' uri='urn:ietf:params:rtp-hdrext:ssrc-audio-level'/>" + sources,
  video: sources => "<payload-type id='100' name='VP8' clockrate='90000'/>"
    + "<rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='5' uri='http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01'/>" + sources,
};
