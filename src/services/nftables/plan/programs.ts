/**
 * The rules of chains.ts that depend on numbers of endpoints, once more: as instructions for the kernel, which
 * are written in a millisecond where nft takes fifty. Tests hold them against what nft makes of the words.
 */
import { parsePrefix } from '../../../model/address.ts';
import type { NftExpression, NftProgram } from '../../../model/nft-expression.ts';
import { affinityMap, localIndex, masqueradeMark } from './names.ts';
import { isEverything, type RenderOptions } from './options.ts';
import { packAddress, packNumber, packProtocol } from './pack.ts';
import { type Pick, picksOf, type Shape } from './shapes.ts';

/** RTN_LOCAL of linux/rtnetlink.h. */
const local = packNumber(2);
/** Where an address and then a port are: each begins at a register, an IPv6 address takes four. */
const addressRegisters = (v6: boolean): number => (v6 ? 4 : 1);

const sourceAddress = (v6: boolean, to: number, length = v6 ? 16 : 4): NftExpression => ({
  op: 'header',
  offset: v6 ? 8 : 12,
  length,
  to,
});

function setMark(): NftProgram {
  const bits = Number(masqueradeMark);
  return [
    { op: 'load', key: 'mark', to: 0 },
    { op: 'bits', of: 0, mask: packNumber(~bits), flip: packNumber(bits) },
    { op: 'store', key: 'mark', from: 0 },
  ];
}

/** The number of the Service port, into the first register. */
const serial: NftProgram = [
  { op: 'load', key: 'priority', to: 0 },
  { op: 'bits', of: 0, mask: packNumber(0xfffff000), flip: packNumber(0) },
];

const go = (chain: string): NftExpression => ({ op: 'goto', chain });

/** Goes on for one protocol, with what has been found in the first registers. */
const only = (protocol: Pick['protocol']): NftProgram => [
  { op: 'load', key: 'l4proto', to: 0 },
  {
    op: 'compare',
    of: 0,
    not: false,
    value: packProtocol(protocol.toUpperCase() as Uppercase<Pick['protocol']>)[0]!,
  },
];

/** As {@link pickChain} of chains.ts. */
export function pickProgram({ protocol, region, count, sticky }: Pick, { v6 }: RenderOptions): NftProgram[] {
  const dnat: NftExpression = { op: 'dnat', address: 0, port: addressRegisters(v6) };
  const random: NftProgram = [
    ...serial,
    { op: 'random', below: count, offset: region === 'local' ? localIndex : 0, to: 1 },
  ];
  if (sticky === 0)
    return [
      [...only(protocol), ...random, { op: 'lookup', set: `endpoints-${protocol}`, key: 0, to: 0 }, dnat],
    ];
  const client: NftProgram = [...serial, sourceAddress(v6, 1)];
  // Behind the key: of a Service port's number and the client's address.
  const data = v6 ? 8 : 4;
  const memory = { set: affinityMap, key: 0, data };
  const chosen: NftExpression = { op: 'load', key: 'priority', to: data };
  const keep: NftExpression = { op: 'store', key: 'priority', from: 0 };
  const remember: NftProgram = [...client, chosen, { op: 'remember', ...memory, seconds: sticky }];
  const send: NftProgram = [
    ...only(protocol),
    { op: 'load', key: 'priority', to: 0 },
    { op: 'lookup', set: region === 'local' ? 'sticky-local' : 'sticky', key: 0, to: 0 },
    dnat,
  ];
  return [
    [...client, { op: 'lookup', set: affinityMap, key: 0, to: 0 }, keep, ...remember, ...send],
    [...client, chosen, { op: 'forget', ...memory }],
    [...random, { op: 'lookup', set: 'slots', key: 0, to: 0 }, keep, ...remember, ...send],
    send,
  ];
}

/** Goes on for packets from a network, or for all others. */
function fromNetwork(network: string, v6: boolean, not: boolean): NftProgram {
  const { address, length } = parsePrefix(network);
  const value = packAddress(address.text);
  // Whole bytes are compared without a mask, as nft does.
  if (length % 8 === 0)
    return [
      sourceAddress(v6, 0, length / 8),
      { op: 'compare', of: 0, not, value: value.slice(0, length / 8) },
    ];
  const bits = [...value].map((_, byte) => (0xff00 >> Math.max(0, Math.min(8, length - byte * 8))) & 255);
  const mask = String.fromCharCode(...bits);
  return [
    sourceAddress(v6, 0),
    { op: 'bits', of: 0, mask, flip: '\0'.repeat(mask.length) },
    { op: 'compare', of: 0, not, value },
  ];
}

const IFNAMSIZ = 16;

/** Goes on for packets from pods, or for all others. @returns undefined where nothing is known to be one */
function podMatch({ v6, fromPod }: RenderOptions, not: boolean): NftProgram | undefined {
  if (fromPod === undefined) return undefined;
  if (isEverything(fromPod)) return not ? undefined : [];
  if ('network' in fromPod) return fromNetwork(fromPod.network, v6, not);
  const { device } = fromPod;
  const value = device.endsWith('+') ? device.slice(0, -1) : device.padEnd(IFNAMSIZ, '\0');
  return [
    { op: 'load', key: 'iifname', to: 0 },
    { op: 'compare', of: 0, not, value },
  ];
}

/** As {@link shapeChain} of chains.ts. @param pick the chain that chooses */
export function shapeProgram(shape: Shape, pick: (of: Pick) => string, options: RenderOptions): NftProgram[] {
  const [first] = picksOf(shape);
  if (shape.kind === 'external') return [[...setMark(), go(pick(first!))]];
  if (shape.kind === 'cluster') {
    const outside = podMatch(options, true);
    const mark = options.masqueradeAll ? setMark() : outside && [...outside, ...setMark()];
    return [...(mark === undefined ? [] : [mark]), [go(pick(first!))]];
  }
  const { here, anywhere } = shape;
  const rules: NftProgram[] = [];
  if (anywhere !== undefined) {
    const pod = podMatch(options, false);
    if (pod !== undefined) rules.push([...pod, go(pick(anywhere))]);
    rules.push([
      { op: 'source-kind', to: 0 },
      { op: 'compare', of: 0, not: false, value: local },
      ...setMark(),
      go(pick(anywhere)),
    ]);
  }
  if (here !== undefined) rules.push([go(pick(here))]);
  return rules;
}
