/** Rules that kube-proxy has written, as a world to walk packets through. */
import type { SetElement } from '../../src/inspect/trace/plan/chains.ts';
import { ruleSet } from '../../src/inspect/trace/plan/hooks.ts';
import { parseNftTable } from '../../src/inspect/trace/plan/nft-rules.ts';
import type { Family } from '../../src/model/address.ts';
import type { Namespace } from './namespace.ts';
import { type World, worldOf } from './packet-walker.ts';

interface Listed {
  readonly name: string;
  readonly elem?: readonly unknown[];
}

/** An element's key or value as nft prints it. */
function textOf(part: unknown): string {
  if (typeof part !== 'object' || part === null) return String(part);
  const { concat, elem, ...verdict } = part as { concat?: unknown[]; elem?: { val: unknown } };
  if (concat !== undefined) return concat.map(textOf).join(' . ');
  if (elem !== undefined) return textOf(elem.val);
  const [[word, to] = ['', null]] = Object.entries(verdict);
  return to === null ? word : `${word} ${(to as { target: string }).target}`;
}

function elementsOf({ elem = [] }: Listed): Map<string, SetElement> {
  return new Map(
    elem.map((one): [string, SetElement] =>
      Array.isArray(one) ? [textOf(one[0]), { value: textOf(one[1]) }] : [textOf(one), { value: undefined }],
    ),
  );
}

/** What a kube-proxy of mode nftables has in its table. */
async function nftablesRules(node: Namespace, family: Family, local: ReadonlySet<string>): Promise<World> {
  const list = ['list', 'table', family.nft, 'kube-proxy'];
  const [json, text] = await Promise.all([
    node.exec('nft', ['-j', ...list]),
    node.exec('nft', ['-a', ...list]),
  ]);
  const { nftables } = JSON.parse(json) as { nftables: readonly { set?: Listed; map?: Listed }[] };
  const sets = new Map(
    nftables.flatMap(({ set, map }) => {
      const listed = set ?? map;
      return listed === undefined ? [] : [[listed.name, elementsOf(listed)] as const];
    }),
  );
  return {
    rules: ruleSet(parseNftTable(family.nft, 'kube-proxy', json, text).chains, []),
    surroundings: {
      addressType: (address) => (local.has(address) ? 'LOCAL' : 'UNICAST'),
      recent: () => undefined,
      ipset: () => undefined,
      element: (set, key) => sets.get(set.split(' ').at(-1)!)?.get(key.join(' . ')),
      masqueradeAddress: () => [...local][0],
    },
    local,
  };
}

/** @param local the node's own addresses */
export async function kubeProxyRules(
  node: Namespace,
  mode: 'iptables' | 'nftables',
  family: Family,
  local: ReadonlySet<string>,
): Promise<World> {
  if (mode === 'nftables') return nftablesRules(node, family, local);
  return worldOf(await node.exec(`${family.iptables}-nft-save`, []), local);
}
