import { commonNeeds, nftLacks } from '../kernel/nft-needs.ts';
import { nftTableText } from '../masquerade/plan/nftables.ts';
import { nftTable, trafficRules } from '../masquerade/plan/rules.ts';
import { type Family, ipv4, parsePrefix } from '../model/address.ts';
import { hostPortDocument, hostPortTable } from '../pods/plan/nft-hostports.ts';

const examples = {
  ipv4: { network: '10.0.0.0/8', subnet: '10.1.0.0/24', pod: '10.1.0.2' },
  ipv6: { network: 'fd00::/48', subnet: 'fd00::/64', pod: 'fd00::2' },
} as const;

/** Makes every kind of rule of the agent's in tables of other names, and takes them away, in one transaction. */
export function probeDocument(family: Family): string {
  const { network, subnet, pod } = examples[family.name];
  const rules = trafficRules({
    network: parsePrefix(network),
    subnet: parsePrefix(subnet),
    masquerade: true,
    forward: true,
    randomFully: true,
    guard: { bridges: ['cni0'], vxlan: { port: 8472, device: 'flannel.1' } },
  });
  const hostPort = {
    containerId: 'probe',
    hostVeth: 'probe',
    protocol: 'tcp',
    hostPort: 80,
    destination: family === ipv4 ? '127.0.0.1' : '::1',
    target: { address: pod, port: 80 },
    masquerade: [network, undefined],
    markBit: 13,
    conditions: [],
  } as const;
  const tables = [nftTable(family), hostPortTable];
  const document = [
    nftTableText(rules) ?? '',
    hostPortDocument(family, [hostPort]),
    ...tables.map((name) => `delete table ${family.nft} ${name}\n`),
  ].join('');
  return tables.reduce(
    (text, name) => text.replaceAll(new RegExp(` ${name}(?=[ \n])`, 'g'), ` ${name}-probe`),
    document,
  );
}

/** What of nft or the kernel is missing for the agent's rules in this network namespace, each by name. */
export function nftablesLacks(family: Family): Promise<string[]> {
  return nftLacks(family.nft, [probeDocument(family)], commonNeeds);
}
