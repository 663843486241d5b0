import type { PodKey, PodRecord } from './pod.ts';

/** What a pod's device on the node is marked by: whose it is, and what of it nothing else in the kernel shows. */
export const aliasPrefix = 'twill:';
/** IFALIASZ without its end, which the kernel counts. */
const LONGEST = 254;

type Unusual = Pick<PodRecord, 'spoofCheck' | 'isolated' | 'promiscuous' | 'gateway' | 'ipMasq'>;

/** A letter for each option; no name in the other parts holds a slash. */
const letters: readonly (readonly [letter: string, option: Unusual])[] = [
  ['s', { spoofCheck: true }],
  ['i', { isolated: true }],
  ['p', { promiscuous: true }],
  ['g', { gateway: false }],
  ['m', { ipMasq: true }],
  ['n', { ipMasq: false }],
];

/** The alias of an attachment's device. */
export function aliasOf(record: PodKey & Unusual): string {
  const own = letters.filter(([, option]) =>
    Object.entries(option).every(([name, value]) => record[name as keyof Unusual] === value),
  );
  const options = own.length === 0 ? '' : `/${own.map(([letter]) => letter).join('')}`;
  return `${aliasPrefix}${record.network}/${record.containerId}/${record.ifname}${options}`.slice(0, LONGEST);
}

/** What an alias says; undefined where it is not one of ours. */
export function readAlias(alias: string): { readonly key: PodKey; readonly options: Unusual } | undefined {
  const match = /^twill:([^/]+)\/([^/]+)\/([^/]+)(?:\/([a-z]+))?$/.exec(alias);
  if (match === null) return undefined;
  const [, network = '', containerId = '', ifname = '', written = ''] = match;
  const found = letters.filter(([letter]) => written.includes(letter)).map(([, option]) => option);
  return { key: { network, containerId, ifname }, options: Object.assign({}, ...found) };
}
