import { type FSWatcher, watch } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { describeError, TwillError } from '../../model/error.ts';
import { asGoReads } from '../../process/go-yaml.ts';
import { readRegularFile } from '../../process/regular-file.ts';
import { parseNode } from '../plan/node-parse.ts';
import { isForAnotherProxy, parseEndpointSlice, parseService } from '../plan/parse.ts';
import { type EndpointSlice, type NodeFacts, objectKey, type Service } from '../plan/service.ts';
import type { ServiceSink, ServiceSource } from './source.ts';

/** Editors and `cp` write a file in several steps: read it when it has been quiet for this long. */
const SETTLE_MS = 50;
/** For file systems that report no changes. */
const RESCAN_MS = 5000;

interface ParsedFile {
  readonly stamp: string;
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  readonly nodes: ReadonlyMap<string, NodeFacts>;
}

/** Services, EndpointSlices and this node's Node from the YAML and JSON files of one directory, read again whenever one changes. */
export class ManifestSource implements ServiceSource {
  readonly description: string;
  private readonly directory: string;
  private readonly nodeName: string;
  private files = new Map<string, ParsedFile>();
  private watcher: FSWatcher | undefined;
  private timer: NodeJS.Timeout | undefined;
  private interval: NodeJS.Timeout | undefined;
  private scanning: Promise<void> = Promise.resolve();
  private stopped = false;

  constructor(directory: string, nodeName: string) {
    this.directory = directory;
    this.nodeName = nodeName;
    this.description = `manifests in ${directory}`;
  }

  /** @throws TwillError `not-found` when the directory cannot be read */
  async start(sink: ServiceSink): Promise<void> {
    // Watch before the first read, so that no change falls between the two.
    try {
      this.watcher = watch(this.directory, () => this.soon(sink));
    } catch (cause) {
      throw new TwillError('not-found', `cannot read manifests in '${this.directory}'`, cause);
    }
    this.watcher.on('error', () => {}); // the regular scan still sees changes
    await this.scan(sink);
    this.interval = setInterval(() => this.enqueue(sink), RESCAN_MS);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.watcher?.close();
    clearTimeout(this.timer);
    clearInterval(this.interval);
    await this.scanning;
  }

  private soon(sink: ServiceSink): void {
    clearTimeout(this.timer);
    if (!this.stopped) this.timer = setTimeout(() => this.enqueue(sink), SETTLE_MS);
  }

  private enqueue(sink: ServiceSink): void {
    this.scanning = this.scanning
      .then(() => this.scan(sink))
      .catch(() => {
        // The directory is gone for now: what is known stays until it is back.
      });
  }

  private async scan(sink: ServiceSink): Promise<void> {
    const names = (await readdir(this.directory)).filter((name) => /\.(ya?ml|json)$/.test(name)).sort();
    const files = new Map<string, ParsedFile>();
    let changed = names.length !== this.files.size || this.files.size === 0;
    for (const name of names) {
      const old = this.files.get(name);
      const file = await this.readFile(name, old, sink);
      if (file !== old) changed = true;
      if (file !== undefined) files.set(name, file);
    }
    if (!changed || this.stopped) return;
    this.files = files;
    this.publish(sink);
  }

  private async readFile(
    name: string,
    old: ParsedFile | undefined,
    sink: ServiceSink,
  ): Promise<ParsedFile | undefined> {
    const path = join(this.directory, name);
    try {
      const { mtimeMs, size, ino, ctimeMs } = await stat(path);
      const stamp = `${mtimeMs} ${ctimeMs} ${size} ${ino}`;
      if (old?.stamp === stamp) return old;
      return { stamp, ...parseManifests(readRegularFile(path), path, sink) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      // Not read is not empty: what it held stays until it can be read again, or is gone.
      sink.skipped(path, describeError(error));
      return old;
    }
  }

  private publish(sink: ServiceSink): void {
    const all = [...this.files];
    const unique = <T extends Service | EndpointSlice>(
      kind: string,
      of: (file: ParsedFile) => readonly T[],
    ): T[] => {
      const found = new Map<string, T>();
      for (const [name, file] of all) {
        for (const value of of(file)) {
          const key = objectKey(value);
          if (found.has(key))
            sink.skipped(join(this.directory, name), `${kind} ${key} is in another file too`);
          else found.set(key, value);
        }
      }
      return [...found.values()];
    };
    sink.node(all.map(([, { nodes }]) => nodes.get(this.nodeName)).find((facts) => facts !== undefined));
    sink.replace(
      'service',
      unique('Service', (file) => file.services),
    );
    sink.replace(
      'slice',
      unique('EndpointSlice', (file) => file.slices),
    );
  }
}

function describe(raw: Record<string, unknown>): string {
  const metadata = (raw.metadata ?? {}) as Record<string, unknown>;
  return `${String(raw.kind)} ${String(metadata.namespace ?? 'default')}/${String(metadata.name)}`.slice(
    0,
    200,
  );
}

/** The objects in one file's text: several documents, each an object or a `List`. */
export function parseManifests(
  text: string,
  path: string,
  sink: Pick<ServiceSink, 'skipped'>,
): Omit<ParsedFile, 'stamp'> {
  const services: Service[] = [];
  const nodes = new Map<string, NodeFacts>();
  const slices: EndpointSlice[] = [];
  const take = (raw: Record<string, unknown>): void => {
    if (Array.isArray(raw.items)) {
      for (const item of raw.items) if (typeof item === 'object' && item !== null) take(item);
      return;
    }
    if (raw.kind === 'Node') {
      nodes.set(String((raw.metadata as { name?: unknown } | undefined)?.name), parseNode(raw));
      return;
    }
    if (isForAnotherProxy(raw, raw.kind === 'EndpointSlice' ? 'slice' : 'service')) return;
    try {
      const parsed =
        raw.kind === 'Service'
          ? parseService(raw)
          : raw.kind === 'EndpointSlice'
            ? parseEndpointSlice(raw)
            : undefined;
      if (parsed === undefined) return;
      for (const problem of parsed.problems) sink.skipped(path, `${describe(raw)}: ${problem}`);
      if (raw.kind === 'Service') services.push(parsed.value as Service);
      else slices.push(parsed.value as EndpointSlice);
    } catch (error) {
      sink.skipped(path, `${describe(raw)}: ${describeError(error)}`);
    }
  };
  parseAllDocuments(text, { logLevel: 'silent', ...asGoReads }).forEach((document, index) => {
    if (document.errors.length > 0) {
      sink.skipped(path, `document ${index + 1}: ${document.errors[0]!.message.split('\n')[0]}`);
      return;
    }
    let raw: unknown;
    try {
      raw = document.toJS();
    } catch (error) {
      // An alias that leads nowhere, or a merge of what is no map.
      sink.skipped(path, `document ${index + 1}: ${describeError(error)}`);
      return;
    }
    if (typeof raw === 'object' && raw !== null) take(raw as Record<string, unknown>);
  });
  return { services, slices, nodes };
}
