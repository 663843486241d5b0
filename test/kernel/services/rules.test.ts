import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import pino from 'pino';
import { type IptablesVariant, openIptables } from '../../../src/kernel/iptables.ts';
import { inNetns } from '../../../src/kernel/netns.ts';
import { PacketCounters } from '../../../src/kernel/packet-counters.ts';
import { type Family, ipv4, ipv6 } from '../../../src/model/address.ts';
import { optionalMatches } from '../../../src/services/iptables/optional-matches.ts';
import type { OptionalMatch } from '../../../src/services/iptables/plan/options.ts';
import { FLAT_LIMIT } from '../../../src/services/iptables/plan/shared-chain.ts';
import { ProxyRules } from '../../../src/services/iptables/rules.ts';
import { twillProgram } from '../../lab/files.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { serviceCases } from '../../lab/service-cases.ts';
import { renderOptionsFor, serviceObject, sliceObject, stateOf } from '../../lab/service-fixtures.ts';

const log = pino({ level: 'silent' });
const variants: readonly IptablesVariant[] = ['nft', 'legacy'];
type State = ReturnType<typeof stateOf>;

function makeRules(
  namespace: Namespace,
  family: Family,
  variant: IptablesVariant,
  matches?: readonly OptionalMatch[],
): ProxyRules {
  return new ProxyRules({
    family,
    iptables: openIptables(family, variant, namespace.name),
    render: renderOptionsFor(family, matches && { matches }),
    node: { name: 'node-a', zone: 'zone-a' },
    log,
  });
}

function numbered(count: number, from = 0): State[] {
  return Array.from({ length: count }, (_, offset) => {
    const index = from + offset;
    const name = `load/svc-${index}`;
    const low = `${index >> 8}.${index & 255}`;
    return stateOf(
      serviceObject(name, {
        clusterIP: `10.96.${low}`,
        ports: [{ name: 'http', port: 80, nodePort: index < 500 ? 30_000 + index : 0 }],
      }),
      index % 3 === 2
        ? sliceObject(name, [{ name: 'http', port: 8080 }], [])
        : sliceObject(name, [{ name: 'http', port: 8080 }], [{ ip: `10.244.${low}`, node: 'node-b' }]),
    );
  });
}

/** What stands, without counters, dates and the order of chain declarations. */
async function standing(namespace: Namespace, family: Family, variant: IptablesVariant): Promise<string[]> {
  const text = await namespace.exec(`${family.iptables}-${variant}-save`, []);
  return text
    .split('\n')
    .filter((line) => /^[:*-]/.test(line))
    .map((line) => line.replace(/ \[\d+:\d+\]/, ''))
    .sort();
}

for (const variant of variants) {
  describe(`iptables-${variant}`, () => {
    for (const family of [ipv4, ipv6]) {
      test(`takes every kind of Service in ${family.kubeName} and prints it as it was written`, async () => {
        await withNamespace('rules', async (namespace) => {
          const counters = inNetns(namespace.path, () => new PacketCounters());
          const iptables = openIptables(family, variant, namespace.name);
          const matches = await optionalMatches(iptables, counters);
          assert.deepEqual(matches, ['bpf', 'nfacct']);
          for (const { name, states } of serviceCases) {
            for (const used of [matches, []]) {
              const rules = makeRules(namespace, family, variant, used);
              await rules.sync(states, true);
              assert.deepEqual([...rules.refusals], [], name);
              const again = await makeRules(namespace, family, variant, used).sync(states, true);
              assert.equal(again.bytes, 0, `${name}: a new proxy finds nothing to change`);
            }
          }
          counters.close();
        });
      });
    }

    test('one change writes only what changed, and leads to the rules of a fresh start', async () => {
      await withNamespace('change', async (namespace) => {
        const rules = makeRules(namespace, ipv4, variant);
        const states = numbered(40);
        await rules.sync(states, true);
        const name = 'load/svc-7';
        const changed = stateOf(
          serviceObject(name, {
            clusterIP: '10.96.0.7',
            ports: [{ name: 'http', port: 80, nodePort: 30_007 }],
          }),
          sliceObject(name, [{ name: 'http', port: 8080 }], [{ ip: '10.244.9.9', node: 'node-a' }]),
        );
        const result = await rules.sync([changed], false);
        assert.equal(result.full, false);
        // The Service's own chain.
        assert.equal(result.chainsWritten, 1);
        const incremental = await standing(namespace, ipv4, variant);
        await withNamespace('fresh', async (fresh) => {
          const all = states.map((state) => (state[0] === name ? changed : state));
          await makeRules(fresh, ipv4, variant).sync(all, true);
          assert.deepEqual(incremental, await standing(fresh, ipv4, variant));
        });
      });
    });

    test('chains split when they grow long and join again, the rules being those of a fresh start', async () => {
      await withNamespace('split', async (namespace) => {
        const rules = makeRules(namespace, ipv4, variant);
        const many = numbered(Math.ceil(FLAT_LIMIT * 1.6));
        await rules.sync(many.slice(0, 10), true);
        await rules.sync(many.slice(10), false);
        const large = await standing(namespace, ipv4, variant);
        assert.ok(large.some((line) => line.startsWith(':KUBE-SERVICES-a07')));
        const fresh = await makeRules(namespace, ipv4, variant).sync(many, true);
        assert.equal(fresh.bytes, 0);
        const gone: State[] = many.slice(10).map(([key]) => [key, { service: undefined, slices: [] }]);
        await rules.sync(gone, false);
        assert.equal((await makeRules(namespace, ipv4, variant).sync(many.slice(0, 10), true)).bytes, 0);
      });
    });

    test('long chains of IPv6 are split, and printed as they were written', async () => {
      await withNamespace('split6', async (namespace) => {
        const states = Array.from({ length: FLAT_LIMIT + 300 }, (_, index): State => {
          const name = `load/six-${index}`;
          const clusterIP = `fd00:96::${index > 256 ? '1:' : ''}${index.toString(16)}`;
          const endpoint = { ip: `fd00:244:2::${(index + 1).toString(16)}`, node: 'node-b' };
          const service = serviceObject(name, { clusterIP, ports: [{ name: 'http', port: 80 }] });
          return stateOf(service, sliceObject(name, [{ name: 'http', port: 8080 }], [endpoint]));
        });
        await makeRules(namespace, ipv6, variant).sync(states, true);
        assert.ok(
          (await standing(namespace, ipv6, variant)).some((line) => line.startsWith(':KUBE-SERVICES-a1f')),
        );
        assert.equal((await makeRules(namespace, ipv6, variant).sync(states, true)).bytes, 0);
      });
    });

    test('foreign rules stay, lost jumps come back, doubled ones go', async () => {
      await withNamespace('foreign', async (namespace) => {
        const program = `iptables-${variant}`;
        await namespace.exec(program, ['-t', 'nat', '-N', 'MINE']);
        await namespace.exec(program, ['-t', 'nat', '-A', 'PREROUTING', '-j', 'MINE']);
        const rules = makeRules(namespace, ipv4, variant);
        await rules.sync(numbered(3), true);
        const expected = await standing(namespace, ipv4, variant);
        assert.ok(expected.includes('-A PREROUTING -j MINE'));
        const jump = ['-m', 'comment', '--comment', 'kubernetes service portals', '-j', 'KUBE-SERVICES'];
        await namespace.exec(program, ['-t', 'nat', '-A', 'OUTPUT', ...jump]);
        await namespace.exec(program, ['-t', 'nat', '-D', 'PREROUTING', ...jump]);
        await namespace.exec(program, ['-t', 'nat', '-F', 'KUBE-NODEPORTS']);
        await rules.sync([], true);
        assert.deepEqual(await standing(namespace, ipv4, variant), expected);
      });
    });
  });
}

test('packet counters are made once, count, and stay while a rule counts with them', async () => {
  await withNamespace('count', async (node) => {
    const counters = inNetns(node.path, () => new PacketCounters());
    assert.equal(await counters.read('some'), undefined);
    await counters.ensure('some');
    await counters.ensure('some');
    assert.equal(await counters.read('some'), 0);
    const rule = ['-p', 'udp', '--dport', '9', '-m', 'nfacct', '--nfacct-name', 'some'];
    await node.exec('iptables-nft', ['-A', 'INPUT', ...rule]);
    await node.exec('bash', ['-c', 'for n in 1 2 3; do echo x >/dev/udp/127.0.0.1/9; done; true']);
    assert.equal(await counters.read('some'), 3);
    assert.equal(await counters.remove('some'), false);
    await node.exec('iptables-nft', ['-D', 'INPUT', ...rule]);
    assert.equal(await counters.remove('some'), true);
    assert.equal(await counters.remove('some'), false);
    counters.close();
  });
});

test('a match that the kernel, or iptables, has not is not used', async () => {
  await withNamespace('matches', async (node) => {
    for (const variant of variants) {
      const iptables = openIptables(ipv4, variant, node.name);
      assert.equal(await iptables.understands('-m ipvs --ipvs'), false);
      assert.equal(await iptables.understands('-m nonsense'), false);
      assert.equal(await iptables.understands('-m mark --mark 0x1'), true);
    }
  });
});

test('--cleanup removes what the proxy and a kube-proxy made, and nothing else', async () => {
  await withNamespace('cleanup', async (namespace) => {
    const before: Record<string, string[]> = {};
    for (const variant of variants) {
      await namespace.exec(`iptables-${variant}`, ['-t', 'nat', '-N', 'MINE']);
      await namespace.exec(`iptables-${variant}`, ['-t', 'nat', '-A', 'POSTROUTING', '-j', 'MINE']);
      // Makes the tables exist, so that they are there before and after.
      await namespace.exec(`iptables-${variant}`, ['-t', 'filter', '-S']);
      await namespace.exec(`ip6tables-${variant}`, ['-t', 'filter', '-S']);
      before[variant] = await standing(namespace, ipv4, variant);
    }
    for (const variant of variants) {
      for (const family of [ipv4, ipv6]) {
        const render = { ...renderOptionsFor(family), localhostNodePorts: false };
        const iptables = openIptables(family, variant, namespace.name);
        const rules = new ProxyRules({ family, iptables, render, node: { name: 'node-a' }, log });
        await rules.sync(serviceCases.find(({ name }) => name === 'dual-stack')!.states, true);
      }
    }
    const kubeProxys =
      '*nat\n:KUBE-SEP-SXIVWICOYRO3J4NJ - [0:0]\nCOMMIT\n*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n';
    await namespace.exec('iptables-nft-restore', ['--noflush'], { input: kubeProxys });
    const first = await namespace.exec(process.execPath, [twillProgram, 'proxy', '--cleanup']);
    assert.match(first, /iptables-legacy: \d+ chains of the proxy removed from table nat/);
    for (const variant of variants) {
      const ours = (line: string): boolean => line.includes('KUBE-');
      for (const family of [ipv4, ipv6]) {
        assert.deepEqual((await standing(namespace, family, variant)).filter(ours), []);
      }
      const now = await standing(namespace, ipv4, variant);
      for (const line of before[variant]!) assert.ok(now.includes(line), line);
    }
    assert.equal(await namespace.exec(process.execPath, [twillProgram, 'proxy', '--cleanup']), '');
  });
});
