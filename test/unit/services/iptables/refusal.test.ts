import assert from 'node:assert/strict';
import { test } from 'node:test';
import pino from 'pino';
import { ipv4 } from '../../../../src/model/address.ts';
import { ProxyRules } from '../../../../src/services/iptables/rules.ts';
import { RefusingIptables } from '../../../lab/refusing-iptables.ts';
import { renderOptionsFor, serviceObject, sliceObject, stateOf } from '../../../lab/service-fixtures.ts';

const port = [{ name: 'http', port: 8080 }];

function state(
  name: string,
  clusterIP: string,
  ip: string,
  more: Record<string, unknown> = {},
): ReturnType<typeof stateOf> {
  const service = serviceObject(`ns/${name}`, { clusterIP, ports: [{ name: 'http', port: 80 }], ...more });
  return stateOf(service, sliceObject(`ns/${name}`, port, [{ ip }]));
}

function setUp(): { iptables: RefusingIptables; rules: ProxyRules } {
  const iptables = new RefusingIptables();
  const log = pino({ level: 'silent' });
  return {
    iptables,
    rules: new ProxyRules({
      family: ipv4,
      iptables,
      render: renderOptionsFor(ipv4),
      node: { name: 'n' },
      log,
    }),
  };
}

const good = state('good', '10.96.0.1', '10.244.0.1');
const affine = state('affine', '10.96.0.2', '10.244.0.2', { sessionAffinity: 'ClientIP' });
const later = state('later', '10.96.0.3', '10.244.0.3');

test('a Service the kernel refuses goes without rules, the others have theirs, and it is tried again', async () => {
  const { iptables, rules } = setUp();
  iptables.refuse = (line) => (line.includes('-m recent') ? 'no such match' : undefined);
  await rules.sync([good, affine, later], true);
  assert.deepEqual([...rules.refusals.keys()], ['ns/affine']);
  const nat = iptables.rules.save('nat');
  assert.ok(nat.includes('10.96.0.1') && nat.includes('10.96.0.3') && !nat.includes('10.96.0.2'));
  await rules.sync([state('later', '10.96.0.3', '10.244.0.9')], false);
  assert.ok(iptables.rules.save('nat').includes('10.244.0.9'));
  iptables.refuse = () => undefined;
  await rules.sync([affine], true);
  assert.equal(rules.refusals.size, 0);
  assert.ok(iptables.rules.save('nat').includes('10.96.0.2'));
});

test('a rule in a shared chain that is refused leads to its Service, too', async () => {
  const { iptables, rules } = setUp();
  iptables.refuse = (line) => (line.startsWith('-A KUBE-SERVICES -d 10.96.0.2/') ? 'whatever' : undefined);
  await rules.sync([good, affine], true);
  assert.deepEqual([...rules.refusals.keys()], ['ns/affine']);
});

test('after a failure that is nobody’s fault, everything is written the next time', async () => {
  const { iptables, rules } = setUp();
  await rules.sync([good], true);
  iptables.busy = true;
  await assert.rejects(rules.sync([later], false), /lock/);
  assert.equal(rules.refusals.size, 0);
  iptables.busy = false;
  const result = await rules.sync([], false);
  assert.equal(result.full, true);
  assert.ok(iptables.rules.save('nat').includes('10.96.0.3'));
});
