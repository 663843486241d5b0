import { type Address, parseAddress, tryParseAddress } from '../model/address.ts';
import { TwillError } from '../model/error.ts';

/** A flag of a command; repeated ones come as a list. */
export interface Flag {
  readonly name: string;
  readonly kind: 'text' | 'list' | 'boolean' | 'integer';
  readonly standard?: string | number | boolean;
  readonly help: string;
}

/** What was given on the command line, by the flags' names in camel case. */
export type FlagValues = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

const camel = (name: string): string =>
  name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** The value on the command line, else in TWILL_… or FLANNELD_…, else the standard. */
export class FlagReader {
  private readonly declared: readonly Flag[];
  private readonly flags: FlagValues;
  private readonly env: Readonly<Record<string, string | undefined>>;

  constructor(
    declared: readonly Flag[],
    flags: FlagValues,
    env: Readonly<Record<string, string | undefined>>,
  ) {
    this.declared = declared;
    this.flags = flags;
    this.env = env;
  }

  private flag(name: string): Flag {
    const flag = this.declared.find((candidate) => candidate.name === name);
    if (flag === undefined) throw new TwillError('internal', `no flag ${name} is declared`);
    return flag;
  }

  private given(name: string): string | boolean | readonly string[] | undefined {
    const variable = name.toUpperCase().replaceAll('-', '_');
    return (
      this.flags[camel(name)] ??
      (this.env[`TWILL_${variable}`] || undefined) ??
      (this.env[`FLANNELD_${variable}`] || undefined)
    );
  }

  text(name: string): string | undefined {
    const value = this.given(name) ?? this.flag(name).standard;
    return value === undefined || value === '' ? undefined : String(value);
  }

  must(name: string): string {
    const value = this.text(name);
    if (value === undefined) throw new TwillError('invalid', `--${name} must not be empty`);
    return value;
  }

  list(name: string): string[] {
    const value = this.given(name) ?? [];
    return typeof value === 'string' ? value.split(',') : [...(value as readonly string[])];
  }

  boolean(name: string): boolean {
    const value = this.given(name) ?? this.flag(name).standard;
    if (typeof value === 'boolean') return value;
    // The spellings that Go's strconv.ParseBool reads.
    if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(String(value))) return true;
    if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(String(value))) return false;
    throw new TwillError('invalid', `--${name} is '${value}', neither true nor false`);
  }

  integer(name: string, least: number, most: number): number {
    const text = this.must(name);
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < least || value > most)
      throw new TwillError('invalid', `--${name} is '${text}', not a whole number from ${least} to ${most}`);
    return value;
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const text = this.must(name);
    const value = allowed.find((candidate) => candidate === text);
    if (value === undefined)
      throw new TwillError('invalid', `--${name} is '${text}', not one of ${allowed.join(', ')}`);
    return value;
  }

  anyAddress(name: string): string | undefined {
    const text = this.text(name);
    if (text !== undefined && tryParseAddress(text) === undefined)
      throw new TwillError('invalid', `--${name} '${text}' is not an IP address`);
    return text;
  }

  address(name: string, kubeName: string): Address[] {
    const text = this.text(name);
    if (text === undefined) return [];
    const address = tryParseAddress(text);
    if (address?.family.kubeName !== kubeName)
      throw new TwillError('invalid', `--${name} '${text}' is not an ${kubeName} address`);
    return [parseAddress(text)];
  }
}
