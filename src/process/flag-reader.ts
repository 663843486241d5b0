import { type Address, isUnicast, tryParseAddress } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import { camelCase, type Flag, type FlagValue, type FlagValues } from '../model/flag.ts';
import { parseDuration } from './duration.ts';

/** What a configuration file says about flags. */
export interface FlagFile {
  readonly values: FlagValues;
  /** Flags that the file alone decides about; the others it stands in for where they are not given. */
  readonly decides: ReadonlySet<string>;
  /** How a message names the flag's place in the file. */
  called(name: string): string;
}

export interface FlagSources {
  readonly flags: FlagValues;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Beginnings of variables' names, the first that is set counts; default `TWILL_`, `FLANNELD_`. */
  readonly prefixes?: readonly string[];
  readonly file?: FlagFile | undefined;
}

/** A boolean as Go's strconv.ParseBool reads it; undefined for what it refuses. */
export function goBoolean(text: string): boolean | undefined {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false;
  return undefined;
}

/** A whole number as Go programs take it (strconv.ParseInt with base 0): `10`, `-1`, `+5`, `0x10`, `0b1`, `0o17`, `017`, `1_000`. */
export function goInteger(text: string): number | undefined {
  const [, sign, digits = ''] =
    /^([+-]?)(0[xX](?:_?[\da-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|[1-9](?:_?\d)*|0)$/.exec(text) ?? [];
  if (sign === undefined) return undefined;
  const plain = digits.replaceAll('_', '').replace(/^0[oO]?(?=[0-7])/, '0o');
  return sign === '-' ? -Number(plain) : Number(plain);
}

/** The value on the command line, else in the environment, else in the configuration file, else the standard. */
export class FlagReader {
  private readonly declared: ReadonlyMap<string, Flag>;
  private readonly sources: FlagSources;

  constructor(declared: readonly Flag[], sources: FlagSources) {
    this.declared = new Map(declared.map((flag) => [flag.name, flag]));
    this.sources = sources;
  }

  private flag(name: string): Flag {
    const flag = this.declared.get(name);
    if (flag === undefined) throw new TwillError('internal', `no flag ${name} is declared`);
    return flag;
  }

  /** On the command line or in the environment. */
  private outside(name: string): FlagValue | undefined {
    const { flags, env, prefixes = ['TWILL_', 'FLANNELD_'] } = this.sources;
    const variable = name.toUpperCase().replaceAll('-', '_');
    const candidates = [flags[camelCase(name)], ...prefixes.map((prefix) => env[prefix + variable])];
    const [given, ...set] = candidates;
    if (given !== undefined && (given !== '' || this.flag(name).emptyMeans !== undefined)) return given;
    return set.find((value) => value !== undefined && value !== '');
  }

  private get(name: string): FlagValue | undefined {
    const { file } = this.sources;
    if (file?.decides.has(name)) return file.values[camelCase(name)];
    return this.outside(name) ?? file?.values[camelCase(name)];
  }

  /** What is given, as it is given; undefined where the standard counts. */
  given(name: string): FlagValue | undefined {
    this.flag(name);
    return this.get(name);
  }

  /** True when it is given outside of the file, which decides about it. */
  isOverruled(name: string): boolean {
    return this.sources.file?.decides.has(name) === true && this.outside(name) !== undefined;
  }

  /** How the place of the value is named in messages. */
  called(name: string): string {
    const { file } = this.sources;
    if (file === undefined) return `--${name}`;
    const inFile =
      file.decides.has(name) || (this.outside(name) === undefined && this.get(name) !== undefined);
    return inFile ? file.called(name) : `--${name}`;
  }

  refuse(name: string, problem: string): TwillError {
    return new TwillError('invalid', `${this.called(name)} ${problem}`);
  }

  text(name: string): string | undefined {
    const value = this.get(name) ?? this.flag(name).standard;
    return value === undefined || value === '' ? undefined : String(value);
  }

  must(name: string): string {
    const value = this.text(name);
    if (value === undefined) throw this.refuse(name, 'must not be empty');
    return value;
  }

  /** Repeated ones add up. */
  list(name: string): string[] {
    const value = this.get(name) ?? [];
    return typeof value === 'string' ? value.split(',') : [...(value as readonly string[])];
  }

  /** Likewise, each a list separated by commas. */
  items(name: string): string[] {
    const parts = this.list(name).flatMap((text) => text.split(','));
    return parts.map((text) => text.trim()).filter((text) => text !== '');
  }

  boolean(name: string): boolean {
    const value = this.get(name) ?? this.flag(name).standard ?? false;
    if (typeof value === 'boolean') return value;
    const read = goBoolean(String(value));
    if (read === undefined) throw this.refuse(name, `is '${value}', neither true nor false`);
    return read;
  }

  integer(name: string, least: number, most: number): number {
    const text = this.must(name);
    const value = goInteger(text);
    if (value === undefined || value < least || value > most)
      throw this.refuse(name, `is '${text}', not a whole number from ${least} to ${most}`);
    return value;
  }

  number(name: string): number {
    const text = this.must(name);
    const value = Number(text);
    if (!Number.isFinite(value)) throw this.refuse(name, `is '${text}', not a number`);
    return value;
  }

  /** Milliseconds. */
  duration(name: string): number {
    return this.read(name, () => parseDuration(this.must(name)));
  }

  /** @throws TwillError `invalid` naming the flag, with what `read` says */
  read<T>(name: string, read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw new TwillError('invalid', `${this.called(name)}: ${describeError(error)}`);
    }
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const text = this.must(name);
    const value = allowed.find((candidate) => candidate === text);
    if (value === undefined) throw this.refuse(name, `is '${text}', not one of ${allowed.join(', ')}`);
    return value;
  }

  anyAddress(name: string): string | undefined {
    const text = this.text(name);
    const address = tryParseAddress(text);
    if (text !== undefined && address === undefined)
      throw this.refuse(name, `'${text}' is not an IP address`);
    if (address !== undefined) this.mustBeUnicast(name, address);
    return text;
  }

  address(name: string, kubeName: string): Address[] {
    const text = this.text(name);
    if (text === undefined) return [];
    const address = tryParseAddress(text);
    if (address?.family.kubeName !== kubeName)
      throw this.refuse(name, `'${text}' is not an ${kubeName} address`);
    this.mustBeUnicast(name, address);
    return [address];
  }

  /** Loopback, multicast and the like: other nodes would refuse a lease that says such a thing. */
  private mustBeUnicast(name: string, address: Address): void {
    if (!isUnicast(address))
      throw this.refuse(name, `'${address.text}' is no address at which other machines reach one`);
  }
}
