// REST: a browser that was led here by another page, and invalid HTTP.
import { connect } from 'node:net';
import { request } from 'node:http';
import { sleep } from '../../lib/process.mjs';

/**
 * One HTTP request with exactly these headers; its status.
 * @param {string} url
 * @param {{ method?: string, headers?: Record<string, string | number>, body?: string }} [options]
 */
function ask(url, { method = 'GET', headers = {}, body } = {}) {
  const { hostname, port, pathname, search } = new URL(url);
  return new Promise(resolve => {
    const one = request({ hostname, port, path: pathname + search, method, headers, setHost: !('Host' in headers), agent: false, timeout: 5000 },
      response => { response.resume(); response.on('end', () => resolve(response.statusCode)); });
    one.on('error', (/** @type {NodeJS.ErrnoException} */ error) => resolve(error.code ?? error.message));
    one.on('timeout', () => one.destroy(new Error('no answer')));
    one.end(body);
  });
}

/** @type {Record<string, string>[]} */
const foreign = [
  { Host: 'evil.example', Origin: 'http://evil.example' },
  { Host: 'evil.example:8081' },
  { Origin: 'http://evil.example' },
  { Origin: 'null' },
  { 'Sec-Fetch-Site': 'cross-site', Origin: 'https://evil.example' },
  { Referer: 'http://evil.example/', Origin: 'http://evil.example', 'Content-Type': 'text/plain' },
];

export const scenarios = {
  'rest-rebinding': {
    guards: 'drain, shutdown, pins and moves asked with foreign Host and Origin, as after DNS rebinding',
    quick: true,
    async run(rig) {
      const paths = [['bridge', '/colibri/drain/enable'], ['bridge', '/colibri/shutdown'], ['focus', '/pin'], ['focus', '/conference-request/v1'], ['focus', '/move-endpoints/move-endpoints?bridge=x']];
      const obeyed = [], statuses = {};
      for (const [part, path] of paths) {
        for (const headers of foreign) {
          const url = part === 'bridge' ? rig.bridge.bridgeUrl(path) : rig.focus.focusUrl(path);
          const body = JSON.stringify(path === '/colibri/shutdown' ? { 'graceful-shutdown': false } : {});
          const status = await ask(url, { method: 'POST', headers: { 'Content-Type': 'application/json', ...headers, 'Content-Length': body.length }, body });
          statuses[status] = (statuses[status] ?? 0) + 1;
          if (status >= 200 && status < 300) obeyed.push(`${path} ${JSON.stringify(headers)}`);
        }
      }
      const { drain } = await (await fetch(rig.bridge.bridgeUrl('/colibri/drain'))).json();
      if (drain) await ask(rig.bridge.bridgeUrl('/colibri/drain/disable'), { method: 'POST' });
      const own = await ask(rig.bridge.bridgeUrl('/colibri/drain/disable'), { method: 'POST' });
      return { figures: { statuses }, checks: [
        { what: 'nothing foreign is obeyed', value: obeyed.length ? obeyed[0] : 'yes', ok: obeyed.length === 0 },
        { what: 'the bridge does not drain', value: String(drain), ok: drain === false },
        { what: 'the operator is obeyed', value: own, ok: own === 200 },
      ] };
    },
  },
  'rest-garbage': {
    guards: 'methods, paths, headers and invalid bodies, 2,000 requests on one connection, on all HTTP listeners',
    async run(rig) {
      const doors = [rig.bridge.options.bridgeRestPort, rig.focus.options.focusRestPort, rig.channelPort];
      const texts = [
        'GET / HTTP/9.9\r\n\r\n', 'X'.repeat(100000), 'GET ' + '/a'.repeat(50000) + ' HTTP/1.1\r\nHost: x\r\n\r\n',
        'GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: x\r\n\r\n', 'GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n',
        'POST /colibri/shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}',
        'POST /colibri/shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n',
        'POST /colibri/drain/enable HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /',
        'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n' + Array.from({ length: 5000 }, (_, n) => `x${n}: y\r\n`).join('') + '\r\n',
        'GET /debug?full=true HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'.repeat(2000),
        '\u0000\u0001\u0002'.repeat(1000), 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + '\u0000'.repeat(9000),
      ];
      for (const port of doors) {
        await Promise.all(texts.map(text => new Promise(resolve => {
          const socket = connect(port, '127.0.0.1', () => socket.write(text));
          socket.on('data', () => {});
          socket.on('error', () => {});
          socket.on('close', resolve);
          setTimeout(() => socket.destroy(), 1500);
        })));
      }
      await ask(rig.bridge.bridgeUrl('/colibri/drain/disable'), { method: 'POST' });
      await sleep(200);
      return { figures: { requests: doors.length * texts.length } };
    },
  },
};
