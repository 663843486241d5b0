import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import pino from 'pino';
import { type IptablesVariant, openIptables } from '../../../src/kernel/iptables.ts';
import { families } from '../../../src/model/address.ts';
import { isTwillError } from '../../../src/model/error.ts';
import { isOwnChain } from '../../../src/services/iptables/plan/names.ts';
import { ProxyRules } from '../../../src/services/iptables/rules.ts';
import { parseEndpointSlice, parseService } from '../../../src/services/plan/parse.ts';
import { objectKey } from '../../../src/services/plan/service.ts';
import { ServiceTracker } from '../../../src/services/plan/tracker.ts';
import { hostileObjects, injected } from '../../lab/hostile-objects.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { renderOptionsFor } from '../../lab/service-fixtures.ts';

const ROUNDS = 5;
const OBJECTS = 300;
/** Other objects with another number; a failure names it. */
const SEED = Number(process.env.TWILL_TEST_SEED ?? 20_261_126);

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heap(): number {
  collect();
  return process.memoryUsage().heapUsed;
}

/** Takes an object as a source does. @returns false when it was refused, by an error that names why */
function take(tracker: ServiceTracker, object: Record<string, unknown>): boolean {
  const kind = object.kind === 'EndpointSlice' ? 'slice' : 'service';
  try {
    const parsed = kind === 'slice' ? parseEndpointSlice(object) : parseService(object);
    for (const problem of parsed?.problems ?? []) assert.ok(problem.length < 500, problem);
    const value = parsed?.value;
    if (value === undefined) return false;
    tracker.apply({ kind, key: objectKey(value), value } as Parameters<ServiceTracker['apply']>[0]);
    return true;
  } catch (error) {
    assert.ok(isTwillError(error, 'invalid'), String(error));
    assert.ok((error as Error).message.length < 1000);
    return false;
  }
}

const builtIn = /^(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING|KUBE-FIREWALL)$/;

/** Fails unless all that stands is what a proxy writes. */
async function nothingInjected(namespace: Namespace, program: string): Promise<string> {
  const saved = await namespace.exec(`${program}-save`, []);
  assert.ok(!saved.includes(injected));
  for (const line of saved.split('\n')) {
    const [, chain] = /^(?::|-A )(\S+)/.exec(line) ?? [];
    if (chain !== undefined) assert.ok(builtIn.test(chain) || isOwnChain(chain), line);
    const [, target] = / -[jg] (\S+)/.exec(line) ?? [];
    if (target?.includes('-') === true) assert.ok(isOwnChain(target) || target === 'KUBE-FIREWALL', line);
    assert.match(line, /^(#.*|\*\w+|COMMIT|[:-][\x20-\x7e]{1,500}|)$/);
  }
  return saved
    .split('\n')
    .filter((line) => /^[-:]/.test(line))
    .sort()
    .join('\n')
    .replaceAll(/ \[\d+:\d+\]/g, '');
}

for (const variant of ['nft', 'legacy'] as const satisfies readonly IptablesVariant[])
  for (const family of families)
    describe(`objects from hostile hands, ${family.iptables}-${variant}`, () => {
      test(`come to no rule that is not a proxy's, and leave nothing (seed ${SEED})`, () =>
        withNamespace('fuzz', async (namespace) => {
          const rules = new ProxyRules({
            family,
            iptables: openIptables(family, variant, namespace.name),
            render: renderOptionsFor(family),
            node: { name: 'node-a' },
            log: pino({ level: 'silent' }),
          });
          const tracker = new ServiceTracker();
          const sync = async (full: boolean): Promise<void> => {
            const states = [...tracker.takeDirty().keys].map((key) => [key, tracker.state(key)] as const);
            await rules.sync(states, full);
            assert.deepEqual([...rules.refusals], [], 'what was taken can be written');
          };
          await sync(true);
          const program = `${family.iptables}-${variant}`;
          const empty = await nothingInjected(namespace, program);
          const before = heap();
          let taken = 0;
          for (let round = 0; round < ROUNDS; round++) {
            for (const object of hostileObjects(SEED + round, OBJECTS)) if (take(tracker, object)) taken++;
            await sync(false);
            await nothingInjected(namespace, program);
            // What stands is what was written: a full comparison finds nothing to do.
            assert.equal((await rules.sync([], true)).bytes, 0, `round ${round}`);
          }
          assert.ok(taken > OBJECTS, `only ${taken} were taken`);
          tracker.replace('service', []);
          tracker.replace('slice', []);
          await sync(false);
          assert.equal(await nothingInjected(namespace, program), empty);
          const grown = (heap() - before) / (1 << 20);
          assert.ok(grown < 16, `${grown} MiB more`);
        }));
    });
