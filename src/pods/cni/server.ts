import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { RtSocket } from '../../kernel/netlink/socket.ts';
import { describeError, type ErrorCode, isTwillError, TwillError } from '../../model/error.ts';
import type { PodNetworkState } from '../../model/pod-network.ts';
import type { Log } from '../../process/log.ts';
import { PodWarden, removeOrphans } from '../leftovers.ts';
import { addressLines, CallCounts } from '../metrics.ts';
import type { PodRecord } from '../plan/pod.ts';
import {
  type CniAnswer,
  type CniCall,
  cniErrors,
  failureAnswer,
  type InspectCall,
} from '../plan/protocol.ts';
import { PodManager } from '../pods.ts';
import { type CniRequest, parseCall } from './call.ts';
import { configurationProblems, configurationWarner } from './configurations.ts';
import { drainQueue } from './queue.ts';

export interface CniServerOptions {
  readonly socketPath: string;
  /** Folder of the pod records; must not outlive a boot. */
  readonly stateDir: string;
  /** Name of the bridge the pods are on. */
  readonly bridge: string;
  readonly log: Log;
  /** What pods get now; asked anew for every call. */
  readonly podNetwork: () => PodNetworkState;
  /** Where the runtime looks for configurations: those that keep it from calling us are warned about. */
  readonly confDir?: string;
  /** Whether the agent masquerades what pods send to the outside (`--ip-masq`); default false. */
  readonly masquerade?: boolean;
  /** How long a pod must look gone before it is forgotten without a DEL, in milliseconds; default a minute. */
  readonly graceMs?: number;
}

export interface CniServer {
  /** The attachments that stand. */
  pods(): readonly PodRecord[];
  /** What keeps pods from being added: each in a sentence. */
  problems(): string[];
  /** Lines in Prometheus' text format. */
  metrics(): string[];
  /** Stops taking calls and waits for those under way. The pods stay as they are. */
  close(): Promise<void>;
}

/** Longest request line in bytes; a configuration with prevResult has some kilobytes. */
const MAX_REQUEST = 1 << 20;
/** How long a caller that has its answer may keep the connection. */
const CLOSE_TIMEOUT_MS = 10_000;
const QUEUE_INTERVAL_MS = 5000;
const GRACE_MS = 60_000;
const CONFIGURATIONS_INTERVAL_MS = 30_000;
const FIRST_LOOK_MS = 1000;

const failureCodes: Readonly<Partial<Record<ErrorCode, number>>> = {
  invalid: cniErrors.invalidEnvironment,
  'not-found': cniErrors.unknownContainer,
  unavailable: cniErrors.tryAgainLater,
  timeout: cniErrors.tryAgainLater,
  exhausted: cniErrors.rangeFull,
};

class Handler {
  readonly manager: PodManager;
  readonly counts = new CallCounts();
  private readonly log: Log;

  constructor(manager: PodManager, log: Log) {
    this.manager = manager;
    this.log = log;
  }

  async answer(call: CniCall, abandoned: () => boolean): Promise<CniAnswer> {
    const started = performance.now();
    const parsed = parseCall(call);
    if (!parsed.ok) {
      this.log.warn({ command: call.environment.CNI_COMMAND, ...parsed.failure }, 'CNI call refused');
      this.counts.count(call.environment.CNI_COMMAND, parsed.failure.code, undefined);
      return failureAnswer(parsed.failure, parsed.version);
    }
    const { request } = parsed;
    const { command, containerId, ifname } = request;
    const fields = { command, containerId, ifname };
    try {
      const result = await this.run(request, abandoned);
      const taken = performance.now() - started;
      this.counts.count(command, 0, taken / 1000);
      const ms = Math.round(taken * 10) / 10;
      this.log[command === 'STATUS' ? 'debug' : 'info']({ ...fields, ms }, 'CNI call done');
      return { status: 0, output: result === undefined ? '' : `${JSON.stringify(result, undefined, 2)}\n` };
    } catch (error) {
      this.log.warn({ ...fields, error: describeError(error) }, 'CNI call failed');
      const code = this.codeOf(command, error);
      this.counts.count(command, code, (performance.now() - started) / 1000);
      return failureAnswer({ code, msg: describeError(error) }, request.config.cniVersion);
    }
  }

  private codeOf(command: string, error: unknown): number {
    if (command === 'STATUS')
      return isTwillError(error, 'kernel') ? cniErrors.notAvailableLimited : cniErrors.notAvailable;
    if (isTwillError(error, 'invalid') && error.message.startsWith('network configuration'))
      return cniErrors.invalidConfig;
    return (isTwillError(error) ? failureCodes[error.code] : undefined) ?? cniErrors.failed;
  }

  private async run(request: CniRequest, abandoned: () => boolean): Promise<object | undefined> {
    switch (request.command) {
      case 'ADD':
        return await this.manager.add(request, abandoned);
      case 'DEL':
        await this.manager.delete(request);
        return undefined;
      case 'STATUS':
        this.manager.status();
        return undefined;
      case 'CHECK':
        await this.manager.check(request);
        return undefined;
      case 'GC':
        await this.manager.collectGarbage(request);
        return undefined;
    }
  }
}

/** One connection carries one call: a line with the request, a line with the answer. */
function serveConnection(socket: Socket, handler: Handler, running: Set<Promise<void>>): void {
  const chunks: Buffer[] = [];
  let length = 0;
  let gone = false;
  socket.on('error', () => {}); // the caller may be killed at any moment; 'close' follows
  // A caller ends its side only by going away.
  for (const event of ['end', 'close'])
    socket.on(event, () => {
      gone = true;
    });
  const serve = async (line: string): Promise<void> => {
    let request: CniCall | InspectCall;
    try {
      request = JSON.parse(line);
    } catch {
      socket.destroy();
      return;
    }
    const answer =
      'inspect' in request ? handler.manager.store.list() : await handler.answer(request, () => gone);
    // The answer ends with its line: the caller closes then, and one that does not in time is closed on.
    socket.write(`${JSON.stringify(answer)}\n`);
    socket.setTimeout(CLOSE_TIMEOUT_MS, () => socket.destroy());
  };
  const receive = (chunk: Buffer): void => {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_REQUEST) socket.destroy();
    if (!chunk.includes(10)) return;
    socket.off('data', receive);
    socket.resume(); // so that a caller that goes away is noticed
    const task = serve(Buffer.concat(chunks).toString()).catch((error: unknown) => {
      socket.destroy(error as Error);
    });
    running.add(task);
    void task.finally(() => running.delete(task));
  };
  socket.on('data', receive);
}

/** @throws TwillError `conflict` when another agent listens there */
async function refuseSecondServer(socketPath: string): Promise<void> {
  const answered = await new Promise<boolean>((resolve) => {
    const probe = createConnection(socketPath);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (answered)
    throw new TwillError('conflict', `another Twill agent listens on ${socketPath}: stop it first`);
}

function listen(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new TwillError('unavailable', `cannot listen on ${socketPath}`, cause)),
    );
    server.listen(socketPath, () => {
      chmodSync(socketPath, 0o600);
      resolve();
    });
  });
}

/**
 * Serves CNI calls on a Unix socket, in the network namespace of the calling thread. Deletions that were queued while
 * nobody served are carried out first.
 */
export async function startCniServer(options: CniServerOptions): Promise<CniServer> {
  const { socketPath, stateDir, bridge, log, podNetwork, confDir } = options;
  const { masquerade = false, graceMs = GRACE_MS } = options;
  mkdirSync(dirname(socketPath), { recursive: true, mode: 0o755 });
  await refuseSecondServer(socketPath);
  const netlink = new RtSocket();
  const manager = new PodManager({ stateDir, bridge, log, podNetwork, masquerade, socket: netlink });
  const handler = new Handler(manager, log);
  const drain = (): Promise<void> => drainQueue(socketPath, (call) => handler.answer(call, () => false), log);
  await removeOrphans(netlink, manager, log);
  await drain();
  const warden = new PodWarden(manager, netlink, log, graceMs);
  const running = new Set<Promise<void>>();
  const server = createServer((socket) => serveConnection(socket, handler, running));
  rmSync(socketPath, { force: true });
  await listen(server, socketPath);
  const warn = configurationWarner(confDir, log);
  warn();
  // An executable that found nobody listening may write its deletion a moment after we began to.
  const timers = [
    setInterval(() => void drain(), QUEUE_INTERVAL_MS),
    setInterval(() => void warden.run(), graceMs / 4),
    setInterval(warn, CONFIGURATIONS_INTERVAL_MS),
    // What it looks at stood through our absence, and it starts a dozen processes: routes to other nodes come first.
    setTimeout(() => void warden.run(), Math.min(FIRST_LOOK_MS, graceMs / 4)),
  ];
  log.info({ socket: socketPath, pods: manager.store.list().length }, 'serving CNI calls');
  return {
    pods: () => manager.store.list(),
    problems() {
      const found = configurationProblems(confDir);
      try {
        manager.status();
      } catch (error) {
        found.push(describeError(error));
      }
      return found;
    },
    metrics: () => [...addressLines(manager.store.list(), podNetwork()), ...handler.counts.lines()],
    async close() {
      timers.forEach(clearInterval);
      server.close();
      await Promise.all(running);
      manager.close();
      netlink.close();
    },
  };
}
