import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, TwillError } from '../model/error.ts';
import { writeStandardError } from '../process/standard-error.ts';
import { NO_ANSWER } from './plan/exit-status.ts';
import { toYaml } from './plan/yaml.ts';
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
const LEAST_WIDTH = 60;
const USUAL_WATCH_SECONDS = 2;

/** Colours only where a person looks (https://no-color.org). */
export function screenOf(stream: NodeJS.WriteStream, env: NodeJS.ProcessEnv): Screen {
  const coloured = stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
  return {
    paint: coloured ? colourPaint : plainPaint,
    // A terminal whose size nobody has told says 0.
    width: Math.max(LEAST_WIDTH, (stream.isTTY && stream.columns) || USUAL_WIDTH),
  };
}

function render<T extends Answer>(answer: T, format: Format, { table }: Inspection<T>): string {
  if (format === 'json') return `${JSON.stringify(answer, undefined, 2)}\n`;
  if (format === 'table') return table(answer, screenOf(process.stdout, process.env));
  return toYaml(answer);
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

/** What a look says, and which exit status that means. */
async function lookOnce<T extends Answer>(
  format: Format,
  inspection: Inspection<T>,
): Promise<{ readonly text: string; readonly status: number }> {
  const answer = await inspection.look();
  return { text: render(answer, format, inspection), status: inspection.exitStatus(answer) };
}

/** Looks until somebody ends it: what cannot be looked at for a while is said, and looked at again. */
async function watch<T extends Answer>(
  format: Format,
  seconds: number,
  inspection: Inspection<T>,
): Promise<void> {
  for (let first = true; ; first = false) {
    let text: string | undefined;
    try {
      const found = await lookOnce(format, inspection);
      ({ text, status: process.exitCode } = found);
    } catch (error) {
      // What is wrong from the beginning will stay so.
      if (first) throw error;
      process.exitCode = NO_ANSWER;
      const said = `twill: ${describeError(error)}\n`;
      if (format === 'table') text = said;
      else writeStandardError(said);
    }
    if (text !== undefined) await write(separator(format, first) + text);
    await sleep(seconds * 1000);
  }
}

/** Shows what an inspection finds, again and again where that is asked for, and sets the exit status by it. */
export async function show<T extends Answer>(flags: InspectFlags, inspection: Inspection<T>): Promise<void> {
  const { output } = flags;
  // Said to whoever awaits the writing, too.
  process.stdout.on('error', () => {});
  try {
    if (flags.watch !== undefined) await watch(output, watchSeconds(flags.watch), inspection);
    const { text, status } = await lookOnce(output, inspection);
    process.exitCode = status;
    await write(text);
  } catch (error) {
    // Whoever reads only the beginning has seen enough.
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') return;
    writeStandardError(`twill: ${describeError(error)}\n`);
    process.exitCode = NO_ANSWER;
  }
}
