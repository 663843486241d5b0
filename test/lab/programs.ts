import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

const programs = ['nft', 'iptables', 'ip6tables'].flatMap((name) => [
  name,
  ...['-nft', '-legacy'].flatMap((variant) =>
    ['', '-save', '-restore'].map((verb) => `${name}${variant}${verb}`),
  ),
]);

/** A search path on which some of the programs that make rules are not. */
export function pathWithout(directory: string, hidden: RegExp): string {
  const folder = join(directory, 'bin');
  mkdirSync(folder);
  symlinkSync(process.execPath, join(folder, 'node'));
  symlinkSync('/usr/sbin/ip', join(folder, 'ip'));
  for (const name of programs.filter((one) => !hidden.test(one)))
    symlinkSync(join('/usr/sbin', name), join(folder, name));
  return folder;
}
