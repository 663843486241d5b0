import { RtSocket } from '../../kernel/netlink/socket.ts';
import { describeError, type ErrorCode, isTwillError, TwillError } from '../../model/error.ts';
import type { PodNetworkState } from '../../model/pod-network.ts';
import { monotonicMs } from '../../process/clock.ts';
import { coalesce } from '../../process/coalesce.ts';
import { guarded } from '../../process/guarded.ts';
import type { Log } from '../../process/log.ts';
import { isServed } from '../../process/unix-server.ts';
import type { HostPortOptions } from '../kernel/hostports.ts';
import type { LoopbackGuard } from '../kernel/localnet.ts';
import { PodWarden } from '../leftovers.ts';
import { addressLines, CallCounts } from '../metrics.ts';
import { hostPortsInVain } from '../plan/hostport-rules.ts';
import type { PodRecord } from '../plan/pod.ts';
import {
  type CniAnswer,
  type CniCall,
  cniErrors,
  failureAnswer,
  type InspectCall,
} from '../plan/protocol.ts';
import { routesInVain } from '../plan/wiring.ts';
import { PodManager } from '../pods.ts';
import { keyOf } from '../record.ts';
import type { PodRepairs } from '../repairs.ts';
import { usualSubnetFile } from '../request.ts';
import { type CniRequest, parseCall } from './call.ts';
import { configurationProblems, configurationWarner } from './configurations.ts';
import { type CallHandler, serveConnection } from './connection.ts';
import { CniListener } from './listener.ts';
import type { NetConf } from './netconf.ts';
import { DeletionQueue } from './queue.ts';
import { settleDeletion } from './queued.ts';

export interface CniServerOptions {
  readonly socketPath: string;
  /** Folder of the pod records; must not outlive a boot. */
  readonly stateDir: string;
  /** Where plugins of other chains keep what they gave out; default /var/lib/cni. */
  readonly cniDataDir?: string;
  /** Name of the bridge the pods are on. */
  readonly bridge: string;
  readonly log: Log;
  /** What pods get now; asked anew for every call. */
  readonly podNetwork: () => PodNetworkState;
  /** Where the runtime looks for configurations: those that keep it from calling us are warned about. */
  readonly confDir?: string;
  /** Resolves when the rules for the pods' traffic to the outside are as the pods' configurations want them. */
  readonly trafficReady?: () => Promise<void>;
  /** flannel's subnet file, as the agent writes it; default flannel's own. */
  readonly subnetFile?: string;
  /** What must stand before host ports are opened on 127.0.0.1; by default nothing, where no agent guards the node. */
  readonly loopbackGuard?: LoopbackGuard;
  /** What rules are made with; default iptables. */
  readonly rulesTool?: HostPortOptions['rulesTool'];
  /** Whether pods with conditions can be served; by default they can. */
  readonly takesConditions?: HostPortOptions['takesConditions'];
  /** Answers what inspection commands ask besides the pods, as one line of JSON; undefined for what it does not know. */
  readonly inspect?: (question: string) => Promise<string | undefined>;
  /** How long a pod must look gone before it is forgotten without a DEL, in milliseconds; default a minute. */
  readonly graceMs?: number;
}

export interface CniServer {
  /** The attachments that stand. */
  pods(): readonly PodRecord[];
  /** Those and the ones that are being made. */
  records(): readonly PodRecord[];
  /** What keeps pods from being added: each in a sentence. */
  problems(): string[];
  /** What was put right because something else had changed it. */
  readonly repairs: Readonly<PodRepairs>;
  /** Lines in Prometheus' text format. */
  metrics(): string[];
  /** Makes the rules of host ports equal to the pods', soon. */
  syncHostPorts(): void;
  /** Looks at host ports and pods now, and puts right what it can. */
  repair(): Promise<void>;
  /** Stops taking calls and waits for those under way. The pods stay as they are. */
  close(): Promise<void>;
}

/** Different warnings about configurations that are said: whoever writes a new one for each pod is not followed. */
const MAX_WARNINGS = 1000;
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

class Handler implements CallHandler {
  readonly manager: PodManager;
  readonly counts = new CallCounts();
  private readonly log: Log;
  /** Warnings about configurations that are in the log. */
  private readonly said = new Set<string>();
  /** What the calls have made of which the answer is on its way. */
  private readonly made = new WeakMap<CniCall, PodRecord>();

  private readonly podNetwork: () => PodNetworkState;
  private readonly beforeAdd: (request: CniRequest) => Promise<void>;
  private readonly others: (question: string) => Promise<string | undefined>;

  constructor(
    manager: PodManager,
    log: Log,
    podNetwork: () => PodNetworkState,
    beforeAdd: (request: CniRequest) => Promise<void>,
    others: (question: string) => Promise<string | undefined> = async () => undefined,
  ) {
    this.manager = manager;
    this.others = others;
    this.podNetwork = podNetwork;
    this.beforeAdd = beforeAdd;
    this.log = log;
  }

  async answer(call: CniCall, abandoned: () => boolean): Promise<CniAnswer> {
    const started = monotonicMs();
    const parsed = parseCall(call);
    if (!parsed.ok) {
      this.log.warn({ command: call.environment.CNI_COMMAND, ...parsed.failure }, 'CNI call refused');
      this.counts.count(call.environment.CNI_COMMAND, parsed.failure.code, undefined);
      return failureAnswer(parsed.failure, parsed.version);
    }
    const { request } = parsed;
    const { command, containerId, ifname } = request;
    this.warn(request);
    const fields = { command, containerId, ifname };
    try {
      const result = await this.run(request, abandoned);
      const record = command === 'ADD' ? this.manager.store.get(keyOf(request)) : undefined;
      if (record !== undefined) this.made.set(call, record);
      const taken = monotonicMs() - started;
      this.counts.count(command, 0, taken / 1000);
      const ms = Math.round(taken * 10) / 10;
      this.log[command === 'STATUS' ? 'debug' : 'info']({ ...fields, ms }, 'CNI call done');
      return { status: 0, output: result === undefined ? '' : `${JSON.stringify(result, undefined, 2)}\n` };
    } catch (error) {
      this.log.warn({ ...fields, error: describeError(error) }, 'CNI call failed');
      const code = this.codeOf(command, error);
      this.counts.count(command, code, (monotonicMs() - started) / 1000);
      return failureAnswer({ code, msg: describeError(error) }, request.config.cniVersion);
    }
  }

  /** Says once what of a configuration has no meaning, or none here. */
  private warn({ command, config }: CniRequest): void {
    if (command !== 'ADD') return;
    const { name, warnings } = config;
    for (const warning of [...warnings, ...this.inVain(config)]) {
      const text = `${name}: ${warning}`;
      if (this.said.has(text) || this.said.size >= MAX_WARNINGS) continue;
      this.said.add(text);
      this.log.warn({ network: name }, `network configuration: ${warning}`);
    }
  }

  /** What has no effect because of the families that this node's pods have. */
  private inVain({ routes, portMappings, containerInterface }: NetConf): string[] {
    const state = this.podNetwork();
    if (!state.ready) return [];
    const families = containerInterface ? state.network.families : [];
    const ports = hostPortsInVain(
      families.map(({ family }) => family),
      portMappings,
    );
    return [...routesInVain(state.network.families, routes), ...ports];
  }

  async undo(call: CniCall): Promise<void> {
    const record = this.made.get(call);
    if (record === undefined) return;
    const { containerId, ifname } = record;
    this.log.warn({ containerId, ifname }, 'the caller of ADD went away before its answer: undone');
    await this.manager.forget(record);
  }

  async inspect({ inspect }: InspectCall): Promise<string> {
    if (inspect === 'pods') return JSON.stringify({ version: 1, pods: this.manager.store.list() });
    return (await this.others(inspect)) ?? JSON.stringify({ error: 'the agent does not know this question' });
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
        await this.beforeAdd(request);
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

/**
 * Serves CNI calls on a Unix socket, in the network namespace of the calling thread. Deletions that were queued while
 * nobody served are carried out first.
 * @throws TwillError `conflict` when another agent listens there
 */
export async function startCniServer(options: CniServerOptions): Promise<CniServer> {
  const { socketPath, stateDir, bridge, log, podNetwork, confDir } = options;
  const { cniDataDir = '/var/lib/cni', subnetFile = usualSubnetFile, graceMs = GRACE_MS } = options;
  const { loopbackGuard = async () => {}, trafficReady = async () => {} } = options;
  if (await isServed(socketPath))
    throw new TwillError('conflict', `another Twill agent listens on ${socketPath}: stop it first`);
  const netlink = new RtSocket();
  const manager = new PodManager({
    stateDir,
    bridge,
    log,
    podNetwork,
    subnetFile,
    trafficReady,
    loopbackGuard,
    cniDataDir,
    graceMs,
    socket: netlink,
    rulesTool: options.rulesTool ?? (async () => 'iptables'),
    takesConditions: options.takesConditions ?? (() => true),
  });
  const before = (request: CniRequest): Promise<void> => settleDeletion(socketPath, request, drain);
  const handler = new Handler(manager, log, podNetwork, before, options.inspect);
  const queue = new DeletionQueue(socketPath, (call) => handler.answer(call, () => false), log);
  const drain = coalesce(() => queue.drain());
  await manager.removeUnfinished();
  // Before the queue: what is to be deleted may be of another chain. Where it fails, ADD tries again and waits.
  await manager.adoption.look().catch((error: unknown) => {
    log.error({ error: describeError(error) }, 'the pods that stand cannot be looked at yet');
  });
  queue.sweep();
  await drain();
  const warden = new PodWarden(manager, netlink, log, graceMs);
  const running = new Set<Promise<void>>();
  const listener = new CniListener(socketPath, (socket) => serveConnection(socket, handler, running), log);
  await listener.listen();
  const warn = configurationWarner(confDir, log);
  warn();
  // An executable that found nobody listening may write its deletion a moment after we began to.
  const lookAfter = guarded(
    log,
    'looking after the pods',
    coalesce(() => warden.run()),
  );
  const timers = [
    setInterval(guarded(log, 'carrying out queued deletions', drain), QUEUE_INTERVAL_MS),
    setInterval(
      guarded(log, 'looking at the CNI socket', () => listener.look()),
      QUEUE_INTERVAL_MS,
    ),
    setInterval(lookAfter, graceMs / 4),
    setInterval(guarded(log, 'looking at the CNI configurations', warn), CONFIGURATIONS_INTERVAL_MS),
    // What it looks at stood through our absence, and it starts a dozen processes: routes to other nodes come first.
    setTimeout(lookAfter, Math.min(FIRST_LOOK_MS, graceMs / 4)),
  ];
  log.info({ socket: socketPath, pods: manager.store.list().length }, 'serving CNI calls');
  return {
    pods: () => manager.store.list(),
    records: () => manager.records(),
    problems() {
      const found = configurationProblems(confDir);
      found.push(...manager.hostPorts.warnings().map(({ detail }) => detail), ...manager.bridges.warnings());
      try {
        manager.status();
      } catch (error) {
        found.push(describeError(error));
      }
      return found;
    },
    repairs: manager.repairs,
    metrics: () => [...addressLines(manager.store.list(), podNetwork()), ...handler.counts.lines()],
    syncHostPorts: () => manager.hostPorts.repair(),
    async repair() {
      manager.hostPorts.doubt();
      await manager.hostPorts.sync();
      await warden.run();
    },
    async close() {
      timers.forEach(clearInterval);
      listener.close();
      await Promise.all(running);
      manager.close();
      netlink.close();
    },
  };
}
