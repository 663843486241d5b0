import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface RefusingNft {
  /** Of a document, as an extended regular expression: what is refused. */
  readonly pattern: string;
  /** What it says then. */
  readonly says: string;
  /** Only so often; always where it is not given. */
  readonly times?: number;
  /** Name of the network namespace that it works in; the caller's where it is not given. */
  readonly netns?: string;
}

/**
 * An `nft` that lacks something: it refuses documents, and is the real one otherwise.
 * @returns the folder that it is in, to be put before others in a search path; made in `directory`
 */
export function refusingNft(directory: string, { pattern, says, times, netns }: RefusingNft): string {
  const folder = join(directory, 'refusing');
  mkdirSync(folder, { recursive: true });
  const real = `${netns === undefined ? '' : `/usr/sbin/ip netns exec ${netns} `}/usr/sbin/nft`;
  const count = join(directory, 'refused');
  writeFileSync(count, '');
  const enough = times === undefined ? 'true' : `[ $(/usr/bin/wc -c < ${count}) -lt ${times} ]`;
  const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const script = `#!/bin/sh
case "$*" in *-f*) ;; *) exec ${real} "$@" ;; esac
text=$(/bin/cat)
if printf '%s\\n' "$text" | /bin/grep -qE -e ${quote(pattern)} && ${enough}; then
  printf x >> ${count}
  printf '%s\\n' ${quote(says)} >&2
  exit 1
fi
printf '%s\\n' "$text" | ${real} "$@"
`;
  writeFileSync(join(folder, 'nft'), script, { mode: 0o755 });
  return folder;
}
