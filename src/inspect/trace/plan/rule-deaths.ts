import type { Outcome } from './chains.ts';
import { died, type Ending } from './journey.ts';
import type { Space } from './questions.ts';
import type { Step } from './state.ts';

/** Rules whose comments say what is the matter: kube-proxy's words and ours. */
const known: readonly { readonly pattern: RegExp; readonly advice: (comment: string) => string }[] = [
  {
    pattern: /^(\S+) has no endpoints/,
    advice: (name) => `no endpoint of ${name} is ready: look at its EndpointSlices and pods`,
  },
  {
    pattern: /^(\S+) has no local endpoints/,
    advice: (name) => `the traffic policy of ${name} is Local and no endpoint of it is on this node`,
  },
  {
    pattern: /^(\S+) traffic not accepted by/,
    advice: (name) => `the source is in none of the loadBalancerSourceRanges of ${name}`,
  },
];

function adviceFor({ comment, program, table, chain }: Step): string {
  for (const { pattern, advice } of known) {
    const name = pattern.exec(comment ?? '')?.[1];
    if (name !== undefined) return advice(name);
  }
  if (chain?.startsWith('KUBE-GUARD')) return 'rules of table nat are missing: is the proxy running?';
  if (program === 'nft') return `see it with: nft -a list chain ${table} ${chain}`;
  return `see it with: ${program} -t ${table} -S ${chain}`;
}

/** The end at a rule, or a chain's policy, that drops or rejects. */
export function ruleDeath(space: Space, { state, verdict }: Outcome): Ending {
  const last = state.trail?.step;
  const verb = verdict === 'reject' ? 'rejected' : 'dropped';
  if (last === undefined || (last.kind !== 'rule' && last.kind !== 'policy'))
    return died(space, state, `${verb} by a rule`);
  const what = last.kind === 'policy' ? `the policy of chain ${last.chain}` : `a rule of chain ${last.chain}`;
  const comment = last.comment === undefined ? '' : ` ("${last.comment}")`;
  return died(
    space,
    state,
    `${verb} by ${what} of ${last.program}'s table ${last.table}${comment}`,
    adviceFor(last),
  );
}
