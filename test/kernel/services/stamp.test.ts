import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import pino from 'pino';
import { openIptables } from '../../../src/kernel/iptables.ts';
import { inNetns } from '../../../src/kernel/netns.ts';
import { openRulesStamp } from '../../../src/kernel/rules-stamp.ts';
import { ipv4 } from '../../../src/model/address.ts';
import { ProxyRules } from '../../../src/services/iptables/rules.ts';
import { withNamespace } from '../../lab/namespace.ts';
import { renderOptionsFor, serviceObject, sliceObject, stateOf } from '../../lab/service-fixtures.ts';

const log = pino({ level: 'silent' });
type State = ReturnType<typeof stateOf>;

/** A Service with so many endpoints, some on this node; with none it is refused in table filter. */
function service(index: number, endpoints: number): State {
  const name = `shop/svc-${index}`;
  const specs = Array.from({ length: endpoints }, (_, number) => ({
    ip: `10.244.${index}.${number + 1}`,
    node: number % 2 === 0 ? 'node-a' : 'node-b',
  }));
  const ports = [{ name: 'http', port: 80, nodePort: 30_000 + index }];
  return stateOf(
    serviceObject(name, { type: 'NodePort', clusterIP: `10.96.0.${index}`, ports }),
    sliceObject(name, [{ name: 'http', port: 8080 }], specs),
  );
}

for (const variant of ['nft', 'legacy'] as const) {
  describe(`the stamp of iptables-${variant}`, () => {
    test('changes of the proxy are told from those of others', async () => {
      await withNamespace('stamp', async (namespace) => {
        const stamp = inNetns(namespace.path, () => openRulesStamp(ipv4, variant));
        const iptables = openIptables(ipv4, variant, namespace.name);
        const render = renderOptionsFor(ipv4);
        const rules = new ProxyRules({ family: ipv4, iptables, render, node: { name: 'node-a' }, log });
        await rules.sync([service(1, 2), service(2, 1), service(3, 0)], true);
        const changes: State[][] = [
          [service(1, 3)],
          [service(1, 3), service(2, 0)],
          [service(3, 4), service(4, 2)],
          [['shop/svc-1', { service: undefined, slices: [] }]],
          [],
        ];
        const foreign = [
          ['-t', 'nat', '-D', 'PREROUTING', '1'],
          ['-t', 'nat', '-F', 'KUBE-SERVICES'],
          ['-t', 'filter', '-F', 'FORWARD'],
          ['-t', 'nat', '-A', 'POSTROUTING', '-j', 'RETURN'],
          ['-t', 'nat', '-F'],
        ];
        for (const [index, change] of changes.entries()) {
          const before = await stamp.read();
          const written = await rules.sync(change, false);
          assert.equal(stamp.explains(before, await stamp.read(), written), true, `change ${index}`);
        }
        for (const [index, change] of changes.entries()) {
          const before = await stamp.read();
          await namespace.exec(`iptables-${variant}`, foreign[index]!);
          // What was removed is not there to be written over: only the counting is looked at here.
          const written = await rules.sync(change, false);
          assert.equal(
            stamp.explains(before, await stamp.read(), written),
            false,
            `${foreign[index]!.join(' ')} beside change ${index}`,
          );
        }
        stamp.close();
      });
    });
  });
}
