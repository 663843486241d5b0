import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import pino from 'pino';
import { Viewers } from '../../../src/agent/page/viewers.ts';
import { MOST_TEXT } from '../../../src/inspect/page/plan/changes.ts';
import { sendRaw } from '../../lab/http.ts';
import { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { waitFor } from '../../lab/wait.ts';

const PORT = 9090;

describe('the server of the page', () => {
  let lab: Lab;
  let node: LabNode;
  const streams: ChildProcess[] = [];

  const ask = (target: string, { method = 'GET', host = '127.0.0.1', more = '' } = {}): Promise<string> =>
    sendRaw(
      node.namespace,
      PORT,
      `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\n${more}Connection: close\r\n\r\n`,
    );

  /** Begins to listen, and says what has come so far. */
  const listen = (): { text: () => string; child: ChildProcess } => {
    const request = 'GET /events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n';
    const script = `exec 3<>/dev/tcp/127.0.0.1/${PORT}; printf '${request}' >&3; exec cat <&3`;
    const child = node.namespace.spawn('bash', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    streams.push(child);
    return { text: () => text, child };
  };

  /** Processes that the agent has started to look. */
  const lookers = (): string[] =>
    readFileSync(`/proc/${node.agent!.pid}/task/${node.agent!.pid}/children`, 'utf8')
      .split(' ')
      .filter((pid) => pid !== '' && commandOf(pid).includes('page-feed'));

  before(async () => {
    lab = await Lab.start({ nodes: 1 });
    node = lab.nodes[0]!;
    await node.startAgent();
    assert.equal(await ask('/'), '', 'nobody listens who was not asked to');
    await node.agent!.stop();
    // Somebody else has the port for now: the agent does its work, and serves the page when it is free.
    const holder = node.namespace.spawn(
      process.execPath,
      ['-e', `require('node:net').createServer().listen(${PORT}, '127.0.0.1', () => console.log('there'))`],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(holder.stdout!, 'data');
    await node.startAgent([
      `--page-bind-address=127.0.0.1:${PORT}`,
      '--page-host=twill.example',
      `--proxy-socket=${node.proxySocket}`,
    ]);
    await lab.waitFor('word of it', () =>
      /the page cannot be served, will retry .*error=cannot listen on 127\.0\.0\.1:9090/.test(
        node.agent!.log(),
      ),
    );
    holder.kill('SIGKILL');
    await lab.waitFor('the page', async () => (await ask('/')).startsWith('HTTP/1.1 200 '));
  });

  after(async () => {
    for (const child of streams) child.kill('SIGKILL');
    await lab?.stop();
  });

  it('serves the page by its own names alone, to nobody in a frame, and takes nothing but GET', async () => {
    const answer = await ask('/');
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(answer, /\r\ncontent-security-policy: default-src 'none'; script-src 'self';/);
    assert.match(answer, /\r\nx-content-type-options: nosniff\r\n/);
    assert.match(answer, /\r\nx-frame-options: DENY\r\n/);
    assert.doesNotMatch(answer, /access-control-/i);
    for (const [target, type] of [
      ['/page.js', 'text/javascript'],
      ['/page.css', 'text/css'],
      ['/icon.svg', 'image/svg+xml'],
    ])
      assert.match(
        await ask(target!),
        new RegExp(`^HTTP/1\\.1 200 OK\\r\\n[\\s\\S]*content-type: ${type!.replace('+', '\\+')}`),
      );
    for (const host of ['evil.example', '127.0.0.1.evil.example', ''])
      for (const target of ['/', '/events', '/trace?from=node&to=outside'])
        assert.match(await ask(target, { host }), /^HTTP\/1\.1 (421|400) /, `${host}${target}`);
    for (const host of ['twill.example', 'localhost:1', '[::1]', '192.0.2.11'])
      assert.match(await ask('/', { host }), /^HTTP\/1\.1 200 /, host);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS'])
      assert.match(await ask('/trace?from=node&to=outside', { method }), /^HTTP\/1\.1 405 /, method);
    for (const target of ['/events', '/trace?from=node&to=outside', '/page.js'])
      assert.match(await ask(target, { more: 'Sec-Fetch-Site: cross-site\r\n' }), /^HTTP\/1\.1 403 /, target);
    for (const target of ['/metrics', '/..%2fagent-state.json', '/page.js/', '/__proto__'])
      assert.match(await ask(target), /^HTTP\/1\.1 404 /, target);
    assert.deepEqual(lookers(), []);
  });

  it('looks while somebody does, tells who comes later all there is, and stops when the last is gone', async () => {
    const first = listen();
    await waitFor('a look', () => /event: looked/.test(first.text()), { explain: first.text });
    assert.match(first.text(), /\r\ncontent-type: text\/event-stream\r\n/);
    for (const name of ['beat', 'status', 'nodes', 'pods', 'drift'])
      assert.match(first.text(), new RegExp(`^event: ${name}\\ndata: \\{`, 'm'));
    assert.match(
      first.text(),
      /event: unknown\ndata: \{"part":"services","why":".*no proxy of Twill runs on this node/,
    );
    assert.match(first.text(), /event: status\ndata: \{.*"verdict":"/);
    const [looker] = lookers();
    assert.equal(readFileSync(`/proc/${looker}/oom_score_adj`, 'utf8').trim(), '500');
    const second = listen();
    await waitFor('all of it', () => /event: nodes\ndata: \{"whole":true/.test(second.text()));
    assert.equal(lookers().length, 1);
    // Who knows it all is told nothing of it again.
    assert.equal(first.text().match(/^event: nodes\ndata: \{"whole":true/gm)?.length, 1);
    // One that dies is started again, and the page is told.
    process.kill(Number(lookers()[0]), 'SIGKILL');
    await waitFor('word of it', () =>
      /event: stalled\ndata: \{"why":"it ended with SIGKILL"/.test(second.text()),
    );
    await waitFor('another', () => lookers().length === 1);
    for (const { child } of [first, second]) child.kill('SIGKILL');
    await waitFor('nobody to look', () => lookers().length === 0);
  });

  it('serves sixteen, and has the oldest go for one more', async () => {
    const oldest = listen();
    await waitFor('the first', () => oldest.text() !== '');
    const others = Array.from({ length: 15 }, listen);
    await waitFor('fifteen more', () => others.every(({ text }) => text() !== ''));
    assert.doesNotMatch(oldest.text(), /replaced/);
    const newest = listen();
    await waitFor('the oldest to be told', () => /event: replaced/.test(oldest.text()));
    await waitFor('the newest', () => newest.text() !== '');
    for (const { child } of [oldest, newest, ...others]) child.kill('SIGKILL');
  });

  it('traces two at a time, and never sends anything', async () => {
    const target = '/trace?from=node&to=192.0.2.1%3A80&probe=true';
    const answers = await Promise.all(Array.from({ length: 12 }, () => ask(target)));
    const of = (status: number): string[] => answers.filter((one) => one.startsWith(`HTTP/1.1 ${status} `));
    assert.ok(of(200).length >= 2 && of(429).length >= 1, answers.map((one) => one.slice(0, 12)).join());
    assert.equal(of(200).length + of(429).length, 12);
    assert.match(of(200)[0]!, /\{"trace":\{"title":"node node1 .*"verdict":"delivered"/);
    assert.doesNotMatch(of(200)[0]!, /real packet/i);
    assert.match(await ask('/trace?from=node'), /^HTTP\/1\.1 400 [\s\S]*say where the packet comes from/);
    assert.match(
      await ask('/trace?from=nobody&to=node'),
      /^HTTP\/1\.1 200 [\s\S]*"error":"'nobody' is no pod/,
    );
  });

  it('leaves nobody behind who looks when it is killed', async () => {
    const { text } = listen();
    await waitFor('a beat', () => text() !== '' && lookers().length === 1);
    const [pid] = lookers();
    await node.agent!.kill();
    await waitFor('the looker to end', () => !commandOf(pid!).includes('page-feed'));
  });
});

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** A server of its own for pages, and one page that listens to it. */
async function withViewers(work: (viewers: Viewers, socket: Socket) => Promise<void>): Promise<void> {
  const viewers = new Viewers({ log: pino({ level: 'silent' }), came: () => true, allGone: () => {} });
  const server = createServer((_, response) => viewers.add(response, {}));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => {});
  try {
    socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await waitFor('it to come', () => viewers.count === 1);
    await work(viewers, socket);
  } finally {
    socket.destroy();
    server.close();
  }
}

it('a page that takes nothing is dropped before it has the agent keep megabytes', async () => {
  await withViewers(async (viewers, socket) => {
    socket.pause();
    const event = `event: beat\ndata: "${'x'.repeat(100_000)}"\n\n`;
    let told = 0;
    await waitFor('it to go', () => {
      viewers.tell(event);
      told += event.length;
      return viewers.count === 0;
    });
    // What the kernel's buffers took comes on top.
    assert.ok(told < 30_000_000, `${told}`);
  });
});

it('a page that reads is told the longest lists at once, and once', async () => {
  await withViewers(async (viewers, socket) => {
    let told = '';
    socket.setEncoding('latin1').on('data', (text: string) => {
      told += text;
    });
    const list = (name: string): string => `event: ${name}\ndata: "${'x'.repeat(MOST_TEXT)}"\n\n`;
    viewers.tellNew(list('nodes') + list('services'));
    viewers.tellNew(list('nodes'));
    viewers.tell('event: looked\ndata: {}\n\n');
    await waitFor('the end of it', () => told.includes('event: looked'));
    assert.deepEqual(told.match(/event: (?:nodes|services|looked)/g), [
      'event: nodes',
      'event: services',
      'event: looked',
    ]);
    assert.equal(viewers.count, 1);
  });
});
