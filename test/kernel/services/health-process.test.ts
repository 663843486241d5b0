import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { type Running, startProxy } from '../../lab/proxy-process.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { waitFor } from '../../lab/wait.ts';

/** Asks every port at every address at once, each over a connection of its own. @returns by `address port` who answers */
async function askAll(
  node: Namespace,
  ports: readonly number[],
  addresses: readonly string[],
): Promise<Record<string, string>> {
  const script = `
    const [ports, addresses] = JSON.parse(process.argv[1]);
    const ask = (port, host) => new Promise((resolve) => {
      let text = '';
      require('node:net').connect(port, host)
        .on('connect', function () { this.end('GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'); })
        .on('data', (data) => { text += data; })
        .on('end', () => resolve(/"name":"([^"]*)"/.exec(text)?.[1] ?? 'nothing'))
        .on('error', (error) => resolve(error.code));
    });
    const all = ports.flatMap((port) => addresses.map((host) => [host + ' ' + port, ask(port, host)]));
    Promise.all(all.map(async ([key, answer]) => [key, await answer]))
      .then((answers) => console.log(JSON.stringify(Object.fromEntries(answers))));`;
  const given = JSON.stringify([ports, addresses]);
  return JSON.parse(await node.exec(process.execPath, ['-e', script, given])) as Record<string, string>;
}

function balanced(name: string, index: number, healthCheckNodePort: number): Record<string, unknown>[] {
  const low = `${index >> 8}.${index & 255}`;
  const service = serviceObject(`shop/${name}`, {
    ...{ type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort },
    clusterIPs: [`10.96.${low}`, `fd00:96::${index.toString(16)}`],
    ports: [{ name: 'http', port: 80, nodePort: 30_000 + index }],
  });
  const port = [{ name: 'http', port: 8080 }];
  return [service, sliceObject(`shop/${name}`, port, [{ ip: `10.244.${low}`, node: 'node1' }])];
}

async function withProxy(
  node: Namespace,
  work: (write: (objects: readonly object[]) => void, proxy: Running) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'twill-health-'));
  try {
    const write = (objects: readonly object[]): void => {
      writeFileSync(join(directory, '.new'), objects.map((one) => `---\n${stringify(one)}`).join(''));
      renameSync(join(directory, '.new'), join(directory, 'all.yaml'));
    };
    const args = [`--manifests=${directory}`, '--hostname-override=node1', '--healthz-bind-address='];
    const proxy = startProxy(node, args);
    await work(write, proxy);
    proxy.child.kill();
    await once(proxy.child, 'exit');
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const count = 150;
const both = ['127.0.0.1', '::1'];

test('every health check port answers: all at once, after they moved in a circle, after a Service came back', async () => {
  await withNamespace('health', async (node) => {
    await withProxy(node, async (write, { text }) => {
      const numbers = Array.from({ length: count }, (_, index) => index);
      const ports = numbers.map((index) => 32_000 + index);
      const expected = (nameAt: (index: number) => string): Record<string, string> =>
        Object.fromEntries(
          numbers.flatMap((index) => both.map((host) => [`${host} ${32_000 + index}`, nameAt(index)])),
        );
      const settle = async (what: string, nameAt: (index: number) => string): Promise<void> => {
        // The last Service's answer says that the change is there: then each is asked once, and answers.
        const last = `::1 ${32_000 + count - 1}`;
        const changed = async (): Promise<boolean> =>
          (await askAll(node, [32_000 + count - 1], both))[last] === nameAt(count - 1);
        await waitFor(what, changed, { explain: text });
        assert.deepEqual(await askAll(node, ports, both), expected(nameAt), what);
      };
      write(numbers.flatMap((index) => balanced(`s${index}`, index, 32_000 + index)));
      await settle('the first answers', (index) => `s${index}`);
      write(numbers.flatMap((index) => balanced(`s${index}`, index, 32_000 + ((index + 1) % count))));
      await settle('a circle', (index) => `s${(index + count - 1) % count}`);
      // Others with the same ports, in one change.
      write(numbers.flatMap((index) => balanced(`t${index}`, index, 32_000 + index)));
      await settle('others', (index) => `t${index}`);
      write([]);
      await waitFor('none', async () => (await askAll(node, [32_000], both))['::1 32000'] === 'ECONNREFUSED');
      write(numbers.flatMap((index) => balanced(`t${index}`, index, 32_000 + index)));
      await settle('the same again', (index) => `t${index}`);
    });
  });
});

test('where IPv6 is turned off the port of a Service with both families answers over IPv4', async () => {
  await withNamespace('health4', async (node) => {
    node.sysctl({ 'net/ipv6/conf/all/disable_ipv6': '1', 'net/ipv6/conf/lo/disable_ipv6': '1' });
    await withProxy(node, async (write, { text }) => {
      write(balanced('web', 1, 32_000));
      const answers = async (): Promise<boolean> =>
        (await askAll(node, [32_000], ['127.0.0.1']))['127.0.0.1 32000'] === 'web';
      await waitFor('an answer', answers, { explain: text });
    });
  });
});
