import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Family, ipv4, ipv6 } from '../../../src/model/address.ts';
import { kubeProxyEndings, type NodeSetting } from '../../lab/kube-proxy-reading.ts';
import { withNamespace } from '../../lab/namespace.ts';
import { nftDocument } from '../../lab/nft-document.ts';
import { nftWorld } from '../../lab/nft-world.ts';
import { type Ending, type Packet, walk } from '../../lab/packet-walker.ts';
import { nftOptionsFor, stateOf } from '../../lab/service-fixtures.ts';
import {
  type Addresses,
  addressesOf,
  nodeIn,
  packetsIn,
  type WorldState,
  worldStates,
} from '../../lab/service-world.ts';

function documentOf(state: WorldState, family: Family, at: Addresses, node: NodeSetting): string {
  const options = nftOptionsFor(family, {
    fromPod: node.isPod === undefined ? undefined : { network: at.pods },
    masqueradeAll: node.masqueradeAll === true,
  });
  const parsed = stateOf(
    state.service as unknown as Record<string, unknown>,
    ...(state.slices as unknown as Record<string, unknown>[]),
  );
  return nftDocument([parsed], family, node, options);
}

/**
 * Who is sent to itself is masqueraded, as it can have no answer otherwise, also where kube-proxy does not: at an endpoint of
 * which nothing says where it is, and at one of another node.
 */
function agrees(found: readonly Ending[], wanted: readonly Ending[], { source }: Packet): boolean {
  const plain = (endings: readonly Ending[]): string =>
    endings
      .map((ending) => (ending.startsWith(`${source}:`) ? ending.replace(' masqueraded', '') : ending))
      .join();
  const kept = wanted.filter((ending) => ending.startsWith(`${source}:`) && ending.endsWith(' masqueraded'));
  return plain(found) === plain(wanted) && kept.every((ending) => found.includes(ending));
}

describe('with nftables packets end where kube-proxy’s mode nftables sends them:', () => {
  for (const family of [ipv4, ipv6]) {
    const at = addressesOf[family.name];
    // All would take a minute.
    const states = worldStates(at).filter((_, number) => number % 7 === (family === ipv4 ? 0 : 3));
    test(`${states.length} states of a Service, ${family.kubeName}`, async () => {
      await withNamespace('fates', async (namespace) => {
        const usual = nodeIn({ what: 'as usual' }, at);
        const node: NodeSetting = {
          ...usual,
          mode: 'nftables',
          localhostNodePorts: false,
          nodePortAddresses: [at.node],
        };
        const packets = packetsIn(node, at);
        const wrong: string[] = [];
        for (const state of states) {
          const world = await nftWorld(namespace, documentOf(state, family, at, node), node.local);
          for (const packet of packets) {
            const found = walk(packet, world);
            const wanted = kubeProxyEndings([state], node, packet);
            if (!agrees(found, wanted, packet))
              wrong.push(`${state.what}: ${JSON.stringify(packet)} ends at ${found}, not ${wanted}`);
          }
        }
        assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} differ`);
      });
    });
  }
});
