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

const kilobits = bits => bits >= 999500 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1000)} kbit/s`;

/** One participant's tile. */
class Tile {
  constructor(self) {
    this.video = element('video', { autoplay: true, playsInline: true, muted: true });
    this.audio = self ? undefined : element('audio', { autoplay: true });
    this.initial = element('div', { class: 'initial' });
    this.facts = element('div', { class: 'facts' });
    this.label = element('div', { class: 'label' });
    this.level = element('div', { class: 'level' });
    this.node = element('article', { class: 'tile dark' + (self ? ' self' : '') },
      this.video, this.initial, this.facts, this.label, this.level);
    if (this.audio) this.node.append(this.audio);
    this.attached = {};
  }

  /** Shows a track of the client library in the tile, or nothing. */
  attach(kind, track) {
    const media = this[kind];
    if (!media || this.attached[kind] === track) return;
    this.attached[kind] = track;
    media.srcObject = track ? new MediaStream([track.getTrack()]) : null;
  }

  show({ name, muted, dark, speaker, self }) {
    this.initial.textContent = (name.trim()[0] ?? '?').toUpperCase();
    this.label.replaceChildren(self ? `${name} (you)` : name);
    if (muted) this.label.append(element('span', { class: 'muted', textContent: 'muted' }));
    this.node.classList.toggle('dark', dark);
    this.node.classList.toggle('speaker', speaker);
  }

  setLevel(level) { this.level.style.transform = `scaleX(${Math.min(1, Math.sqrt(level) * 1.5).toFixed(2)})`; }
  setFacts(lines) { this.facts.textContent = lines.filter(Boolean).join('\n'); }
}

export class View {
  constructor() {
    this.tiles = new Map();
    this.find = id => document.getElementById(id);
  }

  /** Shows the join form, prefilled; resolves with its fields. */
  askForRoom({ room, name }) {
    const form = this.find('join');
    form.elements.room.value = room || 'lounge';
    form.elements.name.value = name || '';
    this.find('lobby').hidden = false;
    this.find('call').hidden = true;
    (room ? form.elements.name : form.elements.room).focus();
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
      const tile = new Tile(self);
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
    this.find('tiles').style.setProperty('--columns', Math.ceil(Math.sqrt(this.tiles.size)));
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

  button(id, pressed, label) {
    const button = this.find(id);
    button.setAttribute('aria-pressed', pressed);
    button.textContent = label;
  }
}

/** "VP8 100  320×180  240 kbit/s" */
export function describe(figures, bits) {
  if (!figures?.codec) return '';
  const size = figures.frameWidth ?? figures.width;
  return [
    `${figures.codec} ${figures.payloadType}`,
    size ? `${size}×${figures.frameHeight ?? figures.height}` : '',
    kilobits(bits),
  ].filter(Boolean).join('  ');
}
