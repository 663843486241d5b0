/** nf_tables over nfnetlink (include/uapi/linux/netfilter/nf_tables.h): elements of sets, and what is needed to list a table. */
import type { ElementChange, SetElement } from '../../model/set-element.ts';
import { attributeString, type Message, type MessageWriter, parseAttributes } from './codec.ts';
import { NLM_F_ACK, NLM_F_CREATE } from './constants.ts';

const SUBSYSTEM = 10;
const type = (message: number): number => (SUBSYSTEM << 8) | message;

/** Multicast group of all changes. */
export const NFNLGRP_NFTABLES = 7;
const GETTABLE = type(1);
const GETCHAIN = type(4);
const GETRULE = type(7);
const GETSET = type(10);
const NEWSETELEM = type(12);
const GETSETELEM = type(13);
const DELSETELEM = type(14);
const BATCH_BEGIN = 16;
const BATCH_END = 17;

const ATTR_TABLE = 1;
const ATTR_SET = 2;
const LIST_ELEMENTS = 3;
const LIST_ELEMENT = 1;
const ELEM_KEY = 1;
const ELEM_DATA = 2;
const ELEM_USERDATA = 6;
const ELEM_KEY_END = 10;
const DATA_VALUE = 1;
const DATA_VERDICT = 2;
const VERDICT_CHAIN = 2;
/** NFTNL_UDATA_SET_ELEM_COMMENT of libnftnl. */
const COMMENT = 0;
/** As nft allows. */
const MOST_COMMENT = 127;

const CHAIN_NAME = 3;
const CHAIN_HOOK = 4;
const CHAIN_POLICY = 5;
const RULE_CHAIN = 2;

/** A table of one family. @param af AF_INET or AF_INET6 */
export interface TableName {
  readonly af: number;
  readonly name: string;
}

const nfgenmsg = (af: number): number[] => [af, 0, 0, 0];
/** Batches name the subsystem as a resource, in network byte order. */
const batch = [0, 0, 0, SUBSYSTEM];

function value(to: MessageWriter, attribute: number, text: string): void {
  to.begin(attribute).latin1(DATA_VALUE, text).end();
}

function writeElement(to: MessageWriter, { key, end, data, comment }: SetElement, deletes: boolean): void {
  to.begin(LIST_ELEMENT);
  value(to, ELEM_KEY, key);
  if (end !== undefined) value(to, ELEM_KEY_END, end);
  if (!deletes && data !== undefined && data !== '') value(to, ELEM_DATA, data);
  if (!deletes && comment !== undefined) {
    const text = Buffer.from(`${comment.slice(0, MOST_COMMENT)}\0`);
    to.bytes(ELEM_USERDATA, Buffer.concat([Buffer.from([COMMENT, text.length]), text]));
  }
  to.end();
}

/** Messages of a batch besides its changes. */
export const BATCH_MESSAGES = 2;

/** Writes one transaction, of which all happens or nothing; the last change is acknowledged. */
export function writeBatch(to: MessageWriter, table: TableName, changes: readonly ElementChange[]): void {
  to.message(BATCH_BEGIN).struct(batch);
  changes.forEach(({ set, deletes, elements }, index) => {
    const flags = (deletes ? 0 : NLM_F_CREATE) | (index === changes.length - 1 ? NLM_F_ACK : 0);
    to.message(deletes ? DELSETELEM : NEWSETELEM, flags).struct(nfgenmsg(table.af));
    to.string(ATTR_TABLE, table.name).string(ATTR_SET, set).begin(LIST_ELEMENTS);
    for (const element of elements) writeElement(to, element, deletes);
    to.end();
  });
  to.message(BATCH_END).struct(batch);
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

export function writeRulesRequest(to: MessageWriter, table: TableName): void {
  to.message(GETRULE).struct(nfgenmsg(table.af)).string(ATTR_TABLE, table.name);
}

export function writeSetsRequest(to: MessageWriter, table: TableName): void {
  to.message(GETSET).struct(nfgenmsg(table.af)).string(ATTR_TABLE, table.name);
}

/** Each attribute of a nest, repeated ones too. */
function* each(data: Buffer): Generator<Buffer> {
  for (let at = 0; at + 4 <= data.length; ) {
    const length = data.readUInt16LE(at);
    if (length < 4 || at + length > data.length) return;
    yield data.subarray(at + 4, at + length);
    at += (length + 3) & ~3;
  }
}

function latin1(nest: Buffer | undefined): string | undefined {
  if (nest === undefined) return undefined;
  const bytes = parseAttributes(nest).get(DATA_VALUE);
  return bytes?.toString('latin1');
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

/** The elements in one answer to {@link writeElementsRequest}. */
export function* parseElements(payload: Buffer): Generator<ListedElement> {
  const list = parseAttributes(payload, 4).get(LIST_ELEMENTS);
  if (list === undefined) return;
  for (const nest of each(list)) {
    const element = parseAttributes(nest);
    const data = element.get(ELEM_DATA);
    const verdict = data && parseAttributes(data).get(DATA_VERDICT);
    const userdata = element.get(ELEM_USERDATA);
    yield {
      key: latin1(element.get(ELEM_KEY)) ?? '',
      end: latin1(element.get(ELEM_KEY_END)),
      data: latin1(data),
      chain: verdict && attributeString(parseAttributes(verdict).get(VERDICT_CHAIN)),
      comment: userdata?.[0] === COMMENT ? attributeString(userdata.subarray(2)) : undefined,
    };
  }
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
