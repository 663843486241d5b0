import assert from 'node:assert/strict';
import { run } from '../../src/kernel/process.ts';
import { twillProgram } from './files.ts';

/** The names that `twill COMMAND --help` lists, without dashes. */
export async function helpFlags(command: string): Promise<Set<string>> {
  const { status, stdout, stderr } = await run(process.execPath, [twillProgram, command, '--help']);
  assert.equal(status, 0, stderr);
  return new Set([...stdout.matchAll(/^ +(?:-\w, )?--([a-z0-9-]+)/gm)].map((match) => match[1]!));
}

/** The names of the flags that a text mentions, without dashes. */
export function flagsIn(text: string): string[] {
  return [...text.matchAll(/(?<![\w-])--([a-z][a-z0-9-]+)/g)].map((match) => match[1]!);
}
