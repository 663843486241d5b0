import { TwillError } from '../model/error.ts';
import { supportedVersions } from './protocol.ts';

/** The network configuration as one call brings it, checked. Unknown fields are ignored, as the specification wants. */
export interface NetConf {
  readonly cniVersion: string;
  /** The network's name: part of what identifies an attachment. */
  readonly name: string;
  /** Passed on in the result. */
  readonly dns: unknown;
}

/** CNI specification, section 1: "Must start with an alphanumeric character, optionally followed by …". */
export const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

type Json = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The version a configuration names; 0.1.0, the specification's default, when it names none. */
export function configVersion(config: Json): string {
  const version = config.cniVersion ?? '';
  if (typeof version !== 'string') throw new TwillError('invalid', 'cniVersion must be a string');
  return version === '' ? '0.1.0' : version;
}

export function isSupportedVersion(version: string): boolean {
  return supportedVersions.some((known) => known === version);
}

/** @throws TwillError `invalid` naming the field */
export function parseNetConf(config: Json): NetConf {
  const { name } = config;
  if (typeof name !== 'string' || !namePattern.test(name)) {
    const shown = name === undefined ? 'is missing' : `is ${JSON.stringify(name)}`;
    throw new TwillError(
      'invalid',
      `network configuration: name ${shown}; it must be alphanumeric with _ . and -`,
    );
  }
  return { cniVersion: configVersion(config), name, dns: config.dns };
}
