// A program that takes orders and tells what happens, both as lines of JSON.
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { Background } from '../demo.d/process.mjs';

export class Talker {
  /** `nice`: scheduling priority, as of nice(1); `log` gets its standard error. */
  constructor(name, program, args, { log, nice = 0 }) {
    this.name = name;
    this.lines = [];
    this.waiting = [];
    const niced = nice === 0 ? [program, args] : ['nice', ['-n', String(nice), program, ...args]];
    this.child = spawn(...niced, { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
    const file = createWriteStream(log, { flags: 'a' });
    this.child.stderr.pipe(file);
    this.child.stdin.on('error', () => { /* it has ended */ });
    createInterface({ input: this.child.stdout }).on('line', text => {
      let line;
      try { line = JSON.parse(text); } catch { return; }
      this.lines.push(line);
      this.waiting = this.waiting.filter(one => !one(line));
    });
    this.ended = new Promise(resolve => {
      const end = result => {
        this.result ??= result;
        Background.all.delete(this);
        resolve(this.result);
      };
      this.child.on('close', (code, signal) => end(signal ?? `exit code ${code}`));
      this.child.on('error', error => end(error.message));
    });
    Background.all.add(this);
  }

  get pid() { return this.child.pid; }
  get alive() { return this.result === undefined; }

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

  signal(name) {
    if (!this.alive) return;
    try { process.kill(-this.pid, name); } catch { /* gone already */ }
  }

  async stop(patience = 3000) {
    if (!this.alive) return;
    this.signal('SIGTERM');
    const late = setTimeout(() => this.signal('SIGKILL'), patience);
    await this.ended;
    clearTimeout(late);
  }

  async kill() {
    this.signal('SIGKILL');
    await this.ended;
  }
}
