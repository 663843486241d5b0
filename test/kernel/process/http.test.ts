import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import pino from 'pino';
import { keepHttp, pathOf, type Routes, startHttp } from '../../../src/process/http.ts';
import { waitFor } from '../../lab/wait.ts';

const log = pino({ level: 'silent' });

async function serve<T>(routes: Routes, work: (port: number) => Promise<T>): Promise<T> {
  const server = await startHttp('127.0.0.1', 0, routes, log);
  try {
    return await work(server.port);
  } finally {
    await server.close();
  }
}

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** What comes back until the connection is closed. */
async function answerTo(port: number, request: string): Promise<string> {
  const socket = await open(port);
  let text = '';
  socket.on('data', (data) => {
    text += String(data);
  });
  socket.write(request);
  await once(socket, 'close');
  return text;
}

const ok = (): { status: number; body: string } => ({ status: 200, body: 'ok\n' });

describe('an HTTP server', () => {
  it('knows the path of any target', () => {
    for (const [target, path] of [
      ['/healthz', '/healthz'],
      ['/healthz?verbose', '/healthz'],
      ['/healthz#x', '/healthz'],
      ['http://10.0.0.1:10256/healthz?x', '/healthz'],
      ['http://[::1]/healthz', '/healthz'],
      ['http://host', '/'],
      ['//', '//'],
      ['//healthz', '//healthz'],
      ['', '/'],
      ['*', '*'],
      ['http://', '/'],
      ['/__proto__', '/__proto__'],
    ] as const)
      assert.equal(pathOf(target), path, target);
  });

  it('answers whatever the method is, as Go does', async () => {
    await serve({ '/healthz': ok }, async (port) => {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'HEAD', 'TRACE']) {
        const request = (path: string): string =>
          `${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
        assert.match(await answerTo(port, request('/healthz')), /^HTTP\/1\.1 200 /, method);
        assert.match(await answerTo(port, request('/nope')), /^HTTP\/1\.1 404 /, method);
      }
    });
  });

  it('answers 404 to targets that are no URL, and to names that every object has', async () => {
    await serve({ '/healthz': ok }, async (port) => {
      for (const target of ['//', '///', '//[', 'http://%', '/__proto__', '/constructor', '*']) {
        const answer = await answerTo(port, `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
        assert.match(answer, /^HTTP\/1\.1 404 /, target);
      }
      const absolute = 'GET http://node:10256/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
      assert.match(await answerTo(port, absolute), /^HTTP\/1\.1 200 /);
    });
  });

  it('answers 500 for what throws, with nothing of it, and goes on', async () => {
    const routes: Routes = {
      '/sync': () => {
        throw new Error('secret');
      },
      '/async': () => Promise.reject(new Error('secret')),
      '/header': () => ({ status: 200, body: '', type: 'a\nb' }),
      '/healthz': ok,
    };
    await serve(routes, async (port) => {
      for (const path of ['/sync', '/async']) {
        const answer = await answerTo(port, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
        assert.match(answer, /^HTTP\/1\.1 500 /);
        assert.doesNotMatch(answer, /secret/);
      }
      const closed = await answerTo(port, 'GET /header HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      assert.equal(closed, '');
      assert.match(await answerTo(port, 'GET /healthz HTTP/1.0\r\n\r\n'), / 200 /);
    });
  });

  it('survives whoever leaves before the answer, upgrades, connects, and sends a body without end', async () => {
    let answer = (): void => {};
    const slow = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const routes: Routes = { '/slow': () => slow.then(ok), '/healthz': ok };
    await serve(routes, async (port) => {
      const gone = await open(port);
      gone.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n');
      const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
      const upgraded = await open(port);
      upgraded.write(`GET /healthz HTTP/1.1\r\nHost: x\r\n${upgrade}`);
      await answerTo(port, 'CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n');
      const chunk = `1000\r\n${'x'.repeat(4096)}\r\n`;
      const post = `POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(50)}`;
      assert.match(await answerTo(port, post), /^HTTP\/1\.1 200 .*\r\nconnection: close\r\n/is);
      gone.resetAndDestroy();
      upgraded.destroy();
      await once(gone, 'close');
      answer();
      assert.match(await answerTo(port, 'GET /healthz HTTP/1.0\r\n\r\n'), / 200 /);
    });
  });

  it('drops the oldest of too many connections, so that a new one has its answer', async () => {
    await serve({ '/healthz': ok }, async (port) => {
      const idle: Socket[] = [];
      for (let count = 0; count < 300; count++) idle.push((await open(port)).resume());
      assert.match(await answerTo(port, 'GET /healthz HTTP/1.0\r\n\r\n'), / 200 /);
      await waitFor('the oldest to be closed', () => idle.slice(0, 200).every(({ closed }) => closed));
      // The others have some seconds to say what they want.
      await waitFor('the rest to be closed', () => idle.every(({ closed }) => closed));
    });
  });

  it('whose port is taken is served once that is free', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as { port: number };
    const wanted = keepHttp('127.0.0.1', port, { '/healthz': ok }, log);
    try {
      await assert.rejects(wanted.refused, /cannot listen on 127\.0\.0\.1:\d+/);
      await once(holder.close(), 'close');
      await waitFor('an answer', async () =>
        (await answerTo(port, 'GET /healthz HTTP/1.0\r\n\r\n').catch(() => '')).includes(' 200 '),
      );
    } finally {
      await wanted.close();
    }
    await assert.rejects(open(port), 'closed is closed');
  });
});
