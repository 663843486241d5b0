import { release } from 'node:os';
import { join } from 'node:path';
import { dropExecutablePages } from '../kernel/executable-pages.ts';
import { listLinks } from '../kernel/netlink/links.ts';
import { RtSocket } from '../kernel/netlink/socket.ts';
import { agentSettingsFile, RememberedSysctls } from '../kernel/remembered-sysctls.ts';
import { ConflictWatch } from '../leases/conflict-watch.ts';
import { NetworkChanges } from '../leases/network-changes.ts';
import type { NetworkConfig } from '../leases/plan/network-config.ts';
import type { LeaseSource, SourceChange } from '../leases/plan/source.ts';
import { previousPrefixes } from '../leases/plan/subnet-file.ts';
import { Masquerade } from '../masquerade/masquerade.ts';
import type { PeerFilter } from '../masquerade/peer-filter.ts';
import type { Mesh } from '../mesh/mesh.ts';
import { describeError } from '../model/error.ts';
import type { FlagValues } from '../model/flag.ts';
import { watchKernel } from '../overlay/events.ts';
import { Overlay } from '../overlay/overlay.ts';
import { wantedChecksumOffload } from '../overlay/plan/checksum-offload.ts';
import { VtepMacs } from '../overlay/vtep-macs.ts';
import { withdrawWrongRoutes } from '../overlay/withdraw.ts';
import { PlacedConfiguration } from '../pods/cni/placed-configuration.ts';
import { type CniServer, startCniServer } from '../pods/cni/server.ts';
import { collectEarly } from '../process/collection.ts';
import { aborted, type Closer, runUntilSignal } from '../process/ending.ts';
import { readFileIfPresent } from '../process/files.ts';
import { Gate } from '../process/gate.ts';
import { type Log, makeLog } from '../process/log.ts';
import { informSystemd } from '../process/systemd.ts';
import { version } from '../process/version.ts';
import { type AgentConfig, readAgentConfig } from './config.ts';
import { serveHealth, serviceState } from './health.ts';
import { startMesh } from './mesh.ts';
import type { AgentParts } from './parts.ts';
import { startPeerFilter } from './peer-filter.ts';
import { RulesChoice } from './rules-choice.ts';
import { openSource } from './source.ts';
import { answerQuestion, type StateSubject } from './state.ts';
import { keepAgentState } from './state-file.ts';
import { PodTraffic, wantedTraffic } from './traffic.ts';

/** The devices in the bridge: one for each pod, whichever CNI plugin wired it. */
async function countPorts(socket: RtSocket, bridge: string): Promise<number> {
  const links = await listLinks(socket);
  const index = links.find(({ name }) => name === bridge)?.index;
  return index === undefined ? 0 : links.filter(({ master }) => master === index).length;
}

/** The rules follow the pod network within a moment; an ADD waits for them. */
const GUARD_WAIT_MS = 10_000;

/** The running parts. */
class Agent {
  private readonly config: AgentConfig;
  private readonly log: Log;
  private readonly source: LeaseSource;
  private readonly signal: AbortSignal;
  /** Closes the parts; the last one first. */
  private readonly closers: Closer[];
  private overlay: Overlay | undefined;
  /** The network configuration in force. */
  private network: NetworkConfig | undefined;
  private changes: NetworkChanges | undefined;
  private watching = false;
  private sourceChanges = 0;
  private readonly conflicts: ConflictWatch;
  private masquerade: Masquerade | undefined;
  private peerFilter: PeerFilter | undefined;
  private readonly rules: RulesChoice;
  private mesh: Mesh | undefined;
  private readonly guard = new Gate('the rules that keep others from services on loopback');
  private cni: CniServer | undefined;
  private cniConfiguration: PlacedConfiguration | undefined;
  private readonly traffic = new PodTraffic(
    () => (this.config.ipMasq ? [] : (this.cni?.records() ?? [])),
    () => this.masquerade?.loop,
  );

  constructor(config: AgentConfig, log: Log, signal: AbortSignal, closers: Closer[]) {
    this.config = config;
    this.log = log;
    this.signal = signal;
    this.closers = closers;
    this.rules = new RulesChoice({
      wanted: config.rules,
      network: () => this.network,
      records: () => this.cni?.records() ?? [],
      log,
      onChange: () => this.rulesChoiceChanged(),
    });
    this.source = openSource(config, log);
    this.conflicts = new ConflictWatch(this.source, log);
    this.closers.push(() => this.conflicts.stop());
  }

  async start(): Promise<void> {
    // The list of leases comes in while the CNI server looks after what an earlier run left.
    this.closers.push(() => this.source.stop());
    const socket = new RtSocket();
    this.closers.push(() => socket.close());
    await this.withdraw(socket);
    dropExecutablePages();
    this.source.start((change) => this.sourceChanged(change));
    await this.serve();
    const network = await this.source.config(this.signal);
    this.network = network;
    this.conflicts.listed();
    this.startOverlay(network, socket);
    this.startChanges(network, socket);
  }

  /** What an older version made of a lease may be what keeps us from the leases. */
  private async withdraw(socket: RtSocket): Promise<void> {
    const { config, log, source } = this;
    try {
      await withdrawWrongRoutes({ socket, servers: source.servers(), bridge: config.bridge, log });
    } catch (error) {
      log.error({ error: describeError(error) }, 'cannot look for wrong routes of an earlier run');
    }
  }

  /**
   * Before anything is changed: pods that come and go while we wait for leases get an answer that says so, and a second
   * agent on one node ends here.
   */
  private async serve(): Promise<void> {
    const {
      cniSocket: socketPath,
      cniConfDir: confDir,
      cniDataDir,
      stateDir,
      bridge,
      subnetFile,
    } = this.config;
    const cni = await startCniServer({
      socketPath,
      confDir,
      cniDataDir,
      stateDir,
      bridge,
      subnetFile,
      trafficReady: () => this.traffic.ready(),
      rulesTool: () => this.rules.tool(false),
      takesConditions: () => this.rules.takesConditions(),
      log: this.log,
      inspect: (question) => answerQuestion(question, this.subject()),
      loopbackGuard: () => this.guard.wait(GUARD_WAIT_MS),
      podNetwork: () =>
        this.overlay?.podNetwork() ?? { ready: false, reason: 'there is no network configuration yet' },
    });
    this.cni = cni;
    this.closers.push(() => cni.close());
    this.closers.push(keepAgentState(socketPath, () => this.subject(), this.log));
    this.closers.push(await serveHealth(this.config, () => this.health(), this.log));
    await this.servePage();
  }

  /** Loaded only where it is wanted. */
  private async servePage(): Promise<void> {
    const { page: address, pageHosts: hosts, cniSocket, proxySocket } = this.config;
    if (address === undefined) return;
    const { servePage } = await import('./page/server.ts');
    this.closers.push(servePage({ address, hosts, cniSocket, proxySocket, log: this.log }));
  }

  private sourceChanged(change: SourceChange): void {
    this.sourceChanges++;
    if (change === 'config') {
      this.changes?.loop.trigger('the network configuration changed', true);
      this.overlay?.loop.trigger('there is another network configuration');
    } else if (change === 'peers') {
      this.overlay?.peersChanged();
    } else {
      this.overlay?.loop.trigger('own lease', true);
      this.masquerade?.loop.trigger('own lease', true);
      this.mesh?.loop.trigger('own lease', true);
    }
    this.conflicts.leasesChanged();
  }

  /** Rules for traffic and host ports are made with something else: the new ones stand before the old ones go. */
  private rulesChoiceChanged(): void {
    this.masquerade?.loop.trigger('rules are made with something else');
    this.cni?.syncHostPorts();
  }

  private subject(): StateSubject {
    const { config, network, sourceChanges: changes } = this;
    return { config, parts: this.health(), network, changes };
  }

  health(): AgentParts {
    const { source, overlay, masquerade, peerFilter, mesh, changes, cni, cniConfiguration, rules } = this;
    const conflicts = this.conflicts.found;
    return {
      source,
      overlay,
      masquerade,
      peerFilter,
      mesh,
      changes,
      conflicts,
      cni,
      cniConfiguration,
      rules,
    };
  }

  private startOverlay(network: NetworkConfig, socket: RtSocket): void {
    const { config, log, source } = this;
    const subnetFile = readFileIfPresent(config.subnetFile) ?? '';
    const used = network.families.map(({ family }) => family);
    const overlay = new Overlay({
      source,
      config: network,
      socket,
      log,
      macs: new VtepMacs(config.stateDir),
      writeSysctl: new RememberedSysctls(join(config.stateDir, agentSettingsFile)).write,
      underlay: {
        interfaces: config.interfaces,
        interfacePatterns: config.interfacePatterns,
        canReach: config.interfaceCanReach,
        publicIps: config.publicIps,
      },
      subnetFile: config.subnetFile,
      previous: previousPrefixes(subnetFile, used, 'SUBNET'),
      formerNetworks: previousPrefixes(subnetFile, used, 'NETWORK'),
      bridge: config.bridge,
      masquerade: config.ipMasq,
      resyncMs: config.resyncMs,
      blackholeRoute: config.blackholeRoute,
      checksumOffload: wantedChecksumOffload(config.txChecksumOffload, release()),
      onChange: () => this.overlayChanged(overlay),
    });
    this.overlay = overlay;
    this.closers.push(() => overlay.loop.stop());
    overlay.loop.trigger('start');
  }

  private startChanges(network: NetworkConfig, socket: RtSocket): void {
    const { source, log, config } = this;
    this.changes = new NetworkChanges({
      source,
      log,
      network,
      pods: () => countPorts(socket, config.bridge),
      possible: async (next) => this.overlay?.canFollow(next),
      apply: (next) => {
        this.network = next;
        this.overlay?.reconfigure(next);
        this.masquerade?.loop.trigger('the network configuration changed', true);
        this.peerFilter?.changed('the network configuration changed');
      },
    });
    const { loop } = this.changes;
    this.closers.push(() => loop.stop());
  }

  /**
   * Looking at the kernel's events only when the first state stands keeps our own first thousands of changes out of
   * them; the run that follows catches what others changed meanwhile.
   */
  private overlayChanged(overlay: Overlay): void {
    this.mesh?.loop.trigger('the overlay changed');
    if (this.watching || !overlay.podNetwork().ready || this.signal.aborted) return;
    this.watching = true;
    collectEarly();
    this.source.networkUp();
    this.conflicts.start();
    // Starting iptables costs more than a peer's entries: it comes when traffic can flow.
    this.startMasquerade();
    const filter = startPeerFilter(this.config, this.log, overlay.peers, () => this.network);
    this.peerFilter = filter;
    this.closers.push(() => filter.stop());
    const mesh = startMesh(this.config, this.log, overlay, this.source);
    this.mesh = mesh;
    this.closers.push(() => mesh?.stop());
    this.closers.push(watchKernel(overlay, this.log));
    this.placeConfiguration(overlay);
    overlay.loop.trigger('kernel events are watched');
    this.log.debug('watches the kernel');
  }

  private placeConfiguration(overlay: Overlay): void {
    const { installCniConf: source, cniConfDir: directory } = this.config;
    if (source === undefined) return;
    const ready = (): boolean => overlay.podNetwork().ready;
    this.cniConfiguration = new PlacedConfiguration({ source, directory, ready, log: this.log });
    const { loop } = this.cniConfiguration;
    this.closers.push(() => loop.stop());
    loop.trigger('pods can be wired');
  }

  /** The bridges of this node's pods. */
  private bridges(): string[] {
    const used = (this.cni?.pods() ?? []).map(({ bridge }) => bridge);
    return [...new Set([this.config.bridge, ...used])].sort();
  }

  private startMasquerade(): void {
    const { config, log, source } = this;
    this.masquerade = new Masquerade({
      log,
      resyncMs: config.rulesResyncMs,
      nftables: async (again) => (await this.rules.tool(again)) === 'nftables',
      rules: () => {
        this.traffic.making();
        const pods = this.cni?.records() ?? [];
        return wantedTraffic(this.network, source.own(), config, this.bridges(), pods);
      },
      onGuarded: () => this.guard.open(),
    });
    const { masquerade } = this;
    this.closers.push(() => masquerade.stop());
    masquerade.loop.trigger('start');
  }
}

/**
 * Runs `twill agent` until a signal. The lease, the devices, the routes and the rules stay: pods' traffic goes on.
 * @throws TwillError when it cannot start, `invalid` for a wrong flag
 */
export async function runAgent(
  flags: FlagValues,
  env: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  const config = readAgentConfig(flags, env);
  const log = makeLog({ level: config.logLevel, format: config.logFormat, name: 'agent' });
  log.info({ version, stateDir: config.stateDir, pid: process.pid }, 'twill agent starts');
  await runUntilSignal(log, async (signal, closers) => {
    const agent = new Agent(config, log, signal, closers);
    closers.push(informSystemd({ env: process.env, log, signal, state: () => serviceState(agent.health()) }));
    await agent.start();
    await aborted(signal);
  });
}
