/** The part of Bun's foreign function interface that is used. */
declare module 'bun:ffi' {
  type CType = 'i32' | 'u64' | 'ptr' | 'void';
  type Pointer = number & { readonly __pointer: never };
  type Argument = number | Uint8Array | Int32Array | BigInt64Array;
  interface Signature {
    readonly args: readonly CType[];
    readonly returns: CType;
  }
  export function dlopen<T extends Readonly<Record<string, Signature>>>(
    library: string,
    signatures: T,
  ): {
    readonly symbols: {
      readonly [K in keyof T]: (...args: Argument[]) => T[K]['returns'] extends 'ptr' ? Pointer : number;
    };
  };
  export const read: { i32(pointer: Pointer): number };
}
