import { type IptablesVariant, openIptables } from '../kernel/iptables.ts';
import { run } from '../kernel/process.ts';
import { listSysctls, readSysctl } from '../kernel/sysctl.ts';
import { mayHaveTable } from '../kernel/used-iptables.ts';
import { leaseFamily } from '../leases/plan/lease.ts';
import { type Family, ipv4, prefixHost } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import { vxlanName } from '../overlay/plan/device.ts';
import type { Problem } from './plan/problem.ts';
import type { AgentState } from './plan/state.ts';
import { type FilterTable, type ProbePacket, parseFilterTable, wallFor } from './plan/walls.ts';

const variants = ['nft', 'legacy'] as const;

/**
 * The rules of a table as `iptables -S` prints them; undefined where the program or the table is not there. (iptables-save
 * would read all tables for one.)
 */
async function listed(family: Family, variant: IptablesVariant, table: string): Promise<string | undefined> {
  if (!mayHaveTable(family, variant, table)) return undefined;
  try {
    const { status, stdout } = await run(`${family.iptables}-${variant}`, ['-t', table, '-S']);
    return status === 0 ? stdout : undefined;
  } catch (error) {
    if (isTwillError(error, 'missing-program')) return undefined;
    throw error;
  }
}

interface Probe {
  readonly chain: 'FORWARD' | 'INPUT' | 'OUTPUT';
  readonly packet: ProbePacket;
  readonly consequence: string;
}

/** A port that pods serve on: any that rules do not name. */
const POD_PORT = 8080;

/** Packets without which there is no pod network. */
function probesOf(state: AgentState, family: Family): Probe[] {
  const { own, underlay, network, settings, leases } = state;
  const ours = own && leaseFamily(own, family);
  const peer = leases.find(({ name }) => name !== own?.name);
  const other = peer && leaseFamily(peer, family);
  if (ours === undefined || underlay === undefined || network === undefined) return [];
  const { backend } = network;
  const tunnel = backend.type === 'vxlan' ? vxlanName(family, backend.vni) : underlay.name;
  const pod = prefixHost(ours.subnet, 2).text;
  const far = other === undefined ? undefined : prefixHost(other.subnet, 2).text;
  const tcp = { protocol: 'tcp', port: POD_PORT } as const;
  const outside = family === ipv4 ? '198.51.100.1' : '2001:db8:ffff::1';
  const { bridge } = settings;
  const forward = (
    input: string,
    out: string,
    source: string,
    destination: string,
    consequence: string,
  ): Probe => ({
    chain: 'FORWARD',
    packet: { in: input, out, source, destination, ...tcp },
    consequence,
  });
  const probes = [
    forward(bridge, underlay.name, pod, outside, 'pods do not reach the outside'),
    ...(far === undefined
      ? []
      : [
          forward(bridge, tunnel, pod, far, 'pods do not reach those of other nodes'),
          forward(tunnel, bridge, far, pod, 'pods of other nodes do not reach those of this one'),
        ]),
  ];
  if (backend.type !== 'vxlan' || other === undefined) return probes;
  const carried = { protocol: 'udp', port: backend.port } as const;
  const [here, there] = [ours.publicIp.text, other.publicIp.text];
  return [
    ...probes,
    {
      chain: 'INPUT',
      packet: { in: underlay.name, out: undefined, source: there, destination: here, ...carried },
      consequence: `UDP port ${backend.port} is closed: nothing comes in from pods of other nodes`,
    },
    {
      chain: 'OUTPUT',
      packet: { in: undefined, out: underlay.name, source: here, destination: there, ...carried },
      consequence: `UDP port ${backend.port} is closed: nothing goes out to pods of other nodes`,
    },
  ];
}

/** Rules, ours or others', that keep pods' packets from passing. */
export async function wallProblems(state: AgentState): Promise<Problem[]> {
  const found: Problem[] = [];
  for (const { family } of state.network?.families ?? []) {
    const probes = probesOf(state, family);
    for (const variant of variants) {
      const text = await listed(family, variant, 'filter');
      if (text === undefined) continue;
      const table: FilterTable = parseFilterTable(text);
      for (const { chain, packet, consequence } of probes) {
        const wall = wallFor(table, chain, packet);
        if (wall === undefined) continue;
        const by = wall.rule === undefined ? `the policy DROP of chain ${chain}` : `the rule '${wall.rule}'`;
        found.push({
          severity: 'degraded',
          area: 'firewall',
          what: `${consequence}: ${by} (${family.iptables}-${variant}, table filter)`,
          show: `${family.iptables}-${variant} -S ${wall.chain} -v`,
        });
      }
    }
  }
  return found;
}

const chainsOfBoth = ['KUBE-SERVICES', 'FLANNEL-POSTRTG', 'CNI-HOSTPORT-DNAT'] as const;

async function hasChain(family: Family, variant: IptablesVariant, chain: string): Promise<boolean> {
  try {
    return (await openIptables(family, variant).list('nat', chain)) !== undefined;
  } catch (error) {
    // One that cannot be printed is there.
    return isTwillError(error, 'conflict');
  }
}

/** Rules of both variants: the kernel carries out both, one after the other. */
export async function variantProblems(families: readonly Family[]): Promise<Problem[]> {
  const found: Problem[] = [];
  for (const family of families) {
    if (!mayHaveTable(family, 'legacy', 'nat')) continue;
    const both = await Promise.all(
      chainsOfBoth.map(async (chain) => {
        const there = await Promise.all(variants.map((variant) => hasChain(family, variant, chain)));
        return there.every(Boolean) ? [chain] : [];
      }),
    );
    const twice = both.flat();
    if (twice.length === 0) continue;
    found.push({
      severity: 'degraded',
      area: 'rules',
      what: `both variants of ${family.iptables} have ${twice.join(', ')}: packets are redirected and masqueraded by both; flush those of the one that is not used`,
      show: `${family.iptables}-nft-save; ${family.iptables}-legacy-save`,
    });
  }
  return found;
}

const STRICT = 1;

/** Reverse path filtering drops packets whose way back is another one (Documentation/networking/ip-sysctl.rst). */
export function reversePathProblems({ devices, settings, underlay }: AgentState): Problem[] {
  const value = (name: string): number => Number(readSysctl(`net/ipv4/conf/${name}/rp_filter`) ?? 0);
  const all = value('all');
  const names = [...devices.map(({ name }) => name), settings.bridge, underlay?.name ?? ''];
  return names
    .filter((name) => listSysctls('net/ipv4/conf').includes(name) && Math.max(all, value(name)) === STRICT)
    .map((name) => ({
      severity: 'note',
      area: 'sysctl',
      what: `net.ipv4.conf.${name}.rp_filter is strict: what comes in by ${name} and would be answered by another device is dropped`,
      show: `sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.${name}.rp_filter`,
    }));
}

/** A table that is as full as this is told. */
const FULL = 0.9;

/** @param count entries of connection tracking, and the most that there may be; undefined where there is none */
export function conntrackProblem(count: number | undefined, most: number | undefined): Problem[] {
  if (count === undefined || most === undefined || !(most > 0) || count < most * FULL) return [];
  return [
    {
      severity: 'degraded',
      area: 'conntrack',
      what: `connection tracking has ${count} of at most ${most} entries: new connections are dropped when it is full; raise net.netfilter.nf_conntrack_max`,
      show: 'sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max',
    },
  ];
}

/** How full connection tracking is. */
export function conntrackProblems(): Problem[] {
  const read = (name: string): number | undefined => {
    const text = readSysctl(`net/netfilter/${name}`);
    return text === undefined ? undefined : Number(text);
  };
  return conntrackProblem(read('nf_conntrack_count'), read('nf_conntrack_max'));
}
