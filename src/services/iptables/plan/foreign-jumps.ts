import { isOwnChain } from './names.ts';

const builtIn = new Set(['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING']);

/** A chain of somebody else's that leads to one of the proxy's. */
export interface ForeignJump {
  readonly from: string;
  readonly to: string;
}

/**
 * The first chain of others that leads to one of the proxy's, as other programs' rules do that have their packets
 * masqueraded with KUBE-MARK-MASQ: without that chain they cannot be.
 * @param saved a table as iptables-save prints it
 */
export function foreignJump(saved: string): ForeignJump | undefined {
  for (const [, from = '', to = ''] of saved.matchAll(/^-A (\S+) .*-[jg] (KUBE-\S+)$/gm))
    if (!builtIn.has(from) && !isOwnChain(from) && isOwnChain(to)) return { from, to };
  return undefined;
}
