import { commonNeeds, mapNeeds, nftLacks } from '../../kernel/nft-needs.ts';
import { type Family, ipv6 } from '../../model/address.ts';
import { probeDocuments } from './plan/probe.ts';

/** What of nft or the kernel is missing for mode nftables in this network namespace, each by name; nothing where all is there. */
export function nftablesLacks(family: Family): Promise<string[]> {
  const v6 = family === ipv6;
  const render = {
    v6,
    fromPod: { network: v6 ? 'fd00::/48' : '10.0.0.0/8' },
    masqueradeAll: false,
    nodePortAddresses: undefined,
    nodeAddresses: [],
  };
  return nftLacks(family.nft, probeDocuments(family.nft, render), [...commonNeeds, ...mapNeeds]);
}
