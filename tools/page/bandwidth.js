// The plot of what each receiver's downlink carries: estimate, target, sent. Data come from the page's server.
import { kilobits } from './view.js';

const seconds = 120;
const lines = [
  { field: 'estimate_bps', name: 'estimate', colour: '--blue' },
  { field: 'target_bps', name: 'target', colour: '--amber' },
  { field: 'sent_bps', name: 'sent', colour: '--green' },
];

const svg = (tag, attributes = {}) => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

/** A round number of bits at or above `bits`: 1, 2 or 5 times a power of ten. */
export function ceiling(bits) {
  const power = 10 ** Math.floor(Math.log10(Math.max(bits, 1)));
  return [1, 2, 5, 10].map(one => one * power).find(one => one >= bits);
}

/** The points of a line in a box: `history` is [{at, bits}], `now` is its right edge. */
export function points(history, now, top, width, height) {
  return history
    .filter(one => one.bits !== undefined && now - one.at <= seconds * 1000)
    .map(({ at, bits }) => `${(width * (1 - (now - at) / (seconds * 1000))).toFixed(1)},${(height * (1 - bits / top)).toFixed(1)}`)
    .join(' ');
}

/** One receiver's plot. */
class Plot {
  constructor() {
    this.history = [];
    this.node = document.createElement('figure');
    this.title = document.createElement('figcaption');
    this.picture = svg('svg', { viewBox: '0 0 300 90', preserveAspectRatio: 'none' });
    this.scale = document.createElement('span');
    this.scale.className = 'scale';
    for (const part of [0.25, 0.5, 0.75]) this.picture.append(svg('line', { class: 'grid', x1: 0, x2: 300, y1: 90 * part, y2: 90 * part }));
    this.paths = lines.map(({ colour }) => this.picture.appendChild(svg('polyline', { style: `stroke: var(${colour})` })));
    const box = document.createElement('div');
    box.append(this.picture, this.scale);
    this.node.append(this.title, box);
  }

  add(name, figures) {
    const now = Date.now();
    this.history.push({ at: now, ...figures });
    while (now - this.history[0].at > seconds * 1000) this.history.shift();
    const top = ceiling(Math.max(100000, ...this.history.flatMap(one => lines.map(({ field }) => one[field] ?? 0))));
    for (const [index, { field }] of lines.entries()) {
      const history = this.history.map(one => ({ at: one.at, bits: one[field] }));
      this.paths[index].setAttribute('points', points(history, now, top, 300, 90));
    }
    this.scale.textContent = kilobits(top);
    const words = lines.map(({ field, name: word, colour }) => {
      const span = document.createElement('span');
      span.style.color = `var(${colour})`;
      span.textContent = `${word} ${figures[field] === undefined ? '?' : kilobits(figures[field])}`;
      return span;
    });
    const who = document.createElement('strong');
    who.textContent = name;
    const path = document.createElement('span');
    path.textContent = figures.rtt_ms === undefined || figures.rtt_ms === null ? '' : `${Math.round(figures.rtt_ms)} ms`;
    this.title.replaceChildren(who, ...words, path);
  }
}

export class Bandwidth {
  #plots = new Map();

  constructor(node) { this.node = node; }

  /** Reads the figures once and shows them; `names` is id → name of those in the call. Returns id → figures. */
  async refresh(names) {
    const answer = await fetch('bandwidth.json').then(response => response.ok ? response.json() : [], () => []);
    const own = new Map((Array.isArray(answer) ? answer : []).filter(one => names.has(one.endpoint)).map(one => [one.endpoint, one]));
    for (const [id, name] of names) {
      if (!own.has(id)) continue;
      if (!this.#plots.has(id)) {
        this.#plots.set(id, new Plot());
        this.node.append(this.#plots.get(id).node);
      }
      this.#plots.get(id).add(name, own.get(id));
    }
    for (const [id, plot] of this.#plots) {
      if (names.has(id)) continue;
      plot.node.remove();
      this.#plots.delete(id);
    }
    this.node.classList.toggle('empty', !this.#plots.size);
    return own;
  }
}
