import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { TwillError } from '../model/error.ts';
import { isoTime, wallClockMs } from '../process/clock.ts';
import { Archive } from './archive.ts';
import { lookAtDifferences } from './diff.ts';
import { type InspectFlags, type Screen, show } from './output.ts';
import { bounded, redact } from './plan/redact.ts';
import { stateFile } from './plan/state-file.ts';
import { lookAtPods } from './pods.ts';
import { lookAtPreflight } from './preflight.ts';
import { filePieces, kernelPieces, legacyPieces, logPieces, type Piece, readPiece } from './report-pieces.ts';
import { lookAtRoutes } from './routes.ts';
import { lookAtServices } from './services.ts';
import { agentState } from './states.ts';
import { lookAtStatus } from './status.ts';
import { formatTable } from './table.ts';

export interface ReportFlags extends InspectFlags {
  /** Where to write; `-` for standard output. */
  readonly file?: string;
  readonly cniConfDir: string;
  readonly logFile?: readonly string[];
}

export interface ReportAnswer {
  readonly version: 1;
  readonly file: string;
  readonly bytes: number;
  readonly entries: readonly { readonly name: string; readonly bytes: number }[];
}

/** Characters of one file, and of all together before they are packed. */
const MOST_OF_ONE = 4 * 1024 * 1024;
const MOST_OF_ALL = 32 * 1024 * 1024;

const asJson = (look: () => Promise<unknown>) => async (): Promise<string> =>
  `${JSON.stringify(await look(), undefined, 1)}\n`;

async function piecesOf(flags: ReportFlags): Promise<Piece[]> {
  const { socket, proxySocket, cniConfDir, logFile = [] } = flags;
  // One of another version is no reason to write nothing.
  const state = await agentState(socket).then(
    (known) => known.state,
    () => undefined,
  );
  const files = [stateFile(socket, 'agent'), stateFile(proxySocket, 'proxy')];
  const subnetFile = state?.settings.subnetFile;
  return [
    { name: 'status.json', read: asJson(() => lookAtStatus(flags)) },
    { name: 'diff.json', read: asJson(() => lookAtDifferences(flags)) },
    { name: 'routes.json', read: asJson(() => lookAtRoutes(socket)) },
    { name: 'pods.json', read: asJson(() => lookAtPods(socket)) },
    { name: 'services.json', read: asJson(() => lookAtServices(proxySocket)) },
    { name: 'preflight.json', read: asJson(() => lookAtPreflight(flags)) },
    ...kernelPieces,
    ...legacyPieces(),
    ...filePieces(subnetFile === undefined ? files : [...files, subnetFile], cniConfDir),
    ...logPieces(logFile),
  ];
}

/** One after the other: this is not to be felt by anybody else. */
async function collect(
  pieces: readonly Piece[],
  folder: string,
  archive: Archive,
): Promise<ReportAnswer['entries']> {
  const entries: { name: string; bytes: number }[] = [];
  const names = new Set<string>();
  let left = MOST_OF_ALL;
  for (const piece of pieces) {
    let { name } = piece;
    for (let number = 2; names.has(name); number++) name = `${piece.name}.${number}`;
    names.add(name);
    // Cut before anything looks through it.
    const text = redact(bounded(await readPiece(piece), Math.min(MOST_OF_ONE, left)));
    left = Math.max(0, left - text.length);
    const path = `${folder}/${name}`;
    entries.push({ name: path, bytes: await archive.add({ name: path, text }) });
  }
  return entries;
}

async function report(flags: ReportFlags): Promise<ReportAnswer> {
  const now = wallClockMs();
  const stamp = isoTime(now).slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  const folder = `twill-report-${hostname()
    .slice(0, 30)
    .replace(/[^\w.-]/g, '_')}-${stamp}`;
  const file = flags.file ?? `${folder}.tar.gz`;
  const packing = new Archive(now);
  const entries = await collect(await piecesOf(flags), folder, packing);
  const archive = await packing.end();
  if (file === '-') process.stdout.write(archive);
  else
    try {
      // A name that is not given can be foreseen: what stands there is somebody else's.
      writeFileSync(file, archive, { mode: 0o600, flag: flags.file === undefined ? 'wx' : 'w' });
    } catch (cause) {
      throw new TwillError('permission', `cannot write '${file}' (is ${dirname(file)} a directory?)`, cause);
    }
  return {
    version: 1,
    file,
    bytes: archive.length,
    entries,
  };
}

function reportTable({ file, bytes, entries }: ReportAnswer, screen: Screen): string {
  const rows = entries.map(({ name, bytes: size }) => [String(size), name]);
  const said = `${file}: ${bytes} bytes, ${entries.length} files; passwords, tokens and keys are left out, addresses and names are not: look through it before you give it away`;
  return `${said}\n${formatTable(['BYTES', 'FILE'], rows, screen)}`;
}

/** `twill report` */
export async function showReport(flags: ReportFlags): Promise<void> {
  // On standard output the archive is alone.
  const alone = flags.file === '-';
  await show(alone ? { ...flags, output: 'table' } : flags, {
    look: () => report(flags),
    table: (answer, screen) => (alone ? '' : reportTable(answer, screen)),
    exitStatus: () => 0,
  });
}
