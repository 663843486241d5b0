/**
 * nf_tables over nfnetlink (include/uapi/linux/netfilter/nf_tables.h): elements of sets, chains without a hook, and what is
 * needed to list a table.
 */
import type { ChainChange } from '../../model/nft-expression.ts';
import type { ElementChange, SetElement } from '../../model/set-element.ts';
import {
  AttributeWalk,
  attributeString,
  type Message,
  type MessageWriter,
  parseAttributes,
} from './codec.ts';
import { NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE } from './constants.ts';
import {
  DATA_VALUE,
  DATA_VERDICT,
  LIST_ELEMENT,
  NFT_GOTO,
  VERDICT_CHAIN,
  VERDICT_CODE,
  writeGoto,
  writeProgram,
  writeValue,
} from './nft-expressions.ts';

const SUBSYSTEM = 10;
const type = (message: number): number => (SUBSYSTEM << 8) | message;

/** Multicast group of all changes. */
export const NFNLGRP_NFTABLES = 7;
const GETTABLE = type(1);
const NEWCHAIN = type(3);
const GETCHAIN = type(4);
const DELCHAIN = type(5);
const NEWRULE = type(6);
const GETRULE = type(7);
const DELRULE = type(8);
const GETSET = type(10);
const NEWSETELEM = type(12);
const GETSETELEM = type(13);
const DELSETELEM = type(14);
const BATCH_BEGIN = 16;
const BATCH_END = 17;

const ATTR_TABLE = 1;
const ATTR_SET = 2;
const LIST_ELEMENTS = 3;
const ELEM_KEY = 1;
const ELEM_DATA = 2;
const ELEM_FLAGS = 3;
const ELEM_USERDATA = 6;
const ELEM_KEY_END = 10;
/** Of the element for every key that has none (NFT_SET_ELEM_CATCHALL): that has no key itself. */
const CATCHALL = 2;
/** NFTNL_UDATA_SET_ELEM_COMMENT of libnftnl. */
const COMMENT = 0;
/** As nft allows. */
const MOST_COMMENT = 127;

const CHAIN_NAME = 3;
const CHAIN_HOOK = 4;
const CHAIN_POLICY = 5;
const RULE_CHAIN = 2;
const RULE_EXPRESSIONS = 4;
const TABLE_FLAGS = 2;
/** NFT_TABLE_F_DORMANT. */
const DORMANT = 1;
/** NFT_TABLE_F_OWNER. */
const OWNER = 2;

/** A table of one family. @param af AF_INET or AF_INET6 */
export interface TableName {
  readonly af: number;
  readonly name: string;
}

const nfgenmsg = (af: number): number[] => [af, 0, 0, 0];
/** Batches name the subsystem as a resource, in network byte order. */
const batch = [0, 0, 0, SUBSYSTEM];

function writeElement(
  to: MessageWriter,
  { key, end, data, goto, comment }: SetElement,
  deletes: boolean,
): void {
  to.begin(LIST_ELEMENT);
  if (key === '') to.u32be(ELEM_FLAGS, CATCHALL);
  else writeValue(to, ELEM_KEY, key);
  if (end !== undefined && key !== '') writeValue(to, ELEM_KEY_END, end);
  if (!deletes && data !== undefined && data !== '') writeValue(to, ELEM_DATA, data);
  if (!deletes && goto !== undefined) writeGoto(to, ELEM_DATA, goto);
  if (!deletes && comment !== undefined) {
    const userdata = Buffer.from(`\0\0${comment.slice(0, MOST_COMMENT)}\0`);
    userdata[0] = COMMENT;
    userdata[1] = userdata.length - 2;
    to.bytes(ELEM_USERDATA, userdata);
  }
  to.end();
}

/** Messages of a batch besides its changes. */
const BATCH_MESSAGES = 2;

/** What is changed of a table in one step. */
export type TableChange = ElementChange | ChainChange;

/** Writes one message. @param flags NLM_F_* that it has besides its own */
type WriteMessage = (to: MessageWriter, flags: number) => void;

function elementsMessage(table: TableName, { set, deletes, elements }: ElementChange): WriteMessage {
  return (to, flags) => {
    const own = deletes ? 0 : NLM_F_CREATE;
    to.message(deletes ? DELSETELEM : NEWSETELEM, flags | own).struct(nfgenmsg(table.af));
    to.string(ATTR_TABLE, table.name).string(ATTR_SET, set).begin(LIST_ELEMENTS);
    for (const element of elements) writeElement(to, element, deletes);
    to.end();
  };
}

/** Rules that refer to each other's chains go before these do: a chain's flush and its end are messages of their own. */
function chainMessages(table: TableName, { chain, rules }: ChainChange): WriteMessage[] {
  const message =
    (type: number, own: number, name: number, more?: (to: MessageWriter) => void): WriteMessage =>
    (to, flags) => {
      to.message(type, flags | own).struct(nfgenmsg(table.af));
      to.string(ATTR_TABLE, table.name).string(name, chain);
      more?.(to);
    };
  if (rules === undefined) return [message(DELCHAIN, 0, CHAIN_NAME)];
  return [
    message(NEWCHAIN, NLM_F_CREATE, CHAIN_NAME),
    message(DELRULE, 0, RULE_CHAIN),
    ...rules.map((program) =>
      message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, RULE_CHAIN, (to) =>
        writeProgram(to, RULE_EXPRESSIONS, program, table.af),
      ),
    ),
  ];
}

/** One transaction, of which all happens or nothing; the last change is acknowledged. */
export function batchOf(
  table: TableName,
  changes: readonly TableChange[],
): { readonly messages: number; readonly write: (to: MessageWriter) => void } {
  const all = changes.flatMap((change) =>
    'set' in change ? [elementsMessage(table, change)] : chainMessages(table, change),
  );
  const write = (to: MessageWriter): void => {
    to.message(BATCH_BEGIN).struct(batch);
    all.forEach((one, index) => {
      one(to, index === all.length - 1 ? NLM_F_ACK : 0);
    });
    to.message(BATCH_END).struct(batch);
  };
  return { messages: all.length + BATCH_MESSAGES, write };
}

/** Asks for the tables of all families. */
export function writeTablesRequest(to: MessageWriter): void {
  to.message(GETTABLE).struct(nfgenmsg(0));
}

export function writeTableRequest(to: MessageWriter, table: TableName): void {
  to.message(GETTABLE).struct(nfgenmsg(table.af)).string(ATTR_TABLE, table.name);
}

/** Asks for the elements of a set. */
export function writeElementsRequest(to: MessageWriter, table: TableName, set: string): void {
  to.message(GETSETELEM).struct(nfgenmsg(table.af)).string(ATTR_TABLE, table.name).string(ATTR_SET, set);
}

export function writeChainsRequest(to: MessageWriter, table: TableName): void {
  to.message(GETCHAIN).struct(nfgenmsg(table.af)).string(ATTR_TABLE, table.name);
}

/** Asks for one chain. */
export function writeChainRequest(to: MessageWriter, table: TableName, chain: string): void {
  writeChainsRequest(to, table);
  to.string(CHAIN_NAME, chain);
}

/** @param chain whose rules are asked for; undefined for all */
export function writeRulesRequest(to: MessageWriter, table: TableName, chain?: string): void {
  to.message(GETRULE).struct(nfgenmsg(table.af)).string(ATTR_TABLE, table.name);
  if (chain !== undefined) to.string(RULE_CHAIN, chain);
}

export function writeSetsRequest(to: MessageWriter, table: TableName): void {
  to.message(GETSET).struct(nfgenmsg(table.af)).string(ATTR_TABLE, table.name);
}

/** An element as the kernel lists it. */
export interface ListedElement {
  readonly key: string;
  readonly end: string | undefined;
  readonly data: string | undefined;
  /** The chain that a verdict leads to. */
  readonly chain: string | undefined;
  readonly comment: string | undefined;
}

/** The value in a nest of data; undefined for a verdict. */
function latin1(nest: Buffer, from: number, to: number): string | undefined {
  const walk = new AttributeWalk(nest, from, to);
  while (walk.next()) if (walk.type === DATA_VALUE) return nest.toString('latin1', walk.from, walk.to);
  return undefined;
}

/** The chain that a nest of data leads to; undefined for any other verdict than one that leads on for good. */
function gotoChain(nest: Buffer): string | undefined {
  const verdict = parseAttributes(nest).get(DATA_VERDICT);
  const attributes = verdict && parseAttributes(verdict);
  if (attributes?.get(VERDICT_CODE)?.readInt32BE(0) !== NFT_GOTO) return undefined;
  return attributeString(attributes.get(VERDICT_CHAIN));
}

function parseElement(payload: Buffer, start: number, stop: number): ListedElement {
  let key: string | undefined;
  let end: string | undefined;
  let data: string | undefined;
  let chain: string | undefined;
  let comment: string | undefined;
  const walk = new AttributeWalk(payload, start, stop);
  while (walk.next()) {
    const { type, from, to } = walk;
    if (type === ELEM_KEY) key = latin1(payload, from, to);
    else if (type === ELEM_KEY_END) end = latin1(payload, from, to);
    else if (type === ELEM_DATA) {
      data = latin1(payload, from, to);
      if (data === undefined) chain = gotoChain(payload.subarray(from, to));
    } else if (type === ELEM_USERDATA && payload[from] === COMMENT)
      comment = attributeString(payload.subarray(from + 2, to));
  }
  return { key: key ?? '', end, data, chain, comment };
}

/** The elements in one answer to {@link writeElementsRequest}. */
export function* parseElements(payload: Buffer): Generator<ListedElement> {
  const list = parseAttributes(payload, 4).get(LIST_ELEMENTS);
  if (list === undefined) return;
  const walk = new AttributeWalk(list, 0, list.length);
  while (walk.next()) yield parseElement(list, walk.from, walk.to);
}

/** The flags of the table that an answer to {@link writeTableRequest} is about. */
export function tableFlags(payload: Buffer): { readonly isDormant: boolean; readonly isOwned: boolean } {
  const flags = parseAttributes(payload, 4).get(TABLE_FLAGS)?.readUInt32BE(0) ?? 0;
  return { isDormant: (flags & DORMANT) !== 0, isOwned: (flags & OWNER) !== 0 };
}

/** Families as nft calls them (enum in include/uapi/linux/netfilter.h). */
const familyNames: Readonly<Record<number, string>> = {
  1: 'inet',
  2: 'ip',
  3: 'arp',
  5: 'netdev',
  7: 'bridge',
  10: 'ip6',
};

/** A table, with its family as nft calls it, from an answer to {@link writeTablesRequest}. */
export function parseTable(payload: Buffer): { readonly family: string; readonly name: string } {
  return {
    family: familyNames[payload[0] ?? 0] ?? String(payload[0]),
    name: attributeString(parseAttributes(payload, 4).get(ATTR_TABLE)) ?? '',
  };
}

/** A chain's name, and where packets come in there, as the kernel says it; undefined for one of another table. */
export function parseChain(payload: Buffer, { name }: TableName): { name: string; hook: string } | undefined {
  const attributes = parseAttributes(payload, 4);
  if (attributeString(attributes.get(ATTR_TABLE)) !== name) return undefined;
  const hook = [CHAIN_HOOK, CHAIN_POLICY].map((of) => attributes.get(of)?.toString('hex') ?? '').join(' ');
  return { name: attributeString(attributes.get(CHAIN_NAME)) ?? '', hook };
}

/** Which chain a rule is in, and all that the kernel says of it; undefined for one of another table. */
export function parseRule(
  payload: Buffer,
  { name }: TableName,
): { chain: string; bytes: Buffer } | undefined {
  const attributes = parseAttributes(payload, 4);
  if (attributeString(attributes.get(ATTR_TABLE)) !== name) return undefined;
  return { chain: attributeString(attributes.get(RULE_CHAIN)) ?? '', bytes: payload.subarray(4) };
}

/** The name of a set; undefined for one of another table. */
export function parseSetName(payload: Buffer, { name }: TableName): string | undefined {
  const attributes = parseAttributes(payload, 4);
  if (attributeString(attributes.get(ATTR_TABLE)) !== name) return undefined;
  return attributeString(attributes.get(ATTR_SET));
}

/** What a notification is about. */
export interface Notice {
  /** undefined for one that is about none. */
  readonly table: string | undefined;
  /** The set whose elements have changed. */
  readonly set: string | undefined;
}

export function parseNotice({ type: of, payload }: Message): Notice {
  const attributes = parseAttributes(payload, 4);
  const elements = of === NEWSETELEM || of === DELSETELEM;
  return {
    table: attributeString(attributes.get(ATTR_TABLE)),
    set: elements ? attributeString(attributes.get(ATTR_SET)) : undefined,
  };
}
