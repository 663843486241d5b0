import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { tableName } from '../../../src/services/nftables/plan/names.ts';
import type { ApiObject } from '../../lab/kube-api.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { afterMore, Load } from '../../lab/load.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Place } from '../../lab/place.ts';
import { type EndpointSpec, serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import {
  dnatTargets,
  kindName,
  modeFlags,
  type RulesKind,
  rulesKinds,
  withServiceLab,
} from '../../lab/service-lab.ts';

const clusterIP = '10.96.0.10';
const target = { protocol: 'tcp', address: clusterIP, port: 80 } as const;
const ports = [
  { name: 'http', port: 8080, protocol: 'TCP' },
  { name: 'http-udp', port: 8080, protocol: 'UDP' },
];
const web = serviceObject('shop/web', {
  clusterIP,
  ports: [
    { name: 'http', port: 80, protocol: 'TCP' },
    { name: 'http-udp', port: 80, protocol: 'UDP' },
  ],
});

function endpoints(...specs: readonly EndpointSpec[]): Record<string, unknown> {
  return sliceObject('shop/web', ports, specs);
}

/** As kube-proxy writes them for the Service `web` with one endpoint. */
function kubeProxyRules(endpoint: string): string {
  const svc = 'KUBE-SVC-67NZLRHBNDSAWJRO';
  const sep = 'KUBE-SEP-SXIVWICOYRO3J4NJ';
  const comment = '-m comment --comment "kubernetes service portals"';
  return [
    '*nat',
    ...[':PREROUTING ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]', `:KUBE-SERVICES - [0:0]`],
    ...[':KUBE-MARK-MASQ - [0:0]', `:${svc} - [0:0]`, `:${sep} - [0:0]`],
    `-A PREROUTING ${comment} -j KUBE-SERVICES`,
    `-A OUTPUT ${comment} -j KUBE-SERVICES`,
    '-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000',
    `-A KUBE-SERVICES -d ${clusterIP}/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80 -j ${svc}`,
    `-A ${svc} -m comment --comment "shop/web:http -> ${endpoint}:8080" -j ${sep}`,
    `-A ${sep} -s ${endpoint}/32 -m comment --comment "shop/web:http" -j KUBE-MARK-MASQ`,
    `-A ${sep} -p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination ${endpoint}:8080`,
    'COMMIT',
    '',
  ].join('\n');
}

type Command = [program: string, args: string[]];

/** Ways to take rules away while connections go through them. */
function removals(kind: RulesKind): Command[] {
  if (kind !== 'nftables')
    return [['-F'], ['-F', 'PREROUTING'], ['-F', 'KUBE-SERVICES']].map(
      (what): Command => [`iptables-${kind}`, ['-t', 'nat', ...what]],
    );
  const table = ['ip', tableName];
  return [
    ['nft', ['flush', 'chain', ...table, 'nat-prerouting']],
    ['nft', ['flush', 'chain', ...table, 'services']],
    ['nft', ['flush', 'map', ...table, 'endpoints-tcp']],
    ['nft', ['delete', 'table', ...table]],
    ['nft', ['flush', 'ruleset']],
  ];
}

/**
 * Without a chain of type nat the kernel translates nothing: an answer to a connection that has just been translated comes
 * from an address that the client does not know, and its refusal ends the connection. No proxy can help those.
 */
const takesChains = (remove: Command): boolean => /delete table|flush ruleset/.test(remove.flat().join(' '));

/** So long a connection may be under way. */
const IN_FLIGHT_MS = 500;

/** Whether rules lead from where packets come in to the Service. */
async function hasEntrance(node: LabNode, kind: RulesKind): Promise<boolean> {
  if (kind !== 'nftables')
    return /-A PREROUTING .*-j KUBE-SERVICES\n[\s\S]*-d 10\.96\.0\.10\/32 .* -j KUBE-SVC-/.test(
      await node.exec(`iptables-${kind}`, ['-t', 'nat', '-S']),
    );
  const { stdout } = await node.namespace.run('nft', ['list', 'table', 'ip', tableName]);
  return /10\.96\.0\.10 \. tcp \. 80[\s\S]*hook prerouting priority dstnat - 1; policy accept;\n\s+jump services/.test(
    stdout,
  );
}

/** The API server has no Node that names the addresses of node ports. */
const anyNode = ['--nodeport-addresses=0.0.0.0/0,::/0'];

for (const variant of rulesKinds) {
  describe(`through a Service, with ${kindName(variant)},`, () => {
    test('no connection fails while the proxy restarts, is killed, or loses its rules', async () => {
      await withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const a = await services.addServer(node, 'a');
        const b = await services.addServer(node, 'b');
        const caller = await services.addPod(node, 'caller');
        const api = await NamespacedKubeApi.start(node.namespace);
        const slice = endpoints({ ip: a.ipv4, node: 'node1' }, { ip: b.ipv4, node: 'node1' });
        api.send({ put: [web, slice] as unknown as ApiObject[] });
        const flags = ['--manifests=', `--master=${api.url}`, ...anyNode, ...modeFlags(variant)];
        await services.startProxy(node, flags);
        const load = new Load(caller, target);
        await afterMore(services, load, 50);

        await node.proxy!.stop();
        await services.startProxy(node, flags);
        await afterMore(services, load, 50);
        await node.proxy!.kill();
        await services.startProxy(node, flags);
        await afterMore(services, load, 50);

        const gaps: { readonly from: number; readonly to: number }[] = [];
        for (const remove of removals(variant)) {
          const from = Date.now();
          await node.exec(...remove);
          await services.lab.waitFor('the rules to be back', () => hasEntrance(node, variant));
          if (takesChains(remove)) gaps.push({ from, to: Date.now() });
          await afterMore(services, load, 50);
        }

        const { answered, failures, servers } = await load.end();
        const unexpected = failures.filter(
          ({ began }) => !gaps.some(({ from, to }) => began > from - IN_FLIGHT_MS && began < to),
        );
        assert.deepEqual(unexpected, [], `${answered} answered; without chains: ${JSON.stringify(gaps)}`);
        assert.deepEqual([...servers.keys()].sort(), ['a', 'b']);
      });
    });

    test('a connection that began while there were no rules at all succeeds once they stand', async () => {
      await withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const a = await services.addServer(node, 'a');
        const caller = await services.addPod(node, 'caller');
        services.write('web.yaml', web, endpoints({ ip: a.ipv4, node: 'node1' }));
        // Connections are tracked for somebody else: a tracked one is not translated later on.
        const tracked = ['-A', 'FORWARD', '-m', 'conntrack', '--ctstate', 'INVALID', '-j', 'DROP'];
        await node.exec(`iptables-${variant === 'legacy' ? 'legacy' : 'nft'}`, tracked);
        const asking = caller.probe.ask({ ...target, timeoutMs: 40_000 });
        asking.catch(() => {}); // it is awaited below
        await services.lab.waitFor('the connection to be tracked', async () =>
          (await node.exec('conntrack', ['-L', '-p', 'tcp', '-d', clusterIP])).includes('[UNREPLIED]'),
        );
        await services.startProxy(node, modeFlags(variant));
        assert.equal((await asking).server, 'a');
      });
    });

    test('no connection fails while a kube-proxy’s rules are taken over', async () => {
      await withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const a = await services.addServer(node, 'a');
        const caller = await services.addPod(node, 'caller');
        const program = `iptables-${variant === 'legacy' ? 'legacy' : 'nft'}`;
        await node.exec(`${program}-restore`, ['--noflush'], { input: kubeProxyRules(a.ipv4) });
        services.write('web.yaml', web, endpoints({ ip: a.ipv4, node: 'node1' }));
        const load = new Load(caller, target, 3);
        await afterMore(services, load, 50);
        await services.startProxy(node, modeFlags(variant));
        await afterMore(services, load, 50);
        const rules = async (): Promise<string> => await node.exec(`${program}-save`, ['-t', 'nat']);
        if (variant === 'nftables')
          await services.lab.waitFor('the old rules to go', async () => !(await rules()).includes('KUBE-'));
        assert.doesNotMatch(await rules(), /KUBE-SEP-/);
        const jumps = (await rules()).match(/-A PREROUTING .*-j KUBE-SERVICES/g) ?? [];
        assert.equal(jumps.length, variant === 'nftables' ? 0 : 1);
        await afterMore(services, load, 50);
        assert.deepEqual((await load.end()).failures, []);
      });
    });

    test('no connection fails while every endpoint is replaced, each draining first', async () => {
      await withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const caller = await services.addPod(node, 'caller');
        const old = [await services.addServer(node, 'old1'), await services.addServer(node, 'old2')];
        const spec = (pod: Place, more: Partial<EndpointSpec> = {}): EndpointSpec => ({
          ip: pod.ipv4,
          node: 'node1',
          ...more,
        });
        const draining = { ready: false, serving: true, terminating: true };
        services.write('web.yaml', web, endpoints(...old.map((pod) => spec(pod))));
        await services.startProxies(modeFlags(variant));
        const load = new Load(caller, target);
        await afterMore(services, load, 50);
        let standing: Place[] = [...old];
        for (const [index, pod] of old.entries()) {
          const fresh = await services.addServer(node, `new${index}`);
          const others = standing.filter((other) => other !== pod);
          services.write(
            'web.yaml',
            web,
            endpoints(...others.map((other) => spec(other)), spec(fresh), spec(pod, draining)),
          );
          await services.lab.waitFor('the draining endpoint to be out of the rules', async () => {
            const targets = await dnatTargets(node, variant);
            return targets.has(`${fresh.ipv4}:8080`) && !targets.has(`${pod.ipv4}:8080`);
          });
          standing = [...others, fresh];
          services.write('web.yaml', web, endpoints(...standing.map((other) => spec(other))));
          await afterMore(services, load, 30); // what was under way to the old one has ended
          await pod.namespace.remove();
          await afterMore(services, load, 30);
        }
        const { failures, servers } = await load.end();
        assert.deepEqual(failures, []);
        assert.ok(servers.has('new0') && servers.has('new1'));
      });
    });

    test('a UDP client on one port follows its endpoint, also when there was none for a while', async () => {
      await withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const a = await services.addServer(node, 'a');
        const b = await services.addServer(node, 'b');
        const caller = await services.addPod(node, 'caller');
        // It goes on sending whatever it is told: a refusal would end the stream.
        await caller.exec('iptables-nft', ['-A', 'INPUT', '-p', 'icmp', '-j', 'DROP']);
        const bystander = await services.addPod(node, 'bystander');
        const other = serviceObject('shop/other', {
          clusterIP: '10.96.0.11',
          ports: [{ name: 'http-udp', port: 80, protocol: 'UDP' }],
        });
        const otherSlice = sliceObject('shop/other', ports, [{ ip: a.ipv4, node: 'node1' }]);
        const write = (...specs: EndpointSpec[]): void =>
          services.write('web.yaml', web, endpoints(...specs), other, otherSlice);
        write({ ip: a.ipv4, node: 'node1' });
        await services.startProxies(modeFlags(variant));
        const stream = await caller.probe.stream({
          protocol: 'udp',
          address: clusterIP,
          port: 80,
          intervalMs: 20,
          timeoutMs: 500, // not all will be answered
        });
        const untouched = await bystander.probe.stream({
          protocol: 'udp',
          address: '10.96.0.11',
          port: 80,
          intervalMs: 20,
        });
        const flow = async (destination: string): Promise<string> =>
          node.exec('conntrack', ['-L', '-p', 'udp', '-d', destination, '-o', 'id']);
        const id = /id=\d+/.exec(await flow('10.96.0.11'))![0];
        const leadsTo = (pod: Place): Promise<unknown> =>
          services.lab.waitFor(`the flow to lead to ${pod.name}`, async () =>
            (await flow(clusterIP)).includes(`src=${pod.ipv4}`),
          );
        await leadsTo(a);
        write({ ip: b.ipv4, node: 'node1' });
        await leadsTo(b);
        write();
        await services.lab.waitFor(
          'the flow to be gone',
          async () => !(await flow(clusterIP)).includes(b.ipv4),
        );
        write({ ip: a.ipv4, node: 'node1' });
        await leadsTo(a);
        assert.match(await flow('10.96.0.11'), new RegExp(id), 'a flow that is right is left alone');
        assert.match(node.proxy!.log(), /stale flows deleted.*deleted=1/);
        const result = await untouched.end();
        assert.equal(result.received, result.sent);
        await stream.end();
      });
    });
  });
}

const churnSlice = sliceObject('shop/churn', ports, [
  { ip: '10.244.77.1', node: 'elsewhere' },
]) as unknown as ApiObject;

/** Somebody who holds the lock of the tables for three seconds, leaves it alone for a moment, and so on. */
function otherWriter(node: LabNode): { end: () => Promise<void> } {
  const lock = join(node.dir, 'xtables.lock');
  const script = `while :; do flock ${lock} sleep 3; sleep 0.05; done`;
  const child = node.namespace.spawn('bash', ['-c', script], { stdio: 'ignore' });
  return {
    end: async () => {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

for (const variant of rulesKinds) {
  test(`no connection fails during 1,000 unrelated changes a second, the lock being taken, with ${kindName(variant)}`, async () => {
    await withServiceLab({ nodes: 1, variant }, async (services) => {
      const node = services.lab.nodes[0]!;
      const a = await services.addServer(node, 'a');
      const caller = await services.addPod(node, 'caller');
      const api = await NamespacedKubeApi.start(node.namespace);
      const others = Array.from({ length: 100 }, (_, index) =>
        serviceObject(`shop/churn-${index}`, {
          clusterIP: `10.96.1.${index + 1}`,
          ports: [{ name: 'http', port: 80 }],
        }),
      );
      api.send({ put: [web, endpoints({ ip: a.ipv4, node: 'node1' }), ...others] as unknown as ApiObject[] });
      await services.startProxy(node, [
        '--manifests=',
        `--master=${api.url}`,
        ...anyNode,
        ...modeFlags(variant),
      ]);
      const load = new Load(caller, target);
      await afterMore(services, load, 20);
      const other = otherWriter(node);
      const changes = await api.churn({ churn: { slice: churnSlice, perSecond: 1000, seconds: 30 } });
      await services.lab.waitFor('the changes to reach the rules', async () => {
        const metrics = await services.get(node, 10_249, '/metrics');
        const value = (name: string): number =>
          Number(new RegExp(`endpoint_changes_${name} (\\d+)`).exec(metrics)![1]);
        return value('pending') === 0 && value('total') > 29_000;
      });
      await other.end();
      const { answered, failures } = await load.end();
      assert.equal(changes, 30_000);
      assert.deepEqual(failures, [], `${answered} answered`);
      // What the last change of each Service said is what stands.
      const targets = [...(await dnatTargets(node, variant))];
      const churned = targets.filter((one) => /^10\.244\.(7[89]|[89]\d|1[0-7]\d)\./.test(one));
      assert.equal(churned.length, 100);
    });
  });
}
