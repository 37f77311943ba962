// Looks at processes while something happens to them: health over HTTP, resident memory. A thread of its own, since the
// one that attacks is busy.
import { get } from 'node:http';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import { resident } from '../lib/process.mjs';

const interval = 200;
const patience = 5000;

export class Watch {
  /** `targets`: [{name, url, pid}]. */
  constructor(targets) {
    this.worker = new Worker(fileURLToPath(import.meta.url), { workerData: { targets } });
    this.worker.on('error', error => { this.error = error; });
  }

  /** Ends it; by name: worst answer in ms, failures in words, peak of memory. */
  async stop() {
    const result = new Promise((resolve, reject) => {
      this.worker.once('message', resolve);
      this.worker.once('error', reject);
    });
    this.worker.postMessage('stop');
    const figures = await result;
    await this.worker.terminate();
    return figures;
  }
}

if (!isMainThread) {
  const figures = Object.fromEntries(workerData.targets.map(({ name, pid }) => [name, { worst_ms: 0, asked: 0, failures: [], peak: resident(pid) }]));
  const open = new Set();
  const ask = ({ name, url }) => {
    const start = performance.now();
    const one = figures[name];
    const mark = { name, start };
    open.add(mark);
    const end = failure => {
      if (!open.delete(mark)) return;
      one.asked++;
      one.worst_ms = Math.max(one.worst_ms, performance.now() - start);
      if (failure && one.failures.length < 5) one.failures.push(failure);
    };
    const request = get(url, { agent: false, timeout: patience }, response => {
      response.resume();
      response.on('end', () => end(response.statusCode === 200 ? undefined : `status ${response.statusCode}`));
    });
    request.on('timeout', () => request.destroy(new Error(`no answer within ${patience / 1000} s`)));
    request.on('error', (/** @type {NodeJS.ErrnoException} */ error) => end(error.message || error.code));
  };
  const timer = setInterval(() => {
    for (const target of workerData.targets) {
      figures[target.name].peak = Math.max(figures[target.name].peak, resident(target.pid));
      // A target that does not answer is not asked ever more often.
      if ([...open].filter(one => one.name === target.name).length < 3) ask(target);
    }
  }, interval);
  parentPort?.once('message', () => {
    clearInterval(timer);
    // What is not answered yet counts for as long as it has waited.
    for (const { name, start } of open) figures[name].worst_ms = Math.max(figures[name].worst_ms, performance.now() - start);
    parentPort?.postMessage(figures);
  });
}
