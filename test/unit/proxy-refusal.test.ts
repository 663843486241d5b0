import assert from 'node:assert/strict';
import { test } from 'node:test';
import pino from 'pino';
import type { Iptables } from '../../src/kernel/iptables.ts';
import { ipv4 } from '../../src/model/address.ts';
import { TwillError } from '../../src/model/error.ts';
import { ProxyRules } from '../../src/reconcile/proxy-rules.ts';
import { renderOptionsFor, serviceObject, sliceObject, stateOf } from '../lab/service-fixtures.ts';
import { SimulatedIptables } from '../lab/simulated-iptables.ts';

/** Simulated rules behind the real interface; `refuse` says which line the kernel does not take. */
class RefusingIptables implements Iptables {
  readonly family = ipv4;
  readonly variant = 'nft';
  readonly rules = new SimulatedIptables();
  refuse: (line: string) => string | undefined = () => undefined;
  busy = false;

  save(table: string): Promise<string> {
    return Promise.resolve(`*${table}\n${this.rules.save(table)}\nCOMMIT\n`);
  }

  list(table: string, chain: string): Promise<string[] | undefined> {
    return Promise.resolve(this.rules.tables[table]!.get(chain)?.map((rule) => `-A ${chain} ${rule}`));
  }

  restore(document: string): Promise<void> {
    if (this.busy) return Promise.reject(new TwillError('timeout', 'the lock was not got'));
    const lines = document.split('\n');
    const at = lines.findIndex((line) => this.refuse(line) !== undefined);
    if (at !== -1)
      return Promise.reject(
        new TwillError('invalid', `refused: line ${at + 1} failed: ${this.refuse(lines[at]!)}`),
      );
    this.rules.restore(document);
    return Promise.resolve();
  }
}

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
