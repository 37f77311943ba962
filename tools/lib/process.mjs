// Child processes: run to the end, or keep in the background with a log file and stop for certain.
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';

/**
 * Runs a program to its end; its output goes to standard error. Rejects when it fails.
 * @returns {Promise<void>}
 */
export function run(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 2, 2], ...options });
    child.on('error', error => reject(new Error(`${program}: ${error.message}`)));
    child.on('close', (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`${program} ${args.join(' ')}: ${signal ?? 'exit code ' + code}`)));
  });
}

/** Resident memory of a process in bytes, or what of it is no file's and shared with nobody (`RssAnon`); 0 when it has ended. */
export function resident(pid, part = 'VmRSS') {
  try {
    return 1024 * Number(new RegExp(`^${part}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

export const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

/** Polls until `condition` gives something true, or throws after `timeout` milliseconds; an error marked `final` ends it at once. */
export async function until(what, timeout, condition, interval = 100) {
  const end = Date.now() + timeout;
  let last;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
      last = undefined;
    } catch (caught) {
      const error = /** @type {Error & { final?: boolean }} */ (caught);
      if (error.final) throw error;
      last = error;
    }
    if (Date.now() > end) {
      throw new Error(`${what}: not after ${timeout / 1000} s${last ? ` (${last.message})` : ''}`);
    }
    await sleep(interval);
  }
}

/** A program that runs beside us, in a process group of its own, so that Ctrl-C reaches only us and we stop things in order. */
export class Running {
  static all = new Set();
  /** How it ended; undefined while it runs. @type {string | undefined} */
  result;

  constructor(name, child) {
    this.name = name;
    this.child = child;
    this.ended = new Promise(resolve => {
      const end = result => {
        this.result ??= result;
        Running.all.delete(this);
        resolve(this.result);
      };
      child.on('close', (code, signal) => end(signal ?? `exit code ${code}`));
      child.on('error', error => end(error.message));
    });
    Running.all.add(this);
  }

  get pid() { return this.child.pid; }
  get alive() { return this.result === undefined; }

  signal(name) {
    if (!this.alive) return;
    try { process.kill(-this.pid, name); } catch { /* gone already */ }
  }

  /** SIGTERM, and SIGKILL when it takes longer than `patience` milliseconds. */
  async stop(patience = 5000) {
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

/** A program in the background. Its output is appended to `log`. */
export class Background extends Running {
  /**
   * @param {string} name
   * @param {string} program
   * @param {string[]} args
   * @param {{ log: string, env?: Record<string, string | undefined>, cwd?: string }} options
   */
  constructor(name, program, args, { log, env, cwd }) {
    const output = openSync(log, 'a');
    super(name, spawn(program, args, { stdio: ['ignore', output, output], env: { ...process.env, ...env }, cwd, detached: true }));
    closeSync(output);
    this.log = log;
    this.started = Date.now();
  }

  /** Throws with the end of the log when the program has ended. */
  check() {
    if (!this.alive) throw Object.assign(new Error(`${this.name} ended: ${this.result}\n${this.tail()}`), { final: true });
  }

  tail(lines = 15) {
    if (!existsSync(this.log)) return '';
    return readFileSync(this.log, 'utf8').trimEnd().split('\n').slice(-lines).map(line => '    ' + line).join('\n');
  }

  /** Resident memory in bytes. */
  memory() {
    return resident(this.pid);
  }

  /** What it holds of the operating system: open files and sockets, threads. */
  held() {
    const count = folder => readdirSync(`/proc/${this.pid}/${folder}`).length;
    return { files: count('fd'), threads: count('task') };
  }
}

/** Ends everything in the background, and then this program, when it is interrupted. */
export function endOnSignals() {
  let ending = false;
  const end = async () => {
    if (ending) return;
    ending = true;
    await Promise.all([...Running.all].map(child => child.stop(2000)));
    process.exit(130);
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, end);
}
