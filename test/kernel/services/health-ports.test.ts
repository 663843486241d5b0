import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import pino from 'pino';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { HealthPorts, listenHosts, type WantedPort } from '../../../src/services/health-ports.ts';
import { localReadyCounts } from '../../../src/services/plan/table.ts';
import { sliceObject, stateOf } from '../../lab/service-fixtures.ts';
import { waitFor } from '../../lab/wait.ts';

async function answer(
  port: number,
  host = '127.0.0.1',
): Promise<{ status: number; weight: string | null; body: unknown }> {
  const response = await fetch(`http://${host}:${port}/`, { signal: AbortSignal.timeout(20_000) });
  const weight = response.headers.get('x-load-balancing-endpoint-weight');
  return { status: response.status, weight, body: await response.json() };
}

async function answers(port: number, ...hosts: readonly string[]): Promise<string> {
  const served = hosts.map((host) =>
    answer(port, host).then(
      () => [host],
      () => [],
    ),
  );
  return (await Promise.all(served)).flat().join(' ');
}

/** A port of a Service with both families. */
function web(port: number, count: number): WantedPort {
  const counts = new Map([
    [ipv4, count],
    [ipv6, count],
  ]);
  return { service: 'shop/web', port, counts };
}

/** Below those that the kernel gives to whoever asks for any: a port that was let go of must not be somebody's at once. */
let nextPort = 20_000;

/** A port that somebody holds until told not to. */
async function held(host?: string): Promise<{ port: number; release: () => Promise<unknown> }> {
  for (;;) {
    const port = nextPort++;
    const holder = createServer((socket) => socket.destroy()).listen({ port, host });
    // One that another program of this machine has is passed over.
    const holds = await once(holder, 'listening').then(
      () => true,
      () => false,
    );
    if (holds) return { port, release: () => once(holder.close(), 'close') };
  }
}

test('a health check port says how many endpoints are here, and is served once whoever held it is gone', async () => {
  let healthy = true;
  const ports = new HealthPorts(() => healthy, pino({ level: 'silent' }));
  try {
    const { port, release } = await held();
    ports.update([web(port, 2)]);
    await release();
    const first = await waitFor('an answer', () => answer(port));
    const service = { namespace: 'shop', name: 'web' };
    assert.deepEqual(first, {
      status: 200,
      weight: '2',
      body: { service, localEndpoints: 2, serviceProxyHealthy: true },
    });
    ports.update([web(port, 0)]);
    assert.equal((await answer(port)).status, 503);
    ports.update([web(port, 1)]);
    healthy = false;
    assert.equal((await answer(port)).status, 503);
    healthy = true;
    // Another Service takes the port over in one change, whichever is told first.
    ports.update([{ ...web(port, 1), service: 'shop/other' }, web(0, 0)]);
    await waitFor('the other Service', async () =>
      JSON.stringify((await answer(port)).body).includes('"other"'),
    );
  } finally {
    ports.stop();
  }
});

test('health check ports are served on the addresses that serve node ports, one that cannot be being tried again', async () => {
  const said: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line) => void said.push(JSON.parse(line).address) });
  const ports = new HealthPorts(() => true, log);
  const hosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '[::1]'];
  try {
    const { port, release } = await held('127.0.0.2');
    ports.listenOn(['127.0.0.2', '127.0.0.3', '198.51.100.77']);
    ports.update([web(port, 1)]);
    const serving = (want: string) => async () => (await answers(port, ...hosts)) === want;
    await waitFor('the address that is free', serving('127.0.0.3'));
    await waitFor('those that are not to be told', () => said.length === 2);
    assert.deepEqual(said.sort(), ['127.0.0.2', '198.51.100.77']);
    await release();
    await waitFor('the address that was taken', serving('127.0.0.2 127.0.0.3'));
    // The node's addresses change.
    ports.listenOn(['127.0.0.1', '127.0.0.2']);
    await waitFor('the other addresses', serving('127.0.0.1 127.0.0.2'));
    ports.listenOn(['0.0.0.0']);
    await waitFor('all of IPv4', serving('127.0.0.1 127.0.0.2 127.0.0.3'));
    ports.listenOn(['127.0.0.3', '::']);
    await waitFor('all of IPv6 beside one of IPv4', serving('127.0.0.3 [::1]'));
    ports.listenOn(['']);
    await waitFor('all', serving('127.0.0.1 127.0.0.2 127.0.0.3 [::1]'));
    ports.listenOn([]);
    await waitFor('none', serving(''));
  } finally {
    ports.stop();
  }
});

test('a family all of whose addresses serve is listened on as a whole', () => {
  const of = (four: string[] | undefined, six: string[] | undefined): string =>
    listenHosts([
      { family: ipv4, addresses: four },
      { family: ipv6, addresses: six },
    ]).join(' ');
  assert.equal(of(undefined, undefined), '');
  assert.equal(of(['192.0.2.1'], undefined), '192.0.2.1 ::');
  assert.equal(of(undefined, ['2001:db8::1', 'fe80::1']), '0.0.0.0 2001:db8::1');
  assert.equal(of([], []), '');
  assert.deepEqual(listenHosts([{ family: ipv4, addresses: undefined }]), ['0.0.0.0']);
  assert.deepEqual(listenHosts([{ family: ipv4, addresses: [] }]), []);
});

test('a port answers in the families of its Service, each with its own count', async () => {
  const said: string[] = [];
  const ports = new HealthPorts(
    () => true,
    pino({ level: 'warn' }, { write: (line) => void said.push(line) }),
  );
  try {
    const { port, release } = await held();
    await release();
    const counts = new Map([
      [ipv4, 0],
      [ipv6, 2],
    ]);
    ports.update([{ service: 'shop/web', port, counts }]);
    const both = await waitFor('an answer', () => answer(port, '[::1]'));
    assert.deepEqual([both.status, both.weight], [200, '2']);
    assert.equal((await answer(port)).status, 503);
    ports.update([{ service: 'shop/web', port, counts: new Map([[ipv4, 1]]) }]);
    await waitFor('IPv4 alone', async () => (await answers(port, '127.0.0.1', '[::1]')) === '127.0.0.1');
    ports.update([{ service: 'shop/web', port, counts: new Map([[ipv6, 1]]) }]);
    await waitFor('IPv6 alone', async () => (await answers(port, '127.0.0.1', '[::1]')) === '[::1]');
    assert.deepEqual(said, [], 'a port that is ours already is no trouble');
  } finally {
    ports.stop();
  }
});

/** What comes of a request over a connection of its own, begun with all others. */
function ask(port: number, host: string): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    connect(port, host)
      .on('connect', function (this: Socket) {
        this.end('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      })
      .on('data', (data) => {
        text += String(data);
      })
      .on('end', () => resolve(/"name":"([^"]*)"/.exec(text)?.[1] ?? 'nothing'))
      .on('error', (error: NodeJS.ErrnoException) => resolve(String(error.code)));
  });
}

test('hundreds of ports are asked at once, in both families, and each answers; ports that move in a circle, too', async () => {
  const ports = new HealthPorts(() => true, pino({ level: 'silent' }));
  try {
    const free = await Promise.all(Array.from({ length: 300 }, () => held()));
    await Promise.all(free.map(({ release }) => release()));
    const all = free.map(({ port }, index) => ({ ...web(port, 1), service: `shop/s${index}` }));
    for (const wanted of [all, all.map((one, index) => ({ ...one, port: all.at(index - 1)!.port }))]) {
      ports.update(wanted);
      const hosts = ['127.0.0.1', '::1'];
      const names = (): Promise<string[]> =>
        Promise.all(wanted.flatMap(({ port }) => hosts.map((host) => ask(port, host))));
      await waitFor('the last one', async () => (await ask(wanted.at(-1)!.port, '::1')) === 's299');
      const expected = wanted.flatMap(({ service }) => hosts.map(() => service.slice(5)));
      assert.deepEqual(await names(), expected);
    }
  } finally {
    ports.stop();
  }
});

test('a port that is given up before it was listened on, and comes back, is that of the Service that came back', async () => {
  const ports = new HealthPorts(() => true, pino({ level: 'silent' }));
  try {
    const { port, release } = await held();
    await release();
    ports.listenOn(['127.0.0.1', '::1']);
    ports.update([web(port, 1)]);
    ports.update([web(0, 0)]);
    ports.update([{ ...web(port, 1), service: 'shop/other' }]);
    await waitFor('the other one', async () => (await ask(port, '127.0.0.1')) === 'other');
    assert.equal(await ask(port, '::1'), 'other');
    ports.update([{ ...web(0, 0), service: 'shop/other' }]);
    assert.equal(await ask(port, '127.0.0.1'), 'ECONNREFUSED');
  } finally {
    ports.stop();
  }
});

test('a client may ask again over one connection after a pause', async () => {
  const ports = new HealthPorts(() => true, pino({ level: 'silent' }));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const { port, release } = await held();
    await release();
    ports.update([web(port, 1)]);
    const keepAlive = await waitFor('an answer', async () => {
      const [response] = (await once(get({ port, host: '127.0.0.1', agent }), 'response')) as [
        IncomingMessage,
      ];
      response.resume();
      await once(response, 'end');
      return response.headers['keep-alive'];
    });
    // Longer than load balancers and Prometheus pause.
    assert.equal(keepAlive, 'timeout=75');
  } finally {
    agent.destroy();
    ports.stop();
  }
});

test('endpoints count once, where they are ready, here, and serve a port that the Service has', () => {
  const spec = { clusterIPs: ['10.96.0.1', 'fd00:96::1'], ports: [{ name: 'web', port: 80 }] };
  const web = [{ name: 'web', port: 8080 }];
  const ending = { ready: true, serving: true, terminating: true };
  const [, state] = stateOf(
    { metadata: { namespace: 'shop', name: 'web' }, spec },
    sliceObject('shop/web/1', web, [
      { ip: '10.244.0.1', node: 'a' },
      { ip: '10.244.0.2', node: 'b' },
      { ip: '10.244.0.3', node: 'a', ready: false },
    ]),
    sliceObject('shop/web/2', web, [
      { ip: '10.244.0.1', node: 'a' },
      { ip: '10.244.0.3', node: 'a', ...ending },
    ]),
    sliceObject('shop/web/3', [{ name: 'other', port: 1 }], [{ ip: '10.244.0.4', node: 'a' }]),
    sliceObject('shop/web/4', [], [{ ip: '10.244.0.5', node: 'a' }]),
    sliceObject('shop/web/6', web, [{ ip: 'fd00::2', node: 'b' }]),
  );
  assert.deepEqual([...localReadyCounts(state, { name: 'a' }).values()], [1, 0]);
  assert.deepEqual([...localReadyCounts(state, { name: 'b' }).values()], [1, 1]);
  const one = { ...state, service: { ...state.service!, clusterIPs: ['fd00:96::1'] } };
  assert.deepEqual([...localReadyCounts(one, { name: 'b' })], [[ipv6, 1]]);
});
