import { resolve } from 'node:path';
import { encodeState, encodeStatePieces } from '../inspect/plan/codec.ts';
import { loopState } from '../inspect/plan/loop-state.ts';
import { type ProxyState as InspectedProxy, STATE_VERSION } from '../inspect/plan/state.ts';
import { stateFile } from '../inspect/plan/state-file.ts';
import { describeError } from '../model/error.ts';
import { isoTime } from '../process/clock.ts';
import type { Log } from '../process/log.ts';
import { type Mark, ownMark } from '../process/mark.ts';
import { type AskedQuestion, serveQuestions } from '../process/question-server.ts';
import { keepState } from '../process/state-keeper.ts';
import { version } from '../process/version.ts';
import type { FamilyRules } from './family-rules.ts';
import { type ProxyState, stateWarnings } from './health.ts';
import type { NftRules } from './nftables/rules.ts';
import { serviceRow } from './plan/row.ts';
import type { ServiceProxy } from './service-proxy.ts';

export interface InspectionOptions {
  readonly socketPath: string;
  readonly state: ProxyState;
  readonly log: Log;
}

let mark: Mark | undefined;

function familyState(
  rules: FamilyRules,
  health: ReturnType<ServiceProxy['familyHealth']> | undefined,
): Pick<InspectedProxy['families'][number], 'family' | 'sinceWrittenSeconds' | 'refused'> {
  const since = health?.get(rules.family.kubeName)?.sinceMs;
  return {
    family: rules.family.name,
    sinceWrittenSeconds: since === undefined ? undefined : Math.round(since / 1000),
    refused: [...rules.refusals].map(([name, reason]) => ({ name, reason })),
  };
}

/** What the proxy says of itself. */
function proxyState({ state }: InspectionOptions): InspectedProxy {
  const { proxy, waitingFor, config, mode } = state;
  const health = proxy?.familyHealth();
  mark ??= ownMark();
  return {
    version: STATE_VERSION,
    kind: 'proxy',
    at: isoTime(),
    process: { ...mark, version },
    node: config.nodeName,
    loops: proxy === undefined ? [] : [loopState(proxy.loop.status(), (ms) => isoTime(ms))],
    mode: mode?.mode ?? config.wantedMode,
    modeWhy: config.wantedMode === 'auto' ? mode?.reason : undefined,
    source: proxy?.source ?? 'none yet',
    ready: proxy?.ready ?? false,
    healthy: proxy?.healthy ?? true,
    waitingFor: proxy === undefined ? waitingFor : proxy.waitingFor,
    services: proxy?.tracker.serviceCount ?? 0,
    repairs: proxy?.repairs ?? 0,
    families: (proxy?.families ?? []).flatMap(({ iptables }) => {
      if (iptables === undefined) return [];
      const { sha256: _, ...render } = iptables.rendering;
      return { ...familyState(iptables, health), variant: iptables.variant, render };
    }),
    nftables: (proxy?.families ?? []).flatMap(({ nftables: rules }) => {
      if (rules === undefined) return [];
      return { ...familyState(rules, health), render: rules.rendering, elements: rules.ruleCounts };
    }),
    warnings: stateWarnings(state),
    settings: {
      manifests: config.manifests === undefined ? undefined : resolve(config.manifests),
      kubeconfig: config.kubeconfig,
      master: config.master,
      localhostNodePorts: config.localhostNodePorts,
    },
    zone: proxy?.view.zone,
  };
}

function listServices(proxy: ServiceProxy | undefined): string {
  if (proxy === undefined) return JSON.stringify({ version: STATE_VERSION, services: [] });
  const refused = new Map(proxy.families.flatMap(({ rules }) => [...rules.refusals]));
  const services = [...proxy.tracker.keys()].flatMap(
    (key) => serviceRow(key, proxy.tracker.state(key), proxy.view, refused.get(key)) ?? [],
  );
  return JSON.stringify({ version: STATE_VERSION, services });
}

function listRules(proxy: ServiceProxy | undefined, family: unknown): string {
  const served = proxy?.families.find(({ rules }) => rules.family.name === family);
  const chains = served?.iptables?.desired;
  const answer = chains && { filter: [...chains.filter], nat: [...chains.nat] };
  return JSON.stringify({
    version: STATE_VERSION,
    chains: answer ?? null,
    table: nftTable(served?.nftables),
  });
}

/** Elements by set, and chains. */
function nftTable(rules: NftRules | undefined): unknown {
  if (rules === undefined) return undefined;
  const { elements, chains } = rules.desired;
  const lists = Object.entries(elements).map(([set, all]) => [set, [...all]]);
  return {
    elements: Object.fromEntries(lists),
    // Without the programs, which nobody reads: what is undefined is not told.
    chains: chains.map((chain) => ({ ...chain, programs: undefined })),
  };
}

const REPAIR_WAIT_MS = 10_000;

async function repair(proxy: ServiceProxy | undefined): Promise<string> {
  const settled = proxy !== undefined && (await proxy.repairNow(REPAIR_WAIT_MS));
  return JSON.stringify({ version: STATE_VERSION, settled });
}

async function answer(options: InspectionOptions, question: AskedQuestion): Promise<string> {
  const { proxy } = options.state;
  switch (question.inspect) {
    case 'state':
      return encodeState(proxyState(options));
    case 'services':
      return listServices(proxy);
    case 'service':
      return encodeState({
        version: STATE_VERSION,
        state: proxy?.tracker.state(String(question.name)),
      });
    case 'rules':
      return listRules(proxy, question.family);
    case 'repair':
      return repair(proxy);
    default:
      return JSON.stringify({ error: 'the proxy does not know this question' });
  }
}

const RETRY_MS = 5000;

/**
 * Answers `twill status` and the like, and keeps what the proxy works by in a file beside the socket. Rules do not depend
 * on it: where it cannot listen it says so, and tries again.
 * @returns ends it
 */
export function serveInspection(options: InspectionOptions): () => Promise<void> {
  const { socketPath, state, log } = options;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let said = false;
  let close: Promise<(() => Promise<void>) | undefined>;
  const open = (): void => {
    close = serveQuestions(socketPath, (question) => answer(options, question)).catch((error: unknown) => {
      if (!said)
        log.warn({ error: describeError(error) }, 'twill status cannot ask this proxy yet, will retry');
      said = true;
      if (!stopped) timer = setTimeout(open, RETRY_MS).unref();
      return undefined;
    });
  };
  open();
  const endState = keepState({
    file: stateFile(socketPath, 'proxy'),
    log,
    print: () => {
      const { proxy } = state;
      const rendering = proxy?.families.map(({ iptables, nftables }) => ({
        ...iptables?.rendering,
        variant: iptables?.variant,
        ...nftables?.rendering,
      }));
      return JSON.stringify([proxy?.ready, proxy?.view, rendering]);
    },
    pieces: () => encodeStatePieces(proxyState(options)),
  });
  return async () => {
    stopped = true;
    clearTimeout(timer);
    endState();
    await (await close)?.();
  };
}
