import { oneLine } from './text.ts';

/** One line of /readyz. A failed check makes the agent not ready; a warning does not. */
export interface Check {
  readonly name: string;
  readonly state: 'ok' | 'failed' | 'warning';
  readonly detail: string;
}

const signs = { ok: '[+]', failed: '[-]', warning: '[!]' } as const;

/** Characters of a name and of a detail: what is from outside may be of any length. */
const LONGEST_NAME = 120;
const LONGEST_DETAIL = 1000;

/** A check as /readyz shows it: one line, whatever is in it. */
export function formatCheck({ name, state, detail }: Check): string {
  return `${signs[state]} ${oneLine(name, LONGEST_NAME)}: ${oneLine(detail, LONGEST_DETAIL)}\n`;
}
