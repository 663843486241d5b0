import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What nft 1.0.2 says of a drawn number that is a part of a key. */
export const noDrawnNumbers: RefusingNft = {
  pattern: '[.] numgen',
  says: '/dev/stdin:8:66-84: Error: can not use variable sized data types (integer) in concat expressions',
};

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

/** Runs `work` while nft lacks something. */
export async function whileNftLacks(lacks: RefusingNft, work: () => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'twill-nft-'));
  const path = process.env.PATH;
  process.env.PATH = `${refusingNft(folder, lacks)}:${path}`;
  try {
    await work();
  } finally {
    process.env.PATH = path;
    rmSync(folder, { recursive: true });
  }
}
