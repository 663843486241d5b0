import assert from 'node:assert/strict';
import { accessSync, constants } from 'node:fs';
import { describe, test } from 'node:test';
import { openNftTable } from '../../../src/kernel/nft-table.ts';
import { type Family, ipv4, ipv6 } from '../../../src/model/address.ts';
import { tableName } from '../../../src/services/nftables/plan/names.ts';
import { twillProgram } from '../../lab/files.ts';
import type { ApiObject } from '../../lab/kube-api.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { kubeProxyEndings, type NodeSetting } from '../../lab/kube-proxy-reading.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { type Ending, type Packet, type World, walk, worldOf } from '../../lab/packet-walker.ts';
import { kubeProxyRules } from '../../lab/peer-rules.ts';
import { follow, type Running } from '../../lab/proxy-process.ts';
import {
  balancersHere,
  packetsTo,
  type RandomService,
  randomCluster,
  statesIn,
} from '../../lab/random-cluster.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { addressesOf, nodeIn } from '../../lab/service-world.ts';
import { standingNftWorld } from '../../lab/standing-nft-world.ts';
import { waitFor } from '../../lab/wait.ts';

type Mode = 'iptables' | 'nftables';

/** A real kube-proxy to compare with, where there is one. */
const variable = 'TEST_ASSET_KUBE_PROXY';
const peer = process.env[variable];
if (peer) accessSync(peer, constants.X_OK);
else
  process.stdout.write(`NOT RUN: packets through the rules of a real kube-proxy; set ${variable} for it\n`);

const services = 60;
const families = [ipv4, ipv6];
const local = new Set([
  ...families.flatMap(({ name }) => [addressesOf[name].node, addressesOf[name].secondAddress]),
  ...families.map(({ name }) => addressesOf[name].loopback),
  ...balancersHere(services),
]);
const node = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'node-a', labels: { 'topology.kubernetes.io/zone': 'zone-a' } },
  status: {
    addresses: families.map(({ name }) => ({ type: 'InternalIP', address: addressesOf[name].node })),
  },
};

/** The last of all objects: where its endpoints are in the rules, all others are. */
const lastEndpoint = { ipv4: '10.244.200.1', ipv6: 'fd00:244:0:c8::1' };
const last = [
  serviceObject('random/zzz', {
    ...{ type: 'ClusterIP', clusterIP: '10.97.0.1', clusterIPs: ['10.97.0.1', 'fd00:97::1'] },
    ipFamilies: families.map(({ kubeName }) => kubeName),
    ports: [{ name: 'a', port: 80, protocol: 'TCP' }],
  }),
  ...families.map(({ name }) =>
    sliceObject(
      `random/zzz/${name}`,
      [{ name: 'a', port: 8080, protocol: 'TCP' }],
      [{ ip: lastEndpoint[name] }],
    ),
  ),
];

/** Makes the namespace the node, and starts a proxy there. */
async function serve(
  place: Namespace,
  mode: Mode,
  [program, ...args]: readonly [string, ...string[]],
  cluster: readonly RandomService[],
): Promise<Running> {
  await place.ip(
    'link add eth0 type veth peer name other',
    'link set eth0 up',
    'link set other up',
    ...[...local]
      .filter((address) => address !== '127.0.0.1' && address !== '::1')
      .map(
        (address) => `address add ${address}/${address.includes(':') ? '64 dev eth0 nodad' : '24 dev eth0'}`,
      ),
  );
  for (const family of families)
    await place.exec(`${family.iptables}-nft`, ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
  const api = await NamespacedKubeApi.start(place);
  const objects = [
    node,
    ...cluster.flatMap(({ service, slices }) => [service, ...slices.ipv4, ...slices.ipv6]),
    ...last,
  ];
  api.send({ put: objects as unknown as ApiObject[] });
  const given = [...args, `--master=${api.url}`, '--hostname-override=node-a', `--proxy-mode=${mode}`];
  const pods = families.map(({ name }) => addressesOf[name].pods).join();
  const proxy = follow(
    place.spawn(program, [...given, `--cluster-cidr=${pods}`], { stdio: ['ignore', 'ignore', 'pipe'] }),
  );
  for (const family of families) {
    const print =
      mode === 'iptables'
        ? [`${family.iptables}-nft-save`, '-t', 'nat']
        : ['nft', 'list', 'ruleset', family.nft];
    await waitFor(
      `the rules of ${program}`,
      async () => (await place.exec(print[0]!, print.slice(1))).includes(lastEndpoint[family.name]),
      { timeoutMs: 90_000, explain: () => proxy.text().slice(-3000) },
    );
  }
  return proxy;
}

async function ownRules(place: Namespace, mode: Mode, family: Family): Promise<World> {
  if (mode === 'iptables') return worldOf(await place.exec(`${family.iptables}-nft-save`, []), local);
  const table = openNftTable(family, tableName, place.name);
  try {
    return await standingNftWorld(place, table, local);
  } finally {
    table.close();
  }
}

/** As the rules of mode nftables tell it: who is sent to itself is masqueraded there by more than kube-proxy's rules. */
function comparable(endings: readonly Ending[], mode: Mode, { source }: Packet): string {
  const plain = (ending: Ending): Ending =>
    mode === 'nftables' && ending.startsWith(`${source}:`) ? ending.replace(' masqueraded', '') : ending;
  return endings.map(plain).join();
}

/** @returns packets that do not end where they should */
function differences(
  packets: readonly Packet[],
  mode: Mode,
  found: (packet: Packet) => readonly Ending[],
  wanted: (packet: Packet) => readonly Ending[],
): string[] {
  return packets.flatMap((packet) => {
    const [is, should] = [found(packet), wanted(packet)];
    if (comparable(is, mode, packet) === comparable(should, mode, packet)) return [];
    return [`${JSON.stringify(packet)} ends at ${is}, not ${should}`];
  });
}

function settingOf(mode: Mode, family: Family): NodeSetting {
  const at = addressesOf[family.name];
  const usual: NodeSetting = { ...nodeIn({ what: 'as usual' }, at), local };
  if (mode === 'iptables') return usual;
  return { ...usual, mode, localhostNodePorts: false, nodePortAddresses: [at.node] };
}

describe(`${services} random Services of two families, from an API server:`, () => {
  for (const mode of ['iptables', 'nftables'] as const) {
    const cluster = randomCluster(mode === 'iptables' ? 5 : 6, services);
    test(`packets end where the reading of kube-proxy has them, mode ${mode}`, async () => {
      await withNamespace('own', async (place) => {
        await serve(place, mode, [twillProgram, 'proxy'], cluster);
        for (const family of families) {
          const world = await ownRules(place, mode, family);
          const states = statesIn(cluster, family.name);
          const setting = settingOf(mode, family);
          const wrong = differences(
            packetsTo(cluster, family.name, local),
            mode,
            (packet) => walk(packet, world),
            (packet) => kubeProxyEndings(states, setting, packet),
          );
          assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} differ`);
        }
      });
    });
    if (!peer) continue;
    // Its settings of the whole machine stay as they are.
    const careful = [
      '--conntrack-max-per-core=0',
      '--conntrack-tcp-timeout-established=0',
      '--conntrack-tcp-timeout-close-wait=0',
    ];
    test(`the reading of kube-proxy is what kube-proxy does, mode ${mode}`, async () => {
      await withNamespace('peer', async (place) => {
        await serve(place, mode, [peer, ...careful], cluster);
        for (const family of families) {
          const world = await kubeProxyRules(place, mode, family, local);
          const states = statesIn(cluster, family.name);
          const setting = settingOf(mode, family);
          const wrong = packetsTo(cluster, family.name, local).flatMap((packet) => {
            const [is, read] = [walk(packet, world), kubeProxyEndings(states, setting, packet)];
            return is.join() === read.join()
              ? []
              : [`${JSON.stringify(packet)} ends at ${is}, read was ${read}`];
          });
          assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} differ`);
        }
      });
    });
  }
});
