import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';

/** A command of this program in a process of its own, which ends with this one, however that ends: its input does. */
export interface Companion {
  /** Writes to its standard input. */
  tell(text: string): void;
  kill(): void;
}

export interface CompanionOptions {
  /** The command and its flags. */
  readonly args: readonly string[];
  readonly heard: (text: string) => void;
  /** Called once. @param why it has ended */
  readonly ended: (why: string) => void;
}

/** How Node runs this program with other arguments. */
export const ownCommand = (args: readonly string[]): string[] => [
  ...process.execArgv,
  process.argv[1] ?? '',
  ...args,
];

/** Characters of its last words that are kept. */
const MOST_WORDS = 2000;

/** Starts a command of this program beside this process. */
export function startCompanion({ args, heard, ended }: CompanionOptions): Companion {
  const child: ChildProcess = spawn(process.execPath, ownCommand(args), { stdio: 'pipe' });
  const { stdin, stdout, stderr } = child;
  let words = '';
  let isOver = false;
  const over = (why: string): void => {
    if (isOver) return;
    isOver = true;
    ended(why);
  };
  stdin?.on('error', () => {}); // it may end at any moment; 'exit' tells
  stdout?.setEncoding('utf8').on('data', (text: string) => {
    if (!isOver) heard(text);
  });
  stderr?.setEncoding('utf8').on('data', (text: string) => {
    words = `${words}${text}`.slice(-MOST_WORDS);
  });
  child.once('error', (error) => over(error.message));
  child.once('close', (status, signal) =>
    over(words.trim() || `it ended with ${signal ?? `status ${status}`}`),
  );
  return {
    tell: (text) => stdin?.write(text),
    kill: () => {
      isOver = true;
      child.kill('SIGKILL');
    },
  };
}

/** Whoever only looks is not to outlive, where memory is short, who works. */
const KILLED_FIRST = 500;

/** To be called by a companion: it inherits how dear the process that started it is held. */
export function giveWay(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', String(KILLED_FIRST));
  } catch {
    // where that is not allowed it goes on as it is
  }
}
