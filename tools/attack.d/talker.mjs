// A program that takes orders and reports what happens, both as lines of JSON.
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { Running } from '../lib/process.mjs';

export class Talker extends Running {
  /** `nice`: scheduling priority, as of nice(1); `log` gets its standard error. */
  constructor(name, program, args, { log, nice = 0 }) {
    const [command, given] = nice === 0 ? [program, args] : ['nice', ['-n', String(nice), program, ...args]];
    super(name, spawn(command, given, { stdio: ['pipe', 'pipe', 'pipe'], detached: true }));
    this.lines = [];
    this.waiting = [];
    this.child.stderr.pipe(createWriteStream(log, { flags: 'a' }));
    this.child.stdin.on('error', () => { /* it has ended */ });
    createInterface({ input: this.child.stdout }).on('line', text => {
      let line;
      try { line = JSON.parse(text); } catch { return; }
      this.lines.push(line);
      this.waiting = this.waiting.filter(one => !one(line));
    });
  }

  /** Gives an order. */
  order(value) { if (this.alive) this.child.stdin.write(JSON.stringify(value) + '\n'); }

  /** The next `count` lines from now on that `choose` finds something in; rejects when they do not come in time. */
  next(what, choose, { count = 1, timeout = 20000 } = {}) {
    const found = [];
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.waiting = this.waiting.filter(one => one !== take);
        reject(new Error(`${this.name}: ${what} not within ${timeout / 1000} s (${found.length} of ${count})`));
      }, timeout);
      const take = line => {
        const value = choose(line);
        if (value) found.push(value);
        if (found.length < count) return false;
        clearTimeout(late);
        resolve(found);
        return true;
      };
      this.waiting.push(take);
      this.ended.then(result => {
        if (found.length < count) reject(new Error(`${this.name}: ${what}: it ended (${result})`));
        clearTimeout(late);
      });
    });
  }

  /** @override */
  stop(patience = 3000) { return super.stop(patience); }
}
