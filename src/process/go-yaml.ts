import type { ScalarTag, Tags } from 'yaml';
import { goInteger } from './flag-reader.ts';

const scalar = (name: string, test: RegExp, resolve: (text: string) => unknown): ScalarTag =>
  ({ tag: `tag:yaml.org,2002:${name}`, default: true, test, resolve }) as ScalarTag;

const integers =
  /^[-+]?(?:0[xX]_*[\da-fA-F][\da-fA-F_]*|0[bB]_*[01][01_]*|0[oO]?_*[0-7][0-7_]*|[1-9][\d_]*_[\d_]*)$/;

/** Go's YAML library reads these as YAML 1.1 has them: `y`, `Off`, `010` (eight), `-0x10`, `0b11`, `1_000`. */
const scalars = [
  scalar('bool', /^(?:[yY]|[yY]es|YES|[oO]n|ON)$/, () => true),
  scalar('bool', /^(?:[nN]|[nN]o|NO|[oO]ff|OFF)$/, () => false),
  scalar('int', integers, (text) => goInteger(text.replaceAll('_', ''))),
];

/** How a text is read that was written for programs of Kubernetes (sigs.k8s.io/yaml): options of the library `yaml`. */
export const asGoReads = {
  merge: true,
  customTags: (usual: Tags): Tags => [...scalars, ...usual],
} as const;

/** How a text is written for them: what they would read as something else, `on` say, is in quotes. */
export const forGoToRead = { sortMapEntries: true, compat: 'yaml-1.1' } as const;
