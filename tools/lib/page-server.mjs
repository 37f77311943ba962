// Serves the conference page, the client library and the page's settings.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { toolsFolder } from './paths.mjs';

const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/**
 * Starts the server; `currentClientFolder` is that of another client library if there is one, `settings` is what the page finds under settings.json, `bandwidth` (asynchronous) what it finds
 * under bandwidth.json. Returns {address, stop}.
 * @param {{ port: number, clientFolder: string, currentClientFolder?: string, settings: () => object, bandwidth?: () => Promise<any[]> }} options
 */
export function servePage({ port, clientFolder, currentClientFolder, settings, bandwidth = async () => [] }) {
  const folders = {
    '/client/': clientFolder,
    ...currentClientFolder && { '/current/': currentClientFolder },
    '/jquery/': join(toolsFolder, 'node_modules/jquery/dist'),
    '/': join(toolsFolder, 'page'),
  };
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://page').pathname));
    const made = { '/settings.json': settings, '/bandwidth.json': bandwidth }[path];
    if (made) {
      response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' });
      response.end(JSON.stringify(await made()));
      return;
    }
    const prefix = Object.keys(folders).find(name => path.startsWith(name)) ?? '/';
    const name = path.endsWith('/') ? 'index.html' : path.slice(prefix.length);
    try {
      const body = await readFile(join(folders[prefix], name));
      response.writeHead(200, { 'content-type': types[extname(name)] ?? 'application/octet-stream', 'cache-control': 'no-cache' });
      response.end(body);
    } catch {
      response.writeHead(404, { 'content-type': 'text/plain' });
      response.end('not found\n');
    }
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve({
      address: `http://127.0.0.1:${port}/`,
      port,
      stop: () => new Promise(done => { server.closeAllConnections(); server.close(done); }),
    }));
  });
}
