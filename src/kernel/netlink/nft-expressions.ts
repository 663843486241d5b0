/** Rules of nf_tables as they are written (include/uapi/linux/netfilter/nf_tables.h). */
import type { MetaKey, NftExpression, NftProgram } from '../../model/nft-expression.ts';
import type { MessageWriter } from './codec.ts';

export const LIST_ELEMENT = 1;
const EXPR_NAME = 1;
const EXPR_DATA = 2;
export const DATA_VALUE = 1;
export const DATA_VERDICT = 2;
export const VERDICT_CODE = 1;
export const VERDICT_CHAIN = 2;
const VERDICT_REGISTER = 0;
export const NFT_GOTO = -4;
const DYNSET_OP_UPDATE = 1;
const DYNSET_OP_DELETE = 2;
const NETWORK_HEADER = 1;
const FIB_ADDRTYPE = 3;
const FIB_SADDR = 1;
const NAT_DNAT = 1;
const NG_RANDOM = 1;

const metaKeys: Readonly<Record<MetaKey, number>> = { priority: 2, mark: 3, iifname: 6, l4proto: 16 };

/** As nft numbers them: every fourth as one of sixteen bytes (NFT_REG_1 and on), the others as of four (NFT_REG32_00 and on). */
const register = (index: number): number => (index % 4 === 0 ? 1 + index / 4 : 8 + index);

/** The verdict that leads to a chain, as data. @param attribute in which it stands */
export function writeGoto(to: MessageWriter, attribute: number, chain: string): void {
  to.begin(attribute).begin(DATA_VERDICT).u32be(VERDICT_CODE, NFT_GOTO).string(VERDICT_CHAIN, chain);
  to.end().end();
}

/** A value, as data. @param attribute in which it stands @param bytes one character each */
export function writeValue(to: MessageWriter, attribute: number, bytes: string): void {
  to.begin(attribute).latin1(DATA_VALUE, bytes).end();
}

/** Writes an expression's attributes. @returns its name */
type Write<Op extends NftExpression['op']> = (
  to: MessageWriter,
  of: Extract<NftExpression, { op: Op }>,
  af: number,
) => void;

const kinds: { readonly [Op in NftExpression['op']]: readonly [name: string, write: Write<Op>] } = {
  load: ['meta', (to, { key, to: into }) => to.u32be(1, register(into)).u32be(2, metaKeys[key])],
  store: ['meta', (to, { key, from }) => to.u32be(2, metaKeys[key]).u32be(3, register(from))],
  header: [
    'payload',
    (to, { offset, length, to: into }) =>
      to.u32be(1, register(into)).u32be(2, NETWORK_HEADER).u32be(3, offset).u32be(4, length),
  ],
  bits: [
    'bitwise',
    (to, { of, mask, flip }) => {
      to.u32be(1, register(of)).u32be(2, register(of)).u32be(3, mask.length);
      writeValue(to, 4, mask);
      writeValue(to, 5, flip);
    },
  ],
  compare: [
    'cmp',
    (to, { of, not, value: wanted }) => {
      to.u32be(1, register(of)).u32be(2, not ? 1 : 0);
      writeValue(to, 3, wanted);
    },
  ],
  random: [
    'numgen',
    (to, { below, offset, to: into }) =>
      to.u32be(1, register(into)).u32be(2, below).u32be(3, NG_RANDOM).u32be(4, offset),
  ],
  lookup: [
    'lookup',
    (to, { set, key, to: into }) => to.string(1, set).u32be(2, register(key)).u32be(3, register(into)),
  ],
  remember: [
    'dynset',
    (to, { set, key, data, seconds }) =>
      to
        .string(1, set)
        .u32be(3, DYNSET_OP_UPDATE)
        .u32be(4, register(key))
        .u32be(5, register(data))
        .u64be(6, BigInt(seconds) * 1000n),
  ],
  forget: [
    'dynset',
    (to, { set, key, data }) =>
      to.string(1, set).u32be(3, DYNSET_OP_DELETE).u32be(4, register(key)).u32be(5, register(data)),
  ],
  'source-kind': [
    'fib',
    (to, { to: into }) => to.u32be(1, register(into)).u32be(2, FIB_ADDRTYPE).u32be(3, FIB_SADDR),
  ],
  dnat: [
    'nat',
    (to, { address, port }, af) =>
      to.u32be(1, NAT_DNAT).u32be(2, af).u32be(3, register(address)).u32be(5, register(port)),
  ],
  goto: [
    'immediate',
    (to, { chain }) => {
      to.u32be(1, VERDICT_REGISTER);
      writeGoto(to, 2, chain);
    },
  ],
};

/** Writes the expressions of a rule. @param attribute in which they stand @param af of the rule's table */
export function writeProgram(to: MessageWriter, attribute: number, program: NftProgram, af: number): void {
  to.begin(attribute);
  for (const expression of program) {
    const [name, write] = kinds[expression.op] as readonly [string, Write<typeof expression.op>];
    to.begin(LIST_ELEMENT).string(EXPR_NAME, name).begin(EXPR_DATA);
    write(to, expression as never, af);
    to.end().end();
  }
  to.end();
}
