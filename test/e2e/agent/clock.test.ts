import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { stringify } from 'yaml';
import { httpAnswer, httpStatus } from '../../lab/http.ts';
import { withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { flannelLease } from '../overlay/state.ts';
import { healthFlags } from './readiness.ts';

/** Where Debian has the library that shows a process another time of day; the monotonic clock stays as it is. */
function fakeTime(): string {
  const [folder] = readdirSync('/usr/lib').filter((name) => /^(x86_64|aarch64)-linux-gnu$/.test(name));
  return `/usr/lib/${folder}/faketime/libfaketimeMT.so.1`;
}

/** Has agent and proxy of the node live at another time of day. @returns sets their clocks, e.g. by `-1h` */
function moveClocks(node: LabNode): (offset: string) => void {
  const file = join(node.dir, 'clock');
  const set = (offset: string): void => writeFileSync(file, `${offset}\n`);
  set('+0');
  mkdirSync(node.programs);
  const settings = `FAKETIME_TIMESTAMP_FILE=${file} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1`;
  const command = `exec env ${settings} LD_PRELOAD=${fakeTime()} ${process.execPath} "$@"`;
  // libfaketime leaves shared memory behind when its process is killed: in a place of its own that goes with the process.
  const script = `#!/bin/sh\nexec unshare --mount --propagation slave sh -c 'mount -t tmpfs tmpfs /dev/shm && ${command}' node "$@"\n`;
  writeFileSync(join(node.programs, 'node'), script, { mode: 0o755 });
  return set;
}

/** The time of day that the proxy believes in, in milliseconds since the epoch. */
async function clockOf(node: LabNode): Promise<number> {
  const answer = await httpAnswer(node.namespace, 10_256, '/healthz');
  return Date.parse(/"currentTime":"([^"]+)"/.exec(answer)![1]!);
}

for (const [what, offset, hours] of [
  ['back', '-3h', -3],
  ['on', '+3h', 3],
] as const)
  it(`a clock that is set ${what} stops no repair, no reconnection, and makes nothing unhealthy`, async () => {
    await withLab({ nodes: 1 }, async (lab) => {
      const node = lab.nodes[0]!;
      const setClocks = moveClocks(node);
      const objects = [
        serviceObject('shop/web', { clusterIP: '10.96.0.10', ports: [{ name: 'http', port: 80 }] }),
        sliceObject('shop/web', [{ name: 'http', port: 8080 }], [{ ip: '10.244.9.9', node: 'other' }]),
      ];
      lab.writeManifest('web.yaml', objects.map((object) => `---\n${stringify(object)}`).join(''));
      await node.startAgent([...healthFlags, '--resync=1', '--iptables-resync=1']);
      await node.startProxy(['--iptables-sync-period=3s']);
      const chain = async (): Promise<string | undefined> =>
        /^-A (KUBE-SVC-\S+) .*DNAT/m.exec(await node.exec('iptables-save', ['-t', 'nat']))?.[1];
      const serviceChain = await lab.waitFor('the rules of the Service', chain);
      const breakRules = async (): Promise<void> => {
        await node.exec('iptables', ['-t', 'nat', '-F', serviceChain]);
        await lab.waitFor('the rule of the Service', async () => (await chain()) === serviceChain);
      };
      // The first is found since rules changed at all; after that they are compared with the period, for a minute.
      await breakRules();
      await breakRules();

      setClocks(offset);
      await lab.waitFor('the clock to be another', async () => {
        const difference = (await clockOf(node)) - Date.now();
        return Math.abs(difference - hours * 3_600_000) < 60_000;
      });
      await breakRules();
      await lab.etcd.stop();
      await lab.etcd.start();
      const { key, value } = flannelLease(77, '02:00:00:00:00:77');
      await lab.etcd.client.put(key).value(value);
      await lab.waitFor('the route to a new lease', async () =>
        (await node.exec('ip', ['route'])).includes('10.244.77.0/24'),
      );
      await node.exec('ip', ['route', 'del', '10.244.77.0/24']);
      await lab.waitFor('that route again', async () =>
        (await node.exec('ip', ['route'])).includes('10.244.77.0/24'),
      );
      await node.exec('iptables', ['-t', 'nat', '-F', 'FLANNEL-POSTRTG']);
      await lab.waitFor('the masquerade rules', async () =>
        (await node.exec('iptables-save', ['-t', 'nat'])).includes('-A FLANNEL-POSTRTG'),
      );
      for (const [port, path] of [
        [9099, '/healthz'],
        [9099, '/readyz'],
        [10_256, '/healthz'],
      ] as const)
        assert.equal(await httpStatus(node.namespace, port, path), 200, `${port}${path}`);
      // What was asked for before is not late now.
      await breakRules();
    });
  });
