// The conference page: reads its address, keeps a session alive, shows it, and offers a hook to tests.
import { Bandwidth } from './bandwidth.js';
import { bridgeMessages, wrapWebSocket } from './bridge-channel.js';
import { connections, wrapPeerConnections } from './peer-connections.js';
import { drawScreen } from './screen.js';
import { screenOf, Session } from './session.js';
import { readStats } from './stats.js';
import { describe, describeFreezes, View } from './view.js';

const query = new URLSearchParams(location.search);
const flag = name => ['1', 'true', ''].includes(query.get(name) ?? '0');
const [width, height] = (query.get('size') ?? '640x360').split('x').map(Number);
const options = {
  room: query.get('room') ?? '',
  name: query.get('name') ?? '',
  codec: (query.get('codec') ?? '').toLowerCase(),
  p2p: flag('p2p'),
  blockP2p: flag('block-p2p'),
  asymmetric: flag('asymmetric'),
  // By default the codec decides, see session.js.
  simulcast: query.has('simulcast') ? flag('simulcast') : undefined,
  width, height,
  fps: Number(query.get('fps') ?? 24),
  // 'audio' or 'video' alone, or 'none'.
  send: query.get('send') ?? '',
  scalability: query.get('scalability') ?? '',
  relay: query.get('relay') ?? '',
  lipSync: flag('lip-sync'),
  // Begins anew when the focus has left.
  renew: flag('renew'),
  // The visitor node that it was sent to.
  visitor: query.get('visitor') ?? '',
  // Kilobits per second, from the lowest encoding on.
  bitrates: query.get('bitrates')?.split(',').map(one => Number(one) * 1000),
  // WxH@FPS: what is shared where there is no screen.
  screen: /^(\d+)x(\d+)@(\d+)$/.exec(query.get('screen') ?? '')?.slice(1).map(Number),
};
options.shareFps = options.screen?.[2];

const view = new View(key => stage(key));
const bandwidth = new Bandwidth(view.find('bandwidth'));
const events = [];
const record = detail => {
  events.push({ at: Date.now(), ...detail });
  if (events.length > 2000) events.splice(0, 1000);
};

/** The session in use, and the one before it whose media stays until the new one has some. */
let current, previous;
let hungUp = false;
let retries = 0;
const wanted = { audio: false, video: false };   // muted?
/** What the bridge is asked for, see Session.want. */
/** What this page asks the bridge for. @type {{ lastN: number, stage?: string[], stageHeight: number, height: number, heights: Record<string, number> }} */
const asked = { lastN: -1, stage: undefined, stageHeight: 2160, height: 2160, heights: {} };
const rates = new Map();
let startedAt;

if (!query.get('room') || !query.get('name')) {
  Object.assign(options, await view.askForRoom(options));
  const address = new URL(location.href);
  address.searchParams.set('room', options.room);
  address.searchParams.set('name', options.name);
  if (options.codec) address.searchParams.set('codec', options.codec);
  history.replaceState(null, '', address);
}

wrapWebSocket(one => record({ name: 'bridge-message', class: one.colibriClass }));
if (options.screen) drawScreen({ width: options.screen[0], height: options.screen[1], fps: options.screen[2] });
wrapPeerConnections({ ...options, session: () => current?.number });
const settings = await (await fetch('settings.json')).json();
// The library of this page: the packaged one, or a current one where the server has it.
options.current = settings.current && query.get('client') !== 'packaged';
await loadClient(options.current ? 'current' : 'client');
const { JitsiMeetJS } = window;
JitsiMeetJS.setLogLevel(JitsiMeetJS.logLevels[(query.get('log') ?? 'warn').toUpperCase()] ?? JitsiMeetJS.logLevels.WARN);
JitsiMeetJS.init({ disableAudioLevels: true, enableAnalyticsLogging: false, disableThirdPartyRequests: true, sourceNameSignaling: query.get('names') !== '0' });

/** Loads the client library, once everything that it uses is wrapped. */
function loadClient(folder) {
  return new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${folder}/lib-jitsi-meet.min.js does not load`));
    script.src = `${folder}/lib-jitsi-meet.min.js`;
    document.head.append(script);
  });
}

function start() {
  const session = new Session(settings, options, asked);
  startedAt ??= Date.now();
  current = session;
  session.addEventListener('changed', event => {
    const { detail } = /** @type {CustomEvent} */ (event);
    record(detail);
    if (session === current && detail.name === 'joined') {
      for (const kind of ['audio', 'video']) if (wanted[kind]) session.setMuted(kind, true);
    }
    render();
  });
  session.addEventListener('lost', () => restart(session));
  session.start().catch(error => {
    record({ name: 'start-failed', error: String(error?.stack ?? error) });
    restart(session);
  });
}

/** Starts over after a loss; what the lost session still receives stays on screen. */
function restart(lost) {
  if (hungUp || lost !== current) return;
  // The elder of two lost sessions goes, unless it is the one with the media.
  if (!previous || !hasMedia(previous)) {
    if (previous) retire(previous);
    previous = lost;
  } else {
    retire(lost);
  }
  const delay = Math.min(5000, 500 * 2 ** retries++);
  record({ name: 'restart', delay });
  setTimeout(() => { if (!hungUp) start(); }, delay);
  render();
}

const hasMedia = session => [...session.remotes.values()].some(remote => remote.tracks.video?.getTrack()?.readyState === 'live');

function retire(session) {
  record({ name: 'retired', session: session.number });
  session.end().finally(() => {
    for (const { pc, session: number } of connections) if (number === session.number) pc.close();
  });
}

/** The new session takes over once one of its remote videos moves, or when it has nobody to show after a while. */
function takeOver() {
  if (!previous || current.state !== 'joined') return;
  const moving = [...current.remotes.values()].some(remote => remote.firstFrameAt);
  if (moving || Date.now() - current.joinedAt > 15000) {
    retries = 0;
    const old = previous;
    previous = undefined;
    retire(old);
  }
}

function render() {
  const shown = previous ?? current;
  if (!shown) return;
  const keys = new Set(['self']);
  const self = view.tile('self', true);
  const camera = current.localTrack('video') ?? shown.localTrack('video');
  self.attach('video', camera);
  self.show({ name: options.name, muted: wanted.audio, dark: wanted.video || !camera, speaker: Boolean(current.id) && current.speaker === current.id, self: true });
  for (const session of new Set([shown, current])) {
    for (const remote of session.remotes.values()) {
      const key = `${session.number}/${remote.id}`;
      keys.add(key);
      const tile = view.tile(key);
      // Until the new session takes over its tiles are loaded, not shown.
      tile.node.hidden = session !== shown;
      if (tile.attached.video !== remote.tracks.video && remote.tracks.video) {
        tile.video.onloadeddata = () => {
          remote.firstFrameAt ??= Date.now();
          record({ name: 'first-frame', id: remote.id, session: session.number });
          takeOver();
          render();
        };
      }
      tile.attach('video', remote.tracks.video);
      tile.attach('audio', session === shown ? remote.tracks.audio : undefined);
      tile.show({
        name: remote.name, muted: remote.muted.audio, dark: remote.muted.video || !remote.tracks.video,
        speaker: session.speaker === remote.id, self: false, onStage: asked.stage?.includes(remote.name),
      });
      // With SSRC rewriting the track stays when the screen is gone, muted.
      if (remote.tracks.screen && !remote.muted.screen) keys.add(showScreen(`${key}/screen`, session === shown, remote));
    }
  }
  view.keepTiles(keys);
  const path = current.p2p ? 'p2p' : current.state === 'joined' && current.remotes.size ? 'bridge' : undefined;
  view.badges({ path, role: current.role });
  const [text, calm] = message();
  view.notice(text, calm);
  view.asked(asked);
  view.button('mute', wanted.audio, wanted.audio ? 'Unmute' : 'Mute');
  view.button('share', Boolean(current.screen), current.screen ? 'Stop sharing' : 'Share screen');
  view.button('camera', wanted.video, wanted.video ? 'Camera on' : 'Camera off');
}

/** The tile of a screen that is shared beside a camera; returns its key. */
function showScreen(key, shown, remote) {
  const tile = view.tile(key);
  tile.node.hidden = !shown;
  tile.attach('video', remote.tracks.screen);
  const name = screenOf(remote.name);
  tile.show({ name, muted: false, dark: false, speaker: false, self: false, onStage: asked.stage?.includes(name) });
  return key;
}

/**
 * What the line above the tiles says: [text, whether it is nothing to worry about].
 * @returns {[string | undefined, boolean?]}
 */
function message() {
  if (hungUp) return ['You left. Reload the page to join again.', true];
  if (previous || current.state === 'lost') return ['Connection to the server lost, reconnecting …'];
  const standing = { lobby: 'The owner of the room has to let you in.', password: 'This room has a password.', denied: 'The owner of the room did not let you in.', kicked: 'You were removed from the room.', 'ended for all': 'The meeting was ended for all.' };
  if (standing[current.state]) return [standing[current.state], true];
  if (current.state === 'connecting') return ['Connecting …', true];
  if (current.bridgeMissing) return ['No bridge available. The call starts by itself as soon as one is there.'];
  if (!current.remotes.size) return ['Waiting for the second participant. Open this address in another tab.', true];
  return [undefined];
}

/** Bits per second since the last call for this key. */
function rate(key, bytes) {
  const now = performance.now();
  const before = rates.get(key);
  rates.set(key, { bytes, now });
  return before && bytes >= before.bytes ? (bytes - before.bytes) * 8000 / (now - before.now) : 0;
}

async function refreshFigures() {
  const { inbound, outbound } = await readStats();
  let up = 0, down = 0;
  const lines = [];
  for (const [index, figures] of outbound.entries()) {
    const bits = rate(`out/${figures.session}/${figures.p2p}/${index}`, figures.bytes);
    up += bits;
    if (bits) lines.push(describe(figures, bits));
  }
  view.tiles.get('self')?.setFacts(lines);
  for (const session of new Set([previous, current].filter(Boolean))) {
    for (const remote of session.remotes.values()) {
      const tile = view.tiles.get(`${session.number}/${remote.id}`);
      if (!tile) continue;
      const facts = ['video', 'audio'].map(kind => {
        const figures = inbound.get(remote.tracks[kind]?.getTrack()?.id);
        if (!figures) return '';
        const bits = rate(`in/${session.number}/${remote.id}/${kind}/${figures.p2p}`, figures.bytes);
        down += bits;
        if (kind === 'audio') tile.setLevel(figures.level);
        else tile.setQuality(figures.framesPerSecond ? figures.frameHeight : 0, asked.stage?.includes(remote.name) ? asked.stageHeight : asked.height);
        return [describe(figures, bits), kind === 'video' ? describeFreezes(figures) : ''];
      });
      tile.setFacts(facts.flat());
    }
  }
  view.rates(up, down);
  await refreshBandwidth();
}

/** Shows what the bridge says of everybody's downlink. */
async function refreshBandwidth() {
  /** @type {[string, string][]} */
  const named = [[current.id, `${options.name} (you)`], ...[...current.remotes.values()].map(remote => /** @type {[string, string]} */ ([remote.id, remote.name]))];
  const names = new Map(named.filter(([id]) => id));
  const figures = await bandwidth.refresh(names);
  view.tiles.get('self')?.setDownlink(figures.get(current.id));
  for (const { id } of current.remotes.values()) view.tiles.get(`${current.number}/${id}`)?.setDownlink(figures.get(id));
}

/** Brings a tile on stage, or takes it down when it is there. */
function stage(key) {
  const remote = [...current.remotes.values()].find(one => [`${current.number}/${one.id}`, `${current.number}/${one.id}/screen`].includes(key));
  if (!remote) return;
  const name = key.endsWith('/screen') ? screenOf(remote.name) : remote.name;
  current.want({ stage: asked.stage?.includes(name) ? undefined : [name] });
  render();
}

view.startCall(options.room);
view.find('mute').onclick = () => toggle('audio');
view.find('camera').onclick = () => toggle('video');
view.find('share').onclick = () => share();
view.find('hang-up').onclick = () => hangUp();
for (const [id, field] of [['last-n', 'lastN'], ['tile-height', 'height'], ['stage-height', 'stageHeight']]) {
  view.find(id).onchange = ({ target }) => current.want({ [field]: Number(/** @type {HTMLSelectElement} */ (target).value) });
}
view.find('show-bandwidth').onclick = () => showBandwidth(view.find('bandwidth').hidden);

function showBandwidth(shown) {
  view.find('bandwidth').hidden = !shown;
  view.button('show-bandwidth', shown, 'Downlinks');
}

async function toggle(kind, muted = !wanted[kind]) {
  wanted[kind] = muted;
  await current.setMuted(kind, muted).catch(error => record({ name: 'mute-failed', error: String(error) }));
  render();
}

async function share() {
  await (current.screen ? current.stopScreen() : current.shareScreen()).catch(error => record({ name: 'share-failed', error: String(error) }));
  render();
}

async function hangUp() {
  hungUp = true;
  await Promise.all([previous, current].filter(Boolean).map(session => session.end()));
  view.keepTiles(new Set());
  view.notice(...message());
}

start();
render();
const period = Number(query.get('poll') ?? 1000);
setInterval(() => { takeOver(); scale(); if (!document.hidden && !hungUp) refreshFigures().catch(() => {}); }, period);

/**
 * {at, remote: {name → {id, video, audio, screen}}, outbound, cameras, pairs}; of two sessions the one that receives more
 * recently wins.
 */
async function stats() {
  const { inbound, ...own } = await readStats();
  const remote = {};
  for (const session of [previous, current].filter(Boolean)) {
    for (const [name, one] of session.named()) {
      const figures = {
        id: one.id,
        session: session.number,
        firstFrameAt: one.firstFrameAt,
        video: inbound.get(one.tracks.video?.getTrack()?.id),
        audio: inbound.get(one.tracks.audio?.getTrack()?.id),
        screen: inbound.get(one.tracks.screen?.getTrack()?.id),
      };
      if (!remote[name] || figures.video?.framesDecoded || !remote[name].video) remote[name] = figures;
    }
  }
  return { at: Date.now(), remote, ...own };
}

const readings = [];
let watching;

/** Gives every video encoder the scalability mode that was asked for; the library knows none. */
function scale() {
  if (!options.scalability) return;
  for (const { pc, p2p } of connections) {
    if (p2p || pc.connectionState !== 'connected') continue;
    for (const sender of pc.getSenders()) {
      if (sender.track?.kind !== 'video') continue;
      const parameters = sender.getParameters();
      if (parameters.encodings.length !== 1 || parameters.encodings[0].scalabilityMode === options.scalability) continue;
      parameters.encodings[0].scalabilityMode = options.scalability;
      sender.setParameters(parameters).catch(error => record({ name: 'scalability-failed', error: String(error) }));
    }
  }
}

// For tests: the figures behind what is shown. Times are Date.now() milliseconds.
window.__ringbridge = {
  events, connections, options,
  get session() { return current; },
  hangUp,
  setMuted: toggle,
  state: () => ({
    name: options.name,
    id: current.id,
    state: current.state,
    session: current.number,
    startedAt,
    joinedAt: current.joinedAt,
    role: current.role,
    owner: current.role === 'moderator',
    p2p: current.p2p,
    bridgeMissing: current.bridgeMissing,
    notice: view.find('notice').hidden ? '' : view.find('notice').textContent,
    speaker: current.speaker,
    participants: [...current.named()].map(([name, { id, role, muted, joinedAt, firstFrameAt, tracks }]) =>
      ({ id, name, role, muted, joinedAt, firstFrameAt, tracks: Object.keys(tracks) })),
    connections: connections.map(({ pc, p2p, session }) => ({ p2p, session, ice: pc.iceConnectionState, state: pc.connectionState })),
  }),
  bridgeMessages,
  want: changes => { current.want(changes); render(); },
  showBandwidth,
  shareScreen: () => current.shareScreen(),
  stats,
  /** Reads the statistics every `interval` milliseconds from now on; `samples` hands over what was read since. */
  watch: interval => {
    clearInterval(watching);
    watching = setInterval(() => stats().then(one => { if (readings.push(one) > 20000) readings.splice(0, 10000); }, () => {}), interval);
  },
  samples: () => readings.splice(0),
};
