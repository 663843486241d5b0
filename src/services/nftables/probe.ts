import { applyNft } from '../../kernel/nft.ts';
import { type Family, ipv6 } from '../../model/address.ts';
import { describeError, isTwillError } from '../../model/error.ts';
import { probeDocument } from './plan/probe.ts';

/** What nft says has its reason in the first line; those that follow show the rule. */
const LONGEST = 200;

/** What of nft or the kernel is missing for mode nftables in this network namespace; undefined where nothing is. */
export async function nftablesLacks(family: Family): Promise<string | undefined> {
  const v6 = family === ipv6;
  const render = {
    v6,
    fromPod: { network: v6 ? 'fd00::/48' : '10.0.0.0/8' },
    masqueradeAll: false,
    nodePortAddresses: undefined,
    nodeAddresses: [],
  };
  try {
    await applyNft(probeDocument(family.nft, render));
    return undefined;
  } catch (error) {
    if (!isTwillError(error, 'invalid', 'missing-program', 'permission')) throw error;
    return describeError(error).split('\n')[0]!.slice(0, LONGEST);
  }
}
