import { Option } from 'commander';
import type { Flag } from '../model/flag.ts';

const collect = (value: string, earlier: string[] | undefined): string[] => [...(earlier ?? []), value];

const words: Readonly<Record<Flag['kind'], string>> = {
  text: 'value',
  list: 'value',
  boolean: 'boolean',
  integer: 'number',
  number: 'number',
  duration: 'duration',
};

/** A declared flag as commander knows it. Its value is read, and checked, when the command runs. */
export function option(flag: Flag): Option {
  const notes = [
    ...(flag.standard === undefined ? [] : [`default: ${flag.standard}`]),
    ...(flag.emptyMeans === undefined ? [] : [`empty: ${flag.emptyMeans}`]),
  ];
  const shown = notes.length === 0 ? flag.help : `${flag.help} (${notes.join('; ')})`;
  if (flag.kind === 'boolean') return new Option(`--${flag.name} [boolean]`, shown).preset(true);
  const made = new Option(`--${flag.name} <${words[flag.kind]}>`, shown);
  return flag.kind === 'list' ? made.argParser(collect) : made;
}
