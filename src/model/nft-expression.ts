/**
 * Instructions of the machine that nf_tables' rules run on (include/uapi/linux/netfilter/nf_tables.h): those that chains of
 * Services are made of. A register holds four bytes, numbered from 0; longer values take the ones that follow.
 */

export type MetaKey = 'priority' | 'mark' | 'iifname' | 'l4proto';

/** Values are strings of one character a byte, as the kernel keeps them. */
export type NftExpression =
  | { readonly op: 'load'; readonly key: MetaKey; readonly to: number }
  | { readonly op: 'store'; readonly key: MetaKey; readonly from: number }
  /** Of the network header. */
  | { readonly op: 'header'; readonly offset: number; readonly length: number; readonly to: number }
  /** A register's value & `mask` ^ `flip`. */
  | { readonly op: 'bits'; readonly of: number; readonly mask: string; readonly flip: string }
  | { readonly op: 'compare'; readonly of: number; readonly not: boolean; readonly value: string }
  /** A number from `offset` on, `below` different ones. */
  | { readonly op: 'random'; readonly below: number; readonly offset: number; readonly to: number }
  | { readonly op: 'lookup'; readonly set: string; readonly key: number; readonly to: number }
  | {
      readonly op: 'remember';
      readonly set: string;
      readonly key: number;
      readonly data: number;
      readonly seconds: number;
    }
  | { readonly op: 'forget'; readonly set: string; readonly key: number; readonly data: number }
  /** The kind of address that a packet comes from (RTN_*). */
  | { readonly op: 'source-kind'; readonly to: number }
  | { readonly op: 'dnat'; readonly address: number; readonly port: number }
  | { readonly op: 'goto'; readonly chain: string };

/** The instructions of one rule. */
export type NftProgram = readonly NftExpression[];

/** A chain without a hook, to be written or taken away. */
export interface ChainChange {
  readonly chain: string;
  /** They take the place of those it has; undefined where it is to go. */
  readonly rules: readonly NftProgram[] | undefined;
}
