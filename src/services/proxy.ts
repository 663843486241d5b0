import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Conntrack } from '../kernel/conntrack.ts';
import { detectVariant, openIptables } from '../kernel/iptables.ts';
import { kernelFamilies } from '../kernel/ipv6.ts';
import { PacketCounters } from '../kernel/packet-counters.ts';
import { proxySettingsFile } from '../kernel/remembered-sysctls.ts';
import { openRulesStamp } from '../kernel/rules-stamp.ts';
import { readSysctl } from '../kernel/sysctl.ts';
import { type Family, ipv4, ipv6 } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import { aborted, type Closer, runUntilSignal } from '../process/ending.ts';
import { guarded } from '../process/guarded.ts';
import { type Log, makeLog } from '../process/log.ts';
import { informSystemd } from '../process/systemd.ts';
import { removeOtherMode } from './cleanup.ts';
import { fromPodMatch, type ProxyConfig, proxyConfig } from './config.ts';
import { watchConfiguration } from './configuration-file.ts';
import { tuneConntrack } from './conntrack-tuning.ts';
import { ProxyFlows } from './flows.ts';
import { ProxyServers, type ProxyState, serviceState } from './health.ts';
import { serveInspection } from './inspection.ts';
import { optionalMatches } from './iptables/optional-matches.ts';
import type { OptionalMatch, RenderOptions } from './iptables/plan/options.ts';
import { ProxyRules, sha256 } from './iptables/rules.ts';
import { ProxyLocalnet } from './localnet.ts';
import { ProxyMetrics } from './metrics.ts';
import { NodeAddresses } from './node-addresses.ts';
import { findKubeProxy, findOtherProxy } from './other-proxy.ts';
import { isLoopback, nodePortAddresses, ownAddresses } from './plan/nodeport-addresses.ts';
import type { NodeFacts } from './plan/service.ts';
import { standingDestinations } from './plan/stale-flows.ts';
import { removeLeftovers } from './predecessor.ts';
import { type ServedFamily, ServiceProxy } from './service-proxy.ts';
import type { ProxySettings } from './settings.ts';
import { ManifestSource } from './sources/manifests.ts';
import type { ServiceSource } from './sources/source.ts';
import { ProxyWatch } from './watch.ts';

const OTHER_PROXY_POLL_MS = 2000;

/** One family's part of the kernel. */
interface Place {
  readonly family: Family;
  readonly localnet: ProxyLocalnet | undefined;
  readonly matches: readonly OptionalMatch[];
}

function renderOptions(
  { config, addresses }: Setting,
  { family, localnet, matches }: Place,
  facts: NodeFacts | undefined,
): RenderOptions {
  const own = addresses.of(family);
  const onLoopback = localnet?.wanted === true;
  const serving = nodePortAddresses(config.nodePortAddresses, family, own, facts);
  return {
    v6: family === ipv6,
    fromPod: fromPodMatch(config.localDetection, family, facts),
    masqueradeAll: config.masqueradeAll,
    localhostNodePorts: onLoopback,
    opensLocalnet: localnet?.opens === true,
    nodePortAddresses: onLoopback ? serving : serving?.filter((text) => !isLoopback(text)),
    tolerateInvalid: (readSysctl('net/netfilter/nf_conntrack_tcp_be_liberal') ?? '0') !== '0',
    nodeAddresses: ownAddresses(family, own, facts),
    matches,
    sha256,
  };
}

interface Setting {
  readonly config: ProxyConfig;
  readonly metrics: ProxyMetrics;
  readonly addresses: NodeAddresses;
  readonly counters: PacketCounters;
  readonly log: Log;
}

async function openIptablesFamily(family: Family, setting: Setting): Promise<ServedFamily> {
  const { config, metrics, addresses, counters, log } = setting;
  const { variant, why } = await detectVariant(family);
  const iptables = openIptables(family, variant);
  // A kernel without NAT for this family says so here, not at every sync.
  await iptables.list('nat', 'POSTROUTING');
  const matches = await optionalMatches(iptables, counters);
  if (matches.includes('nfacct')) metrics.countPackets((name) => counters.read(name));
  log.info({ family: family.name, variant, why, matches }, 'iptables');
  const localnet =
    family === ipv4 ? await ProxyLocalnet.open(iptables, config.localhostNodePorts, log) : undefined;
  const place = { family, localnet, matches };
  let render = renderOptions(setting, place, undefined);
  const flows: ProxyFlows = new ProxyFlows({
    family,
    conntrack: new Conntrack(),
    isServed: (address) => rules.isServed(address),
    nodePortAddresses: () => new Set(render.nodePortAddresses ?? addresses.of(family)),
    onDeleted: (count) => metrics.staleFlows.inc({ ip_family: family.kubeName }, count),
    onLooked: (seconds) => metrics.flowsLook.observe({ ip_family: family.kubeName }, seconds),
    log,
  });
  const rules: ProxyRules = new ProxyRules({
    family,
    iptables,
    render,
    node: { name: config.nodeName },
    onEntries: (service, entries) => flows.table.setService(service, entries),
    onStanding: (chains) => flows.table.recall(standingDestinations(chains)),
    log,
  });
  const stamp = openRulesStamp(family, variant);
  return {
    rules,
    flows,
    iptables: rules,
    localnet,
    openWatch: (hooks) => new ProxyWatch({ ...hooks, stamp, looksWhole: () => rules.looksWhole() }),
    configure: (facts) => {
      render = renderOptions(setting, place, facts);
      return rules.configure(render);
    },
    nodePortAddresses: (facts) =>
      nodePortAddresses(config.nodePortAddresses, family, addresses.of(family), facts),
  };
}

async function openFamily(family: Family, setting: Setting): Promise<ServedFamily> {
  if (setting.config.mode === 'iptables') return openIptablesFamily(family, setting);
  // Loaded where it is needed.
  const { openNftFamily } = await import('./nftables/family.ts');
  return openNftFamily(family, setting);
}

async function openFamilies(setting: Setting): Promise<ServedFamily[]> {
  const opened: ServedFamily[] = [];
  for (const family of kernelFamilies()) {
    try {
      opened.push(await openFamily(family, setting));
    } catch (error) {
      if (family === ipv4) throw error;
      setting.log.warn({ family: family.name, error: describeError(error) }, 'this family is not served');
    }
  }
  return opened;
}

async function openSource({
  config,
  metrics,
  log,
}: Pick<Setting, 'config' | 'metrics' | 'log'>): Promise<ServiceSource> {
  if (config.manifests !== undefined) return new ManifestSource(config.manifests, config.nodeName);
  const { KubeClient } = await import('../kubernetes/client.ts');
  const { KubeServiceSource } = await import('./sources/kubernetes.ts');
  const client = await KubeClient.open({
    kubeconfig: config.kubeconfig,
    master: config.master,
    kubeletKubeconfigs: config.kubeletKubeconfigs,
    onServer: ({ url, why, passedOver }) =>
      log.info({ url, why, passedOver }, 'the Kubernetes API is asked here'),
    onRequest: (request) => metrics.requests.inc(request),
    onExchange: (exchange) => metrics.exchanged(exchange),
  });
  return new KubeServiceSource({ client, nodeName: config.nodeName, log });
}

/** Two proxies would undo each other's rules for ever: waits until the other one has ended. Its rules are taken over. */
async function waitForOtherProxy(state: ProxyState, log: Log, signal: AbortSignal): Promise<void> {
  let said = '';
  while (!signal.aborted) {
    const other = await findOtherProxy();
    if (other === undefined) return;
    if (other !== said) log.error({ other }, 'another proxy runs on this node; waiting until it ends');
    state.waitingFor = `${other} to end: it writes the same chains`;
    said = other;
    await sleep(OTHER_PROXY_POLL_MS, undefined, { signal }).catch(() => {});
  }
}

/** Beside the socket, where the proxy may write. */
function settingsFile({ inspectSocket }: ProxyConfig): string | undefined {
  return inspectSocket === undefined ? undefined : join(dirname(inspectSocket), proxySettingsFile);
}

/** What kube-proxy sets up of the kernel before it runs. @throws TwillError `permission` naming what cannot be set */
export function prepareKernel(config: ProxyConfig): void {
  const log = makeLog({ level: config.logLevel, format: config.logFormat, name: 'proxy' });
  const failed = tuneConntrack(config.conntrack, log, settingsFile(config));
  if (failed.length > 0) throw new TwillError('permission', `--init-only: cannot set ${failed.join(', ')}`);
}

/** The kernel's settings that are asked for; without the right to make them the proxy runs all the same. */
function tune(config: ProxyConfig, log: Log): void {
  const failed = tuneConntrack(config.conntrack, log, settingsFile(config));
  if (failed.length > 0) log.warn({ failed }, 'settings of connection tracking are left as they are');
}

/** Like those, for the process itself. */
function tuneProcess(config: ProxyConfig, log: Log): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', String(config.oomScoreAdj));
  } catch (error) {
    log.debug({ error: describeError(error) }, 'oom_score_adj is left as it is');
  }
}

async function clearAway({ mode }: ProxyConfig, log: Log): Promise<void> {
  const others = await removeOtherMode(mode);
  if (others.length > 0) log.info({ removed: others }, 'rules of another mode are removed');
  const { removed, left } = await removeLeftovers();
  if (removed.length > 0) log.info({ removed }, 'what a kube-proxy in another mode had left is removed');
  if (left.length > 0) log.warn({ left }, 'what a kube-proxy in another mode has left cannot be removed');
}

/** The proxy itself, begun. */
async function startProxy(setting: Setting, state: ProxyState, closers: Closer[]): Promise<void> {
  const { config, metrics, addresses, log } = setting;
  const source = await openSource(setting);
  const families = await openFamilies(setting);
  tuneProcess(config, log);
  // Some kernels load connection tracking, whose settings are not there before, with the first rule that needs it.
  const isTracking = readSysctl('net/netfilter/nf_conntrack_max') !== undefined;
  if (isTracking) tune(config, log);
  for (const { rules, nodePortAddresses } of families) {
    if (Array.isArray(config.nodePortAddresses) && nodePortAddresses(undefined) === undefined)
      log.warn(
        { family: rules.family.name },
        'node ports answer on all addresses: none of this family is named',
      );
  }
  const proxy = new ServiceProxy({ config, log, source, metrics, families, findOther: findKubeProxy });
  state.proxy = proxy;
  addresses.onChange = () => proxy.nodeChanged();
  closers.push(async () => {
    addresses.onChange = () => {};
    await proxy.stop();
  });
  const afterwards = async (): Promise<void> => {
    if (!isTracking) tune(config, log);
    // Once our rules stand, so that there is no moment without any.
    await clearAway(config, log);
  };
  proxy.loop.settled().then(guarded(log, 'removing what a kube-proxy has left', afterwards));
  log.info({ node: config.nodeName, source: source.description }, 'proxy starts');
  await proxy.start();
}

/**
 * Runs until SIGTERM or SIGINT, or the configuration file has changed; the rules stay.
 * @throws TwillError when it cannot start
 */
export async function runProxy(config: ProxyConfig, settings: ProxySettings): Promise<void> {
  const log = makeLog({ level: config.logLevel, format: config.logFormat, name: 'proxy' });
  for (const { setting, why } of settings.idle) log.warn({ setting }, `has no effect: ${why}`);
  await runUntilSignal(log, async (signal, closers) => {
    const file =
      settings.file &&
      watchConfiguration(settings.file, (other) => proxyConfig(settings.readWith(other)), log);
    if (file !== undefined) closers.push(() => file.close());
    const metrics = new ProxyMetrics(config.mode);
    if (config.metricsAddress !== undefined) metrics.describeProcess();
    const state: ProxyState = { proxy: undefined, waitingFor: 'the start' };
    const servers = new ProxyServers(config, settings, state, metrics, log);
    closers.push(() => servers.close());
    const { inspectSocket: socketPath } = config;
    if (socketPath !== undefined) closers.push(serveInspection({ socketPath, config, state, log }));
    closers.push(informSystemd({ env: process.env, log, signal, state: () => serviceState(state) }));
    const start = async (): Promise<void> => {
      servers.serveHealth();
      await waitForOtherProxy(state, log, signal);
      if (signal.aborted) return;
      servers.serveMetrics();
      const addresses = await NodeAddresses.open(log);
      const counters = new PacketCounters();
      closers.push(() => {
        addresses.close();
        counters.close();
      });
      await startProxy({ config, metrics, addresses, counters, log }, state, closers);
    };
    const ends = [start().then(() => aborted(signal)), servers.refused];
    await Promise.race(file === undefined ? ends : [...ends, file.changed]);
  });
}
