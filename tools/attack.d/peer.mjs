// The media side of an intruder: `ringbridge-load attack`, and the whole way to its keys.
import { join } from 'node:path';
import { loadBinary } from '../lib/ringbridge.mjs';
import { Talker } from './talker.mjs';
import { decent, Intruder, source } from './xmpp.mjs';

const hex = packets => packets.map(packet => packet.toString('hex'));

export class Peer {
  /** Without `session` it sends only packets as they are. */
  constructor(rig, session) {
    this.rate = rig.rate;
    const { remote = rig.media, ufrag, password, fingerprint } = session ?? {};
    const args = ['attack', '--remote', remote, ...ufrag ? ['--ufrag', ufrag, '--password', password, '--fingerprint', fingerprint] : []];
    // It plays another machine: it must not take the processor from those whom it attacks.
    this.talker = new Talker('attacker', loadBinary(), args, { log: join(rig.stack.folder, 'attacker.log'), nice: 5 });
    this.ready = this.talker.next('ready', line => line.event === 'ready' && line).then(([line]) => { this.credentials = line.credentials; });
    this.ready.catch(() => {});
  }

  /** Waits for keys. */
  async connected(timeout = 10000) {
    const [line] = await this.talker.next('keys', one => ['connected', 'failed'].includes(one.event) && one, { timeout });
    if (line.event === 'failed') throw new Error(`no keys: ${line.error}`);
  }

  /** Gives an order and waits until it is carried out. */
  async order(value, timeout = 75000) {
    await this.ready;
    const done = this.talker.next(value.do, line => ['done', 'refused'].includes(line.event) && line, { timeout });
    this.talker.order(value);
    const [line] = await done;
    if (line.event === 'refused') throw new Error(`order refused: ${line.error}`);
    return line;
  }

  /** Packets by a plan, at the rig's share of its rate; see bench/load/src/attack/flow.rs. */
  flow(what, packets, { count, per_second, ...more }) {
    const share = value => Math.max(1, Math.round(value * this.rate));
    return this.order({ do: what, packets: hex(packets), count: share(count), per_second: share(per_second), ...more });
  }

  rtp(packets, flow) { return this.flow('rtp', packets, flow); }
  rtcp(packets, flow) { return this.flow('rtcp', packets, flow); }
  plain(packets, flow) { return this.flow('plain', packets, flow); }
  data(packets, flow) { return this.flow('data', packets, flow); }
  count() { return this.order({ do: 'count' }).then(line => line.count); }

  async end() {
    this.talker.order({ do: 'end' });
    await this.talker.stop(1000);
  }
}

const random32 = () => 1 + Math.floor(Math.random() * 0xfffffffe);

/** Somebody in `room` with signalling, keys and a channel, who sends what they like. */
export class Cheat {
  /** Who keeps it company in a room of its own. @type {Intruder | undefined} */
  companion;
  /** @type {Awaited<ReturnType<Intruder['transport']>>} */
  session;
  /** @type {Peer} */
  peer;
  /** @type {Intruder} */
  signalling;

  static async enter(rig, room, how = {}) {
    const cheat = new Cheat();
    try {
      await cheat.come(rig, room, how);
      return cheat;
    } catch (error) {
      await cheat.leave();
      throw error;
    }
  }

  /** In a room that is not the witnesses', with somebody else there, since one alone is offered nothing. */
  static async apart(rig) {
    const room = rig.freshRoom();
    const companion = new Intruder(rig, room);
    try {
      await companion.join();
      const cheat = await Cheat.enter(rig, room);
      cheat.companion = companion;
      return cheat;
    } catch (error) {
      companion.leave();
      throw error;
    }
  }

  /** @param {any} rig @param {string} room @param {{ audio?: (sources: string) => string, video?: (sources: string) => string, nick?: string }} how */
  async come(rig, room, { audio = decent.audio, video = decent.video, nick }) {
    this.signalling = new Intruder(rig, room, { nick });
    const { signalling } = this;
    await signalling.join();
    this.session = await signalling.transport();
    this.peer = new Peer(rig, this.session);
    await this.peer.ready;
    this.ssrcs = { audio: random32(), video: random32() };
    const name = signalling.nick;
    const connected = this.peer.connected();
    connected.catch(() => {});
    const answer = await signalling.accept({
      audio: audio(source(this.ssrcs.audio, `${name}-a0`, `${name}-audio-0 ${name}-a-t`)),
      video: video(source(this.ssrcs.video, `${name}-v0`, `${name}-video-0 ${name}-v-t`, " videoType='camera'")),
      credentials: this.peer.credentials,
    });
    this.accepted = answer.attributes.type === 'result';
    if (this.accepted) await connected;
  }

  async leave() {
    this.signalling.leave();
    this.companion?.leave();
    await this.peer?.end();
  }
}
