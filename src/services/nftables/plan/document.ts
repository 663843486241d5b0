/** What is given to `nft -f`: chains and declarations. Elements go to the kernel directly. */
import { affinitySize, type Chain } from './chains.ts';
import {
  affinityMap,
  counters,
  type Field,
  type Layout,
  layouts,
  type SetName,
  setNames,
  shapesMap,
  stampSet,
  tableName,
} from './names.ts';

function typeName(field: Field, ip: string): string {
  switch (field) {
    case 'address':
      return ip === 'ip6' ? 'ipv6_addr' : 'ipv4_addr';
    case 'protocol':
      return 'inet_proto';
    case 'port':
      return 'inet_service';
    case 'id':
      return 'classid';
    case 'index':
      return 'integer';
  }
}

/** What has the field's type: the only way to say that of a number that is drawn. */
function example(field: Field, ip: string, protocol: string | undefined): string {
  switch (field) {
    case 'address':
      return `${ip} daddr`;
    case 'protocol':
      return 'meta l4proto';
    case 'port':
      return `${protocol} dport`;
    case 'id':
      return 'meta priority';
    case 'index':
      return 'numgen random mod 2';
  }
}

function declaration(name: SetName, ip: string): string {
  const { key, data, interval, protocol }: Layout = layouts[name];
  const byExample = key.includes('index');
  const type = (fields: readonly Field[]): string =>
    fields.map((field) => (byExample ? example(field, ip, protocol) : typeName(field, ip))).join(' . ');
  const of = data === undefined ? type(key) : `${type(key)} : ${type(data)}`;
  const flags = interval === true ? ' flags interval;' : '';
  const kind = data === undefined ? 'set' : 'map';
  return `${kind} ${table(ip)} ${name} { ${byExample ? 'typeof' : 'type'} ${of};${flags} }`;
}

function table(ip: string): string {
  return `${ip} ${tableName}`;
}

/** nft 1.0.2 does not know that a drawn number has four bytes, and takes it for no part of a key. */
const drawnNumber = /numgen random mod \d+( offset \d+)?/g;

/**
 * A document for such an nft: with something else of four bytes that is a number. Maps are the same for the kernel, which
 * has rules that draw numbers not from nft but as programs; others are only tried by such a document.
 */
export function forOlderNft(document: string): string {
  return document.replace(drawnNumber, 'meta mark');
}

/** Table, sets, maps and counters: written again they change nothing. @param ip `ip` or `ip6` */
export function declarations(ip: string): string[] {
  const affinity = `type classid . ${typeName('address', ip)} : classid; flags dynamic,timeout; size ${affinitySize};`;
  return [
    `add table ${table(ip)}`,
    ...counters.map((name) => `add counter ${table(ip)} ${name}`),
    ...setNames.map((name) => `add ${declaration(name, ip)}`),
    `add map ${table(ip)} ${affinityMap} { ${affinity} }`,
    `add map ${table(ip)} ${shapesMap} { type classid : verdict; }`,
    `add set ${table(ip)} ${stampSet} { type mark; }`,
  ];
}

/**
 * The chain and its rules, in the place of those it has.
 * @param stands there is one: if it is a base chain its hook may be another, so it is made anew, in the same transaction
 */
export function chainDocument(ip: string, { name, hook, rules }: Chain, stands: boolean): string[] {
  const named = `${table(ip)} ${name}`;
  const anew = stands ? [`flush chain ${named}`] : [];
  return [
    ...(stands && hook !== undefined ? [`flush chain ${named}`, `delete chain ${named}`] : []),
    `add chain ${named}${hook === undefined ? '' : ` { ${hook}; policy accept; }`}`,
    ...(hook === undefined ? anew : []),
    ...rules.map((rule) => `add rule ${named} ${rule}`),
  ];
}

const shapeId = (number: number): string => `0:${number.toString(16)}`;

/** @param shapes chain names by number */
export function shapesDocument(ip: string, shapes: ReadonlyMap<number, string>): string[] {
  return [...shapes].map(
    ([number, chain]) => `add element ${table(ip)} ${shapesMap} { ${shapeId(number)} : goto ${chain} }`,
  );
}
