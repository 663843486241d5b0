import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { dropExecutablePages } from '../kernel/executable-pages.ts';
import { kernelFamilies } from '../kernel/ipv6.ts';
import { PacketCounters } from '../kernel/packet-counters.ts';
import { proxySettingsFile } from '../kernel/remembered-sysctls.ts';
import { readSysctl } from '../kernel/sysctl.ts';
import { type Family, ipv4 } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import { aborted, type Closer, runUntilSignal } from '../process/ending.ts';
import { guarded } from '../process/guarded.ts';
import { type Log, makeLog } from '../process/log.ts';
import { informSystemd } from '../process/systemd.ts';
import { modeOnThisNode } from './choose-mode.ts';
import { clearAway } from './clear-away.ts';
import { type ProxyConfig, proxyConfig } from './config.ts';
import { watchConfiguration } from './configuration-file.ts';
import { tuneConntrack } from './conntrack-tuning.ts';
import type { FamilySetting } from './family.ts';
import { ProxyServers, type ProxyState, serviceState } from './health.ts';
import { serveInspection } from './inspection.ts';
import { openIptablesFamily } from './iptables/family.ts';
import { ProxyMetrics } from './metrics.ts';
import { NodeAddresses } from './node-addresses.ts';
import { findKubeProxy, findOtherProxy } from './other-proxy.ts';
import type { ModeChoice } from './plan/mode.ts';
import { isFamilyUnnamed } from './plan/nodeport-addresses.ts';
import type { ServedFamily } from './served-family.ts';
import { ServiceProxy } from './service-proxy.ts';
import type { ProxySettings } from './settings.ts';
import { ManifestSource } from './sources/manifests.ts';
import type { ServiceSource } from './sources/source.ts';

const OTHER_PROXY_POLL_MS = 2000;

async function openFamily(family: Family, setting: FamilySetting): Promise<ServedFamily> {
  if (setting.config.mode === 'iptables') return openIptablesFamily(family, setting);
  // Loaded where it is needed.
  const { openNftFamily } = await import('./nftables/family.ts');
  return openNftFamily(family, setting);
}

async function openFamilies(
  setting: FamilySetting,
  { mode, unserved }: Pick<ProxyState, 'mode' | 'unserved'>,
): Promise<ServedFamily[]> {
  const opened: ServedFamily[] = [];
  for (const family of kernelFamilies()) {
    try {
      const lack = mode?.mode === 'nftables' && mode.lacks?.find((one) => one.family === family.name);
      if (lack) throw new TwillError('invalid', `mode nftables cannot serve it here: ${lack.what}`);
      opened.push(await openFamily(family, setting));
    } catch (error) {
      if (family === ipv4) throw error;
      setting.log.warn({ family: family.name, error: describeError(error) }, 'this family is not served');
      unserved.push({ name: `${family.name} is not served`, state: 'warning', detail: describeError(error) });
    }
  }
  return opened;
}

async function openSource({
  config,
  metrics,
  log,
}: Pick<FamilySetting, 'config' | 'metrics' | 'log'>): Promise<ServiceSource> {
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

async function chosenMode(config: ProxyConfig, metrics: ProxyMetrics, log: Log): Promise<ModeChoice> {
  const choice = await modeOnThisNode(config);
  metrics.modeIs(choice, config.wantedMode);
  log.info({ ...choice, wanted: config.wantedMode }, 'the mode of the proxy');
  return choice;
}

/** The proxy itself, begun. */
async function startProxy(setting: FamilySetting, state: ProxyState, closers: Closer[]): Promise<void> {
  const { config, metrics, addresses, log } = setting;
  const source = await openSource(setting);
  const families = await openFamilies(setting, state);
  tuneProcess(config, log);
  // Some kernels load connection tracking, whose settings are not there before, with the first rule that needs it.
  const isTracking = readSysctl('net/netfilter/nf_conntrack_max') !== undefined;
  if (isTracking) tune(config, log);
  for (const { rules } of families) {
    if (isFamilyUnnamed(config.nodePortAddresses, rules.family))
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
  const stopping = new AbortController();
  closers.push(() => stopping.abort());
  const afterwards = async (): Promise<void> => {
    if (!isTracking) tune(config, log);
    // Once our rules stand, so that there is no moment without any.
    await clearAway(config.mode, proxy, log, stopping.signal);
  };
  proxy.loop.settled().then(guarded(log, 'removing what a kube-proxy has left', afterwards));
  log.info({ node: config.nodeName, source: source.description }, 'proxy starts');
  dropExecutablePages();
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
    const metrics = new ProxyMetrics();
    if (config.metricsAddress !== undefined) metrics.describeProcess();
    const state: ProxyState = {
      proxy: undefined,
      waitingFor: 'the start',
      config,
      mode: undefined,
      unserved: [],
    };
    const servers = new ProxyServers(config, settings, state, metrics, log);
    closers.push(() => servers.close());
    const { inspectSocket: socketPath } = config;
    if (socketPath !== undefined) closers.push(serveInspection({ socketPath, state, log }));
    closers.push(informSystemd({ env: process.env, log, signal, state: () => serviceState(state) }));
    const start = async (): Promise<void> => {
      servers.serveHealth();
      await waitForOtherProxy(state, log, signal);
      if (signal.aborted) return;
      state.mode = await chosenMode(config, metrics, log);
      state.config = proxyConfig(settings.read, state.mode.mode);
      servers.serveMetrics();
      const addresses = await NodeAddresses.open(log);
      const counters = new PacketCounters();
      closers.push(() => {
        addresses.close();
        counters.close();
      });
      await startProxy({ config: state.config, metrics, addresses, counters, log }, state, closers);
    };
    const ends = [start().then(() => aborted(signal)), servers.refused];
    await Promise.race(file === undefined ? ends : [...ends, file.changed]);
  });
}
