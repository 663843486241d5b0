/** Elements of nftables sets and maps, ready to be written; keys and values in strings of one character a byte. */

/** An element to be written or deleted. */
export interface SetElement {
  readonly key: string;
  /** Of a range: the last one. */
  readonly end?: string | undefined;
  /** Of a map; '' and undefined in a set. */
  readonly data?: string | undefined;
  /** Of a map of verdicts: the chain that it leads to. */
  readonly goto?: string | undefined;
  /** For people who list the set. */
  readonly comment?: string | undefined;
}

/** Elements of one set. */
export interface ElementChange {
  readonly set: string;
  readonly deletes: boolean;
  readonly elements: readonly SetElement[];
}
