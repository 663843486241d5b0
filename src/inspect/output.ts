import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, TwillError } from '../model/error.ts';
import { writeStandardError } from '../process/standard-error.ts';
import { colourPaint, type Paint, plainPaint } from './table.ts';

export const formats = ['table', 'json', 'yaml'] as const;
export type Format = (typeof formats)[number];

/** What every inspection command is told. */
export interface InspectFlags {
  readonly output: Format;
  /** Seconds between looks; undefined for one look. */
  readonly watch?: string | true | undefined;
  /** Where the agent listens. */
  readonly socket: string;
  /** Where the proxy listens. */
  readonly proxySocket: string;
}

/** The screen as a table is to be made for it. */
export interface Screen {
  readonly paint: Paint;
  readonly width: number;
}

/** Exit status of a command that has found out nothing: flags that are wrong, no right to look. */
export const NO_ANSWER = 3;

/** Every answer as JSON begins so: what is taken out of the shape, or means something else, raises it. */
export interface Answer {
  readonly version: number;
}

/** One inspection: what it finds, how it is shown, what it means for the exit status. */
export interface Inspection<T extends Answer> {
  readonly look: () => Promise<T>;
  readonly table: (answer: T, screen: Screen) => string;
  readonly exitStatus: (answer: T) => number;
}

const USUAL_WIDTH = 100;
const USUAL_WATCH_SECONDS = 2;

/** Colours only where a person looks (https://no-color.org). */
export function screenOf(stream: NodeJS.WriteStream, env: NodeJS.ProcessEnv): Screen {
  const coloured = stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
  return {
    paint: coloured ? colourPaint : plainPaint,
    width: Math.max(60, stream.isTTY ? stream.columns : USUAL_WIDTH),
  };
}

async function render<T extends Answer>(
  answer: T,
  format: Format,
  { table }: Inspection<T>,
): Promise<string> {
  if (format === 'json') return `${JSON.stringify(answer, undefined, 2)}\n`;
  if (format === 'table') return table(answer, screenOf(process.stdout, process.env));
  // Loaded where it is asked for.
  const { stringify } = await import('yaml');
  return stringify(JSON.parse(JSON.stringify(answer)), { aliasDuplicateObjects: false });
}

/** @throws TwillError `invalid` */
function watchSeconds(watch: string | true): number {
  const seconds = watch === true ? USUAL_WATCH_SECONDS : Number(watch);
  if (!(seconds >= 0.1 && seconds <= 86_400))
    throw new TwillError('invalid', `--watch ${watch} is not a number of seconds from 0.1 to 86400`);
  return seconds;
}

function write(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

/** Between looks: a terminal is wiped, a file or pipe gets one document after the other. */
function separator(format: Format, first: boolean): string {
  if (format === 'table') return process.stdout.isTTY ? '\u001b[H\u001b[2J\u001b[3J' : first ? '' : '\n';
  return format === 'yaml' && !first ? '---\n' : '';
}

/** Shows what an inspection finds, again and again where that is asked for, and sets the exit status by it. */
export async function show<T extends Answer>(flags: InspectFlags, inspection: Inspection<T>): Promise<void> {
  const { output, watch } = flags;
  try {
    const seconds = watch === undefined ? undefined : watchSeconds(watch);
    for (let first = true; ; first = false) {
      const answer = await inspection.look();
      const text = await render(answer, output, inspection);
      await write(separator(output, first) + text);
      process.exitCode = inspection.exitStatus(answer);
      if (seconds === undefined) return;
      await sleep(seconds * 1000);
    }
  } catch (error) {
    // Whoever reads only the beginning has seen enough.
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') return;
    writeStandardError(`twill: ${describeError(error)}\n`);
    process.exitCode = NO_ANSWER;
  }
}
