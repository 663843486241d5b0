/** A flag of a command; repeated ones come as a list. */
export interface Flag {
  readonly name: string;
  readonly kind: 'text' | 'list' | 'boolean' | 'integer' | 'number' | 'duration';
  readonly standard?: string | number | boolean;
  readonly help: string;
  /** An empty text means something of its own; with others it means that the flag is not given. */
  readonly emptyMeans?: string;
}

/** A value as it is given, before it is read. */
export type FlagValue = string | boolean | readonly string[];

/** What is given, by the flags' names in camel case. */
export type FlagValues = Readonly<Record<string, FlagValue | undefined>>;

/** The name of `--flag-name` in {@link FlagValues}. */
export const camelCase = (name: string): string =>
  name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
