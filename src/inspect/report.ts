import { lstatSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { dropExecutablePages } from '../kernel/executable-pages.ts';
import { TwillError } from '../model/error.ts';
import { isoTime, wallClockMs } from '../process/clock.ts';
import { replaceFile } from '../process/durable.ts';
import { fileError } from '../process/files.ts';
import { Archive } from './archive.ts';
import { lookAtDifferences } from './diff.ts';
import type { Compared } from './differences.ts';
import { type Look, looking } from './look.ts';
import { type InspectFlags, type Screen, show } from './output.ts';
import { bounded, redact } from './plan/redact.ts';
import { stateFile } from './plan/state-file.ts';
import { lookAtPods } from './pods.ts';
import { lookAtPreflight } from './preflight.ts';
import { filePieces, kernelPieces, logPieces, MOST_OF_ONE, type Piece, readPiece } from './report-pieces.ts';
import { rulesPieces } from './report-rules.ts';
import { lookAtRoutes } from './routes.ts';
import { lookAtServices } from './services.ts';
import { lookAtNode } from './status.ts';
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

/** Characters of all files together before they are packed. */
const MOST_OF_ALL = 32 * 1024 * 1024;
/** Programs that run at once while nothing else does. */
const SIDE_BY_SIDE = 3;

/** JSON with a line for each field, and for each entry of a list: what is long can be searched, and cut. */
function jsonLines(answer: object): string {
  const fields = Object.entries(answer).flatMap(([name, value]) => {
    if (value === undefined) return [];
    const list =
      Array.isArray(value) && value.length > 0 ? value.map((one) => JSON.stringify(one)) : undefined;
    const text = list === undefined ? JSON.stringify(value) : `[\n${list.join(',\n')}\n]`;
    return [`${JSON.stringify(name)}: ${text}`];
  });
  return `{\n${fields.join(',\n')}\n}\n`;
}

const asJson = (look: () => Promise<object>) => async (): Promise<string> => jsonLines(await look());

/** What the commands answer. */
function answers(look: Look): Piece[] {
  let compared: Compared | undefined;
  const status = async (): Promise<object> => {
    const found = await lookAtNode(look);
    ({ compared } = found);
    return found.answer;
  };
  return [
    { name: 'status.json', read: asJson(status) },
    { name: 'diff.json', read: asJson(() => lookAtDifferences(look, compared)) },
    { name: 'routes.json', read: asJson(() => lookAtRoutes(look)) },
    { name: 'pods.json', read: asJson(() => lookAtPods(look)) },
    { name: 'services.json', read: asJson(() => lookAtServices(look)) },
  ];
}

/** Rules, files and logs. */
async function evidence(look: Look, { cniConfDir, logFile = [] }: ReportFlags): Promise<Piece[]> {
  // One of another version is no reason to write nothing.
  const [agent, proxy] = await Promise.all([
    look.agent().then(
      ({ state }) => state,
      () => undefined,
    ),
    look.proxy().then(
      ({ state }) => state,
      () => undefined,
    ),
  ]);
  const files = [stateFile(look.socket, 'agent'), stateFile(look.proxySocket, 'proxy')];
  const subnetFile = agent?.settings.subnetFile;
  return [
    ...(await rulesPieces(look, proxy)),
    ...filePieces(subnetFile === undefined ? files : [...files, subnetFile], cniConfDir),
    ...logPieces(logFile),
  ];
}

/** Where pieces go. */
interface Packing {
  readonly folder: string;
  readonly archive: Archive;
}

/**
 * Packs pieces one after the other.
 * @param most characters of all of them
 * @param ahead how many are read before it is their turn
 */
async function collect(
  pieces: readonly Piece[],
  most: number,
  { folder, archive }: Packing,
  ahead = 0,
): Promise<ReportAnswer['entries']> {
  const entries: { name: string; bytes: number }[] = [];
  const names = new Set<string>();
  const reading: Promise<string>[] = [];
  let left = most;
  for (const [index, piece] of pieces.entries()) {
    for (const next of pieces.slice(index + reading.length, index + ahead + 1)) reading.push(readPiece(next));
    let { name } = piece;
    for (let number = 2; names.has(name); number++) name = `${piece.name}.${number}`;
    names.add(name);
    // Cut before anything looks through it.
    const text = redact(bounded((await reading.shift())!, Math.min(MOST_OF_ONE, left)));
    left = Math.max(0, left - text.length);
    const path = `${folder}/${name}`;
    entries.push({ name: path, bytes: await archive.add({ name: path, text }) });
  }
  return entries;
}

/**
 * Writes all of it or nothing: half an archive cannot be told from one by its name.
 * @param isGiven false for a name that can be foreseen: what stands there is somebody else's
 */
function writeArchive(file: string, archive: Buffer, isGiven: boolean): void {
  try {
    const standing = lstatSync(file, { throwIfNoEntry: false });
    if (standing !== undefined && !isGiven)
      throw new TwillError('exists', `'${file}' is there already: take it away, or give --file`);
    // Into a pipe, a device, or where a link leads.
    if (standing?.isFile() === false) writeFileSync(file, archive, { mode: 0o600 });
    else replaceOrFill(file, archive);
  } catch (cause) {
    if (cause instanceof TwillError) throw cause;
    const { code = '' } = cause as NodeJS.ErrnoException;
    if (!['ENOENT', 'ENOTDIR'].includes(code)) throw fileError(file, cause);
    throw new TwillError('permission', `cannot write '${file}' (is ${dirname(file)} a directory?)`, cause);
  }
}

function replaceOrFill(file: string, archive: Buffer): void {
  try {
    replaceFile(file, [archive], { mode: 0o600 });
  } catch (cause) {
    // A file that is mounted by itself, as into a container, cannot be replaced.
    if ((cause as NodeJS.ErrnoException).code !== 'EBUSY') throw cause;
    writeFileSync(file, archive);
  }
}

async function report(flags: ReportFlags): Promise<ReportAnswer> {
  const now = wallClockMs();
  const stamp = isoTime(now).slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  const folder = `twill-report-${hostname()
    .slice(0, 30)
    .replace(/[^\w.-]/g, '_')}-${stamp}`;
  const file = flags.file ?? `${folder}.tar.gz`;
  const packing = new Archive(now);
  const into = { folder, archive: packing };
  // Starting programs is the cheaper the less this one holds.
  const entries = [...(await collect(kernelPieces, MOST_OF_ALL / 4, into, SIDE_BY_SIDE))];
  const preflight = (look: Look): Piece => ({
    name: 'preflight.json',
    read: asJson(() => lookAtPreflight(look, flags)),
  });
  // What other programs print, and other nodes answer, comes while this one compares.
  const collected = await looking(flags, (look) =>
    Promise.all([
      collect(answers(look), MOST_OF_ALL / 2 - MOST_OF_ONE, into),
      evidence(look, flags).then((pieces) => collect(pieces, MOST_OF_ALL / 4, into)),
      collect([preflight(look)], MOST_OF_ONE, into),
    ]),
  );
  entries.push(...collected.flat());
  const archive = await packing.end();
  if (file === '-') process.stdout.write(archive);
  else writeArchive(file, archive, flags.file !== undefined);
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
  // It may be asked for where memory is what is short.
  dropExecutablePages();
  // On standard output the archive is alone.
  const alone = flags.file === '-';
  await show(alone ? { ...flags, output: 'table' } : flags, {
    look: () => report(flags),
    table: (answer, screen) => (alone ? '' : reportTable(answer, screen)),
    exitStatus: () => 0,
  });
}
