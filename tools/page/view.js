// What a person sees: tiles, badges, notices.

const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'class') node.className = value;
    else node[key] = value;
  }
  node.append(...children);
  return node;
};

export const kilobits = bits => bits >= 999500 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1000)} kbit/s`;

/** One participant's tile: the picture, what is known of it, and the way to bring it on stage. */
class Tile {
  constructor(self, onStage) {
    this.video = element('video', { autoplay: true, playsInline: true, muted: true });
    this.audio = self ? undefined : element('audio', { autoplay: true });
    this.initial = element('div', { class: 'initial' });
    this.quality = element('span', { class: 'quality' });
    this.facts = element('div', { class: 'facts' });
    this.label = element('div', { class: 'label' });
    this.level = element('div', { class: 'level' });
    this.downlink = element('div', { class: 'downlink' });
    this.node = element('article', { class: 'tile dark' + (self ? ' self' : '') },
      this.video, this.initial, element('div', { class: 'corner' }, this.quality, this.facts), this.downlink, this.label, this.level);
    if (this.audio) this.node.append(this.audio);
    if (!self) {
      this.stage = element('button', { type: 'button', class: 'to-stage', title: 'Bring on stage, or back', textContent: 'Stage' });
      this.stage.onclick = onStage;
      this.node.append(this.stage);
    }
    this.attached = {};
  }

  /** Shows a track of the client library in the tile, or nothing. */
  attach(kind, track) {
    const media = this[kind];
    if (!media || this.attached[kind] === track) return;
    this.attached[kind] = track;
    media.srcObject = track ? new MediaStream([track.getTrack()]) : null;
  }

  show({ name, muted, dark, speaker, self, onStage }) {
    this.initial.textContent = (name.trim()[0] ?? '?').toUpperCase();
    this.label.replaceChildren(self ? `${name} (you)` : name);
    if (muted) this.label.append(element('span', { class: 'muted', textContent: 'muted' }));
    this.node.classList.toggle('dark', dark);
    this.node.classList.toggle('speaker', speaker);
    this.node.classList.toggle('stage', Boolean(onStage));
    this.stage?.setAttribute('aria-pressed', Boolean(onStage));
  }

  setLevel(level) { this.level.style.transform = `scaleX(${Math.min(1, Math.sqrt(level) * 1.5).toFixed(2)})`; }
  setFacts(lines) { this.facts.textContent = lines.filter(Boolean).join('\n'); }

  /** The chip in the corner: the layer in words; amber when the sender has more and more was asked for. */
  setQuality(height, asked) {
    this.best = Math.max(this.best ?? 0, height);
    this.quality.textContent = height ? `${layer(height)} ${height}p` : '';
    this.quality.classList.toggle('less', Boolean(height) && height < Math.min(asked, this.best));
  }

  /** How much of this participant's downlink is used: bits per second; undefined hides it. */
  setDownlink(figures) {
    this.downlink.hidden = !figures;
    if (!figures) return;
    const { estimate_bps: estimate, target_bps: target, sent_bps: sent } = figures;
    const share = bits => `${Math.min(100, 100 * bits / Math.max(estimate, target, sent, 1)).toFixed(1)}%`;
    this.downlink.style.setProperty('--estimate', share(estimate));
    this.downlink.style.setProperty('--target', share(target));
    this.downlink.style.setProperty('--sent', share(sent));
    this.downlink.title = `downlink: ${kilobits(sent)} sent, ${kilobits(target)} target, ${kilobits(estimate)} estimated`;
  }
}

/** The usual name of a layer by its height. */
const layer = height => height <= 200 ? 'LD' : height <= 400 ? 'SD' : height <= 800 ? 'HD' : 'FHD';

export class View {
  /** `onStage` is called with the key of a tile that is to go on stage, or to leave it. */
  constructor(onStage) {
    this.onStage = onStage;
    this.tiles = new Map();
    /** An element of the page, which has it. @type {(id: string) => HTMLElement} */
    this.find = id => /** @type {HTMLElement} */ (document.getElementById(id));
  }

  /** Shows the join form, prefilled; resolves with its fields. */
  askForRoom({ room, name }) {
    const form = /** @type {HTMLFormElement} */ (this.find('join'));
    const fields = Object.fromEntries(['room', 'name'].map(field => [field, /** @type {HTMLInputElement} */ (form.elements.namedItem(field))]));
    fields.room.value = room || 'lounge';
    fields.name.value = name || '';
    this.find('lobby').hidden = false;
    this.find('call').hidden = true;
    (room ? fields.name : fields.room).focus();
    return new Promise(resolve => {
      form.onsubmit = event => {
        event.preventDefault();
        resolve(Object.fromEntries(new FormData(form)));
      };
    });
  }

  startCall(room) {
    this.find('lobby').hidden = true;
    this.find('call').hidden = false;
    this.find('room').textContent = room;
    document.title = `${room} · ringbridge`;
  }

  /** The tile with this key, made when new. */
  tile(key, self = false) {
    if (!this.tiles.has(key)) {
      const tile = new Tile(self, () => this.onStage(key));
      this.tiles.set(key, tile);
      this.find('tiles').append(tile.node);
      this.#arrange();
    }
    return this.tiles.get(key);
  }

  /** Removes tiles whose key is not in `keys`. */
  keepTiles(keys) {
    for (const [key, tile] of this.tiles) {
      if (keys.has(key)) continue;
      tile.node.remove();
      this.tiles.delete(key);
    }
    this.#arrange();
  }

  #arrange() {
    const shown = [...this.tiles.values()].filter(tile => !tile.node.hidden);
    const staged = shown.filter(tile => tile.node.classList.contains('stage')).length;
    const tiles = this.find('tiles');
    tiles.classList.toggle('staged', staged > 0);
    const columns = staged ? Math.max(2, shown.length - staged) : Math.ceil(Math.sqrt(shown.length));
    tiles.style.setProperty('--columns', String(Math.max(1, columns)));
  }

  badges({ path, role }) {
    const badge = this.find('path');
    badge.textContent = { p2p: 'peer to peer', bridge: 'bridge' }[path] ?? '';
    badge.className = `badge ${path ?? ''}`;
    const rank = this.find('role');
    rank.textContent = role === 'moderator' ? 'owner' : role === 'participant' ? 'participant' : '';
    rank.className = role === 'moderator' ? 'badge owner' : 'badge';
  }

  notice(text, calm = false) {
    const notice = this.find('notice');
    notice.hidden = !text;
    notice.textContent = text ?? '';
    notice.classList.toggle('calm', calm);
  }

  rates(up, down) { this.find('rates').textContent = `↑ ${kilobits(up)}   ↓ ${kilobits(down)}`; }

  /** Shows in the footer what is asked for. */
  asked({ lastN, height, stageHeight }) {
    for (const [id, value] of [['last-n', lastN], ['tile-height', height], ['stage-height', stageHeight]]) {
      /** @type {HTMLSelectElement} */ (this.find(id)).value = String(value);
    }
  }

  button(id, pressed, label) {
    const button = this.find(id);
    button.setAttribute('aria-pressed', pressed);
    button.textContent = label;
  }
}

/** "VP8 100  320×180  15 fps  240 kbit/s" */
export function describe(figures, bits) {
  if (!figures?.codec) return '';
  const size = figures.frameWidth ?? figures.width;
  const rate = figures.framesPerSecond ?? (figures.kind === 'video' ? figures.fps : undefined);
  return [
    `${figures.codec} ${figures.payloadType}`,
    size ? `${size}×${figures.frameHeight ?? figures.height}` : '',
    rate ? `${Math.round(rate)} fps` : '',
    kilobits(bits),
  ].filter(Boolean).join('  ');
}

/** "2 freezes, 0.8 s", or nothing without freezes. */
export function describeFreezes({ freezeCount, totalFreezesDuration }) {
  return freezeCount ? `${freezeCount} freeze${freezeCount > 1 ? 's' : ''}, ${totalFreezesDuration.toFixed(1)} s` : '';
}
