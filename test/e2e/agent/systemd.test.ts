import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { root } from '../../lab/files.ts';
import { type Lab, podSubnets, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';

/** Listens where systemd would. @returns the lines that came, as they come */
async function listen(node: LabNode, name: string): Promise<string[]> {
  const script = join(import.meta.dirname, '../../lab/notify-listener.js');
  const child = node.namespace.spawn(process.execPath, [script, name], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const said: string[] = [];
  const lines = createInterface({ input: child.stdout! });
  await once(lines, 'line');
  lines.on('line', (line) => said.push(...(JSON.parse(line) as string).split('\n')));
  return said;
}

const service = (name: string, watchdogMs?: number): string[] => [
  'sh',
  '-c',
  `export NOTIFY_SOCKET=${name}; ${watchdogMs === undefined ? '' : `export WATCHDOG_PID=$$ WATCHDOG_USEC=${watchdogMs * 1000};`} exec "$@"`,
  'sh',
];

const count = (said: readonly string[], word: string): number => said.filter((line) => line === word).length;

async function hears(lab: Lab, said: readonly string[], word: string | RegExp): Promise<void> {
  await lab.waitFor(`${word}`, () =>
    said.some((line) => (typeof word === 'string' ? line === word : word.test(line))),
  );
}

describe('systemd hears', () => {
  it('of the agent: what it waits for, that it is ready once the node has its subnet, that it lives and stops', async () => {
    await withLab({ nodes: 1, underlay: 'ipv4', networkConfig: null }, async (lab) => {
      const node = lab.nodes[0]!;
      const name = join(node.dir, 'notify');
      const said = await listen(node, name);
      node.prefix = service(name, 600);
      await node.startAgent([], false);
      await hears(lab, said, /^STATUS=.*network\/config is missing in etcd/);
      await hears(lab, said, 'WATCHDOG=1');
      assert.equal(count(said, 'READY=1'), 0);
      const config = { ...podSubnets, Backend: { Type: 'vxlan' } };
      await lab.etcd.put('/coreos.com/network/config', JSON.stringify(config));
      await hears(lab, said, 'READY=1');
      assert.match(readFileSync(node.subnetFile, 'utf8'), /FLANNEL_SUBNET=/);
      await hears(lab, said, /^STATUS=pods' subnet 10\.244\.\d+\.0-24$/);
      const alive = count(said, 'WATCHDOG=1');
      await lab.waitFor('further signs of life', () => count(said, 'WATCHDOG=1') > alive + 1);
      await node.agent!.stop();
      await hears(lab, said, 'STOPPING=1');
      assert.equal(count(said, 'READY=1'), 1);
    });
  });

  it('of the proxy, at an abstract socket: that it is ready once the first rules stand; and no sign of life that nobody asked for', async () => {
    await withLab({ nodes: 1, underlay: 'ipv4', networkConfig: null }, async (lab) => {
      const node = lab.nodes[0]!;
      const said = await listen(node, '@twill/notify');
      node.prefix = service('@twill/notify');
      await node.startProxy();
      await hears(lab, said, 'READY=1');
      assert.match(await node.exec('iptables-save', ['-t', 'nat']), /:KUBE-SERVICES /);
      await hears(lab, said, 'STATUS=the rules of all Services stand');
      await node.proxy!.stop();
      await hears(lab, said, 'STOPPING=1');
      assert.equal(count(said, 'WATCHDOG=1'), 0);
    });
  });
});

describe('the units that are shipped', () => {
  for (const program of ['agent', 'proxy']) {
    it(`that of the ${program} is of the kind that notifies, and keeps its state`, () => {
      const text = readFileSync(join(root, `dist/systemd/twill-${program}.service`), 'utf8');
      const setting = (name: string): string | undefined => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1];
      assert.equal(setting('Type'), 'notify');
      assert.equal(setting('NotifyAccess'), 'main');
      assert.match(setting('WatchdogSec') ?? '', /^\d+$/);
      assert.match(setting('ExecStart') ?? '', new RegExp(`/twill ${program}( |$)`));
      assert.equal(setting('RuntimeDirectory'), undefined);
    });
  }
});
