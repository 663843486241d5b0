import type { NftProgram } from '../../../model/nft-expression.ts';
import { type counters, entranceChain, localIndex, masqueradeMark } from './names.ts';
import { isEverything, type RenderOptions } from './options.ts';
import { pickProgram, shapeProgram } from './programs.ts';
import { type Pick, type Shape, shapeName } from './shapes.ts';

/** A chain and its rules. One with a hook is a base chain: packets come in there. */
export interface Chain {
  readonly name: string;
  /** As nft writes it, without `policy`, which is accept. */
  readonly hook?: string;
  /** In nft's words. */
  readonly rules: readonly string[];
  /** The same for the kernel, where nft is not needed for it. */
  readonly programs?: readonly NftProgram[] | undefined;
  /** Counts changes of the programs under the same words, so that what stands of before is written anew. */
  readonly edition?: number | undefined;
}

const mark = `meta mark set meta mark | ${masqueradeMark}`;
const serial = 'meta priority & 0xfffff000';
const shape = 'meta priority & 0x00000fff';
const byPort = 'meta l4proto . th dport';

const quoted = (text: string): string => `"${text}"`;

function words(options: RenderOptions): { ip: string; byAddress: string } {
  const ip = options.v6 ? 'ip6' : 'ip';
  return { ip, byAddress: `${ip} daddr . ${byPort}` };
}

/** Match for packets from pods, or for all others, with a space behind it; undefined where nothing is known to be one. */
function podMatch({ v6, fromPod }: RenderOptions, not: boolean): string | undefined {
  if (fromPod === undefined) return undefined;
  if (isEverything(fromPod)) return not ? undefined : '';
  const operator = not ? '!= ' : '';
  if ('network' in fromPod) return `${v6 ? 'ip6' : 'ip'} saddr ${operator}${fromPod.network} `;
  return `iifname ${operator}${quoted(fromPod.device.replace(/\+$/, '*'))} `;
}

/**
 * The rules that send a connection on. With session affinity a client's endpoint is looked up first; when it is not there
 * any more what is remembered is deleted (an update would keep the old value), and another is chosen. When the memory
 * is full the last rule serves all the same.
 */
export function pickChain(name: string, pick: Pick, options: RenderOptions): Chain {
  const chain = { name, rules: pickRules(pick, options), programs: pickProgram(pick, options) };
  // nft 1.0.6 puts what is remembered over the end of an IPv6 client's address, and finds nobody again.
  return pick.sticky > 0 && options.v6 ? { ...chain, edition: 2 } : chain;
}

function pickRules(pick: Pick, options: RenderOptions): string[] {
  const { protocol, region, count, sticky } = pick;
  const { ip } = words(options);
  // nft asks for the protocol before a rule may translate ports.
  const dnat = `meta l4proto ${protocol} dnat ${ip} to`;
  const offset = region === 'local' ? ` offset ${localIndex}` : '';
  const random = `${serial} . numgen random mod ${count}${offset}`;
  if (sticky === 0) return [`${dnat} ${random} map @endpoints-${protocol}`];
  const client = `${serial} . ${ip} saddr`;
  const remember = `update @affinity { ${client} timeout ${sticky}s : meta priority }`;
  const send = `${dnat} meta priority map @${region === 'local' ? 'sticky-local' : 'sticky'}`;
  return [
    `meta priority set ${client} map @affinity ${remember} ${send}`,
    `delete @affinity { ${client} : meta priority }`,
    `meta priority set ${random} map @slots ${remember} ${send}`,
    send,
  ];
}

/** @param pick the chain that chooses */
export function shapeChain(wanted: Shape, pick: (of: Pick) => string, options: RenderOptions): Chain {
  const rules = shapeRules(wanted, pick, options);
  return { name: shapeName(wanted), rules, programs: shapeProgram(wanted, pick, options) };
}

function shapeRules(wanted: Shape, pick: (of: Pick) => string, options: RenderOptions): string[] {
  if (wanted.kind === 'external') return [`${mark} goto ${pick(wanted.pick)}`];
  if (wanted.kind === 'cluster') {
    const outside = podMatch(options, true);
    const marking = options.masqueradeAll ? [mark] : outside === undefined ? [] : [`${outside}${mark}`];
    return [...marking, `goto ${pick(wanted.pick)}`];
  }
  const { here, anywhere } = wanted;
  const pod = podMatch(options, false);
  const inside =
    anywhere === undefined
      ? []
      : [
          ...(pod === undefined ? [] : [`${pod}goto ${pick(anywhere)}`]),
          `fib saddr type local ${mark} goto ${pick(anywhere)}`,
        ];
  return [...inside, ...(here === undefined ? [] : [`goto ${pick(here)}`])];
}

/** Match for node ports: never on loopback. */
function toNode(options: RenderOptions): string {
  const { ip } = words(options);
  if (options.nodePortAddresses !== undefined) return `${ip} daddr @node-addresses`;
  return `fib daddr type local ${ip} daddr != ${options.v6 ? '::1' : '127.0.0.0/8'}`;
}

/** The chains that all Services share. Those with a hook come last, as they are to be written. */
export function sharedChains(options: RenderOptions): Chain[] {
  const { ip, byAddress } = words(options);
  const count = (name: (typeof counters)[number]): string => `counter name ${quoted(name)}`;
  const lead = `${shape} vmap @shapes`;
  const fromAll = `${byAddress} @firewalled ${byAddress} . ${ip} saddr != @sources`;
  const firewall = `ct state new ${fromAll} ${count('source-ranges')} drop`;
  const settle = 'ct state new ct status dnat meta priority set none';
  const refuse = 'ct state new jump refuse';
  // Served, and not sent on: rules are missing just now. It is sent again a second later, when they are back; refused, or
  // let out of the node, it would be lost.
  const guard = `ct state new ct status ! dnat meta priority set ${byAddress} map @services drop`;
  const unserved = `ct state new ${ip} daddr @cluster-ips ${count('unserved-ports')} reject`;
  const node = toNode(options);
  // One before others that translate destinations, so that the order is not that of who came first.
  const before = 'priority -101';
  return [
    {
      name: 'services',
      rules: [
        `meta priority set ${byAddress} map @services ${lead}`,
        `${node} meta priority set ${byPort} map @node-ports ${lead}`,
      ],
    },
    {
      name: 'refuse',
      rules: [
        `${byAddress} @no-endpoints ${count('no-endpoints')} reject`,
        `${byAddress} @no-local-endpoints ${count('no-local-endpoints')} drop`,
        `${node} ${byPort} @node-no-endpoints ${count('no-endpoints')} reject`,
        `${node} ${byPort} @node-no-local-endpoints ${count('no-local-endpoints')} drop`,
      ],
    },
    {
      name: 'source-addresses',
      rules: [
        `ct status dnat ${ip} saddr . ${ip} daddr @hairpin masquerade fully-random`,
        `meta mark & ${masqueradeMark} == 0 return`,
        // Cleared, so that a packet that comes through the stack again is not masqueraded again.
        `meta mark set meta mark ^ ${masqueradeMark}`,
        'masquerade fully-random',
      ],
    },
    base('filter-input', 'filter', 'input priority -110', [refuse]),
    base('filter-forward', 'filter', 'forward priority -110', [refuse, guard, unserved]),
    base('filter-output', 'filter', 'output priority -99', [settle, refuse, guard, unserved]),
    base('filter-prerouting', 'filter', 'prerouting priority -99', [settle]),
    base('firewall-prerouting', 'filter', 'prerouting priority -110', [firewall]),
    base('firewall-output', 'filter', 'output priority -110', [firewall]),
    base('nat-postrouting', 'nat', 'postrouting priority 100', ['jump source-addresses']),
    base('nat-output', 'nat', `output ${before}`, ['jump services']),
    base(entranceChain, 'nat', `prerouting ${before}`, ['jump services']),
  ];
}

function base(name: string, type: string, hook: string, rules: readonly string[]): Chain {
  return { name, hook: `type ${type} hook ${hook}`, rules };
}

/** Clients that are remembered at a time. */
export const affinitySize = 262_144;
