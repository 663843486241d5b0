import { type IptablesVariant, openIptables } from '../kernel/iptables.ts';
import { type Family, families } from '../model/address.ts';
import { isEmpty, type TableChange, tableChange } from '../services/iptables/plan/document.ts';
import { type Table, tables } from '../services/iptables/plan/names.ts';
import type { RenderOptions } from '../services/iptables/plan/options.ts';
import { type Chains, Ruleset } from '../services/iptables/plan/ruleset.ts';
import { renderServicePort } from '../services/iptables/plan/service-rules.ts';
import { sha256 } from '../services/iptables/rules.ts';
import { readStanding, takeOver } from '../services/iptables/standing-rules.ts';
import { serviceEntries } from '../services/plan/table.ts';
import { ask } from './client.ts';
import type { Look } from './look.ts';
import { nftServiceDifferences } from './nft-service-rules.ts';
import type { Difference } from './plan/difference.ts';
import { compareLines } from './plan/lines.ts';
import type { ProxyState } from './plan/state.ts';
import { withSaved } from './saved-rules.ts';
import { type LoadedServices, loadServices } from './services-source.ts';

type DesiredChains = Readonly<Record<Table, Chains>>;
type FamilyState = ProxyState['families'][number];

/** The rules that should stand, worked out from the Services. */
function desiredChains(
  { tracker, view }: LoadedServices,
  family: Family,
  render: RenderOptions,
): DesiredChains {
  const ruleset = new Ruleset(render);
  for (const key of tracker.keys()) {
    const entries = serviceEntries(tracker.state(key), family, view);
    ruleset.setService(
      key,
      entries.map((entry) => renderServicePort(entry, render)),
    );
  }
  ruleset.flush();
  return ruleset.chains;
}

async function askedChains(socketPath: string, family: string): Promise<DesiredChains | undefined> {
  const text = await ask('proxy', socketPath, { inspect: 'rules', family }, ASK_MS);
  const { chains } = JSON.parse(text) as { chains: Record<Table, [string, string][]> | null };
  return chains === null ? undefined : { filter: new Map(chains.filter), nat: new Map(chains.nat) };
}

/** The rules of ten thousand Services are some megabytes. */
const ASK_MS = 5000;

function chainDifference(
  change: TableChange,
  name: string,
  place: {
    readonly program: string;
    readonly kube: string;
    readonly text: string | undefined;
    readonly standing: string | undefined;
  },
): Difference {
  const { table } = change;
  const { program, kube, text, standing } = place;
  const object = `${table} ${name} (${kube})`;
  const base = { kind: 'service rules', object, show: `${program} -t ${table} -S ${name}` } as const;
  if (text === undefined) return { ...base, state: 'foreign', detail: 'no Service has this chain any more' };
  if (standing === undefined) return { ...base, state: 'missing', detail: 'the chain is gone' };
  const lines = (all: string): string[] => (all === '' ? [] : all.split('\n'));
  return { ...base, state: 'wrong', detail: compareLines(lines(text), lines(standing)) ?? 'it differs' };
}

function jumpDifferences({ table, jumps }: TableChange, program: string, kube: string): Difference[] {
  const one = (chain: string, state: Difference['state'], detail: string): Difference => ({
    kind: 'service rules',
    object: `${table} ${chain} (${kube})`,
    state,
    detail,
    show: `${program} -t ${table} -S ${chain}`,
  });
  return [
    ...jumps.missing.map(({ chain, rule }) =>
      one(chain, 'missing', `the rule '${rule}' is missing, or stands too late`),
    ),
    ...jumps.surplus.map(({ chain, rule }) =>
      one(chain, 'foreign', `the rule '${rule}' stands once too often`),
    ),
  ];
}

async function familyDifferences(
  look: Look,
  { family: name, variant, render }: FamilyState,
  desired: DesiredChains,
): Promise<Difference[]> {
  const family = families.find((one) => one.name === name)!;
  const iptables = withSaved(openIptables(family, variant as IptablesVariant), () =>
    look.savedRules(family, variant as IptablesVariant),
  );
  const program = `${family.iptables}-${variant}`;
  const standing = await readStanding(iptables, render.localhostNodePorts);
  const found: Difference[] = standing.unreadable.map((detail) => ({
    kind: 'service rules',
    object: family.kubeName,
    state: 'wrong',
    detail,
    show: `${program}-save`,
  }));
  for (const table of tables) {
    const state = { desired: desired[table], installed: standing.chains[table] };
    takeOver(state);
    const names = new Set([...state.desired.keys(), ...state.installed.keys()]);
    const change = tableChange(table, names, state, standing.jumps[table]);
    if (isEmpty(change)) continue;
    found.push(...jumpDifferences(change, program, family.kubeName));
    for (const chain of [...change.write.map(([written]) => written), ...change.remove]) {
      const [text, now] = [state.desired.get(chain), state.installed.get(chain)];
      found.push(chainDifference(change, chain, { program, kube: family.kubeName, text, standing: now }));
    }
  }
  return found;
}

/**
 * What is not as it should be of the rules of Services. A proxy that answers says what should stand; for one that does not
 * it is worked out from the Services that its source has now.
 * @throws TwillError where that cannot be had
 */
export async function serviceDifferences(look: Look): Promise<Difference[]> {
  const { state, live } = await look.proxy();
  const { proxySocket: socketPath } = look;
  if (state === undefined) return [];
  const loaded = live ? undefined : await loadServices(state);
  const found = await nftServiceDifferences(state, socketPath, loaded);
  for (const each of state.families) {
    const family = families.find(({ name }) => name === each.family)!;
    const desired =
      loaded === undefined
        ? await askedChains(socketPath, each.family)
        : desiredChains(loaded, family, { ...each.render, sha256 });
    if (desired !== undefined) found.push(...(await familyDifferences(look, each, desired)));
  }
  return found;
}
