import type { ChildProcess } from 'node:child_process';
import { twillProgram } from './files.ts';
import type { Namespace } from './namespace.ts';

/** A line of the log. */
export interface Line {
  readonly level: number;
  readonly msg: string;
  readonly failed?: readonly string[];
}

/** A proxy that runs, and its log. */
export interface Running {
  readonly child: ChildProcess;
  readonly text: () => string;
  /** What it warns about. */
  readonly warnings: () => Line[];
}

/** Reads the log of one that was started. */
export function follow(child: ChildProcess): Running {
  let text = '';
  child.stderr!.on('data', (data) => {
    text += String(data);
  });
  const lines = (): Line[] =>
    text
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as Line);
  return { child, text: () => text, warnings: () => lines().filter(({ level }) => level >= 40) };
}

/** Starts `twill proxy` in the namespace. */
export function startProxy(node: Namespace, args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const stdio: ['ignore', 'ignore', 'pipe'] = ['ignore', 'ignore', 'pipe'];
  return follow(node.spawn(twillProgram, ['proxy', ...args], { stdio, env: { ...process.env, ...env } }));
}
