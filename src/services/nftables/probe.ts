import { nftLacks } from '../../kernel/nft.ts';
import { type Family, ipv6 } from '../../model/address.ts';
import { probeDocument } from './plan/probe.ts';

/** What of nft or the kernel is missing for mode nftables in this network namespace; undefined where nothing is. */
export function nftablesLacks(family: Family): Promise<string | undefined> {
  const v6 = family === ipv6;
  const render = {
    v6,
    fromPod: { network: v6 ? 'fd00::/48' : '10.0.0.0/8' },
    masqueradeAll: false,
    nodePortAddresses: undefined,
    nodeAddresses: [],
  };
  return nftLacks(probeDocument(family.nft, render));
}
