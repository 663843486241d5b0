import { ipv4 } from '../../model/address.ts';
import { goField } from '../../model/go-json.ts';
import { isOlder } from '../plan/protocol.ts';
import type { PlannedRoute, PodPlan } from '../plan/wiring.ts';
import type { NetConf } from './netconf.ts';
import { isObject } from './schema.ts';

export interface AddedPod {
  readonly plan: PodPlan;
  readonly netns: string;
  readonly bridge: string;
  readonly bridgeMac: string;
}

interface Result {
  readonly interfaces: readonly unknown[];
  readonly ips: readonly unknown[];
  readonly routes: readonly unknown[];
  readonly dns: Readonly<Record<string, unknown>>;
}

/** The parts of an earlier plugin's result; what is missing or malformed counts as empty. */
export function previousResult(value: unknown): Result {
  const previous = isObject(value) ? value : {};
  const list = (name: string): readonly unknown[] => {
    const field = goField(previous, name);
    return Array.isArray(field) ? field : [];
  };
  const dns = goField(previous, 'dns');
  return {
    interfaces: list('interfaces'),
    ips: list('ips').filter(isObject),
    routes: list('routes').filter(isObject),
    dns: isObject(dns) ? dns : {},
  };
}

/** @param full whether the version has more than destination and gateway (since 1.1.0) */
function resultRoute({ destination, gateway, ...settings }: PlannedRoute, full: boolean): object {
  const { mtu, advmss, priority, table, scope } = settings;
  const gw = gateway === undefined ? {} : { gw: gateway.text };
  return { dst: destination.text, ...gw, ...(full ? { mtu, advmss, priority, table, scope } : {}) };
}

/** What this ADD made, in the shape of the version. `base` is the index of the first of its interfaces. */
function ownResult({ plan, netns, bridge, bridgeMac }: AddedPod, version: string, base: number): Result {
  const before100 = version.startsWith('0.');
  const mtu = before100 || version === '1.0.0' ? {} : { mtu: plan.mtu };
  return {
    interfaces: [
      { name: bridge, mac: bridgeMac },
      { name: plan.hostVeth, mac: plan.hostMac },
      { name: plan.ifname, mac: plan.mac, ...mtu, sandbox: netns },
    ],
    ips: plan.addresses.map(({ address, subnet, gateway }) => ({
      ...(before100 ? { version: address.family.bits === 32 ? '4' : '6' } : {}),
      interface: base + 2,
      address: `${address.text}/${subnet.length}`,
      gateway: gateway.text,
    })),
    routes: plan.routes.map((route) => resultRoute(route, !before100 && version !== '1.0.0')),
    dns: {},
  };
}

/**
 * The result of versions before 0.3.0 (that of a configuration without a version, too): an address of each family, and no
 * interfaces. They know of no plugins before us but for their `dns`.
 */
function earlyResult({ cniVersion, dns }: NetConf, previous: Result, { addresses, routes }: PodPlan): object {
  const own = addresses.map(({ address, subnet, gateway }) => [
    address.family === ipv4 ? 'ip4' : 'ip6',
    {
      ip: `${address.text}/${subnet.length}`,
      gateway: gateway.text,
      routes: routes
        .filter(({ destination }) => destination.family === address.family)
        .map((route) => resultRoute(route, false)),
    },
  ]);
  return { cniVersion, ...Object.fromEntries(own), dns: dns ?? previous.dns };
}

/**
 * The result of ADD in the shape of the configuration's version (CNI specification, section 5, "ADD Success"), added to
 * that of the plugins before us, if there were any.
 */
export function addResult(config: NetConf, added: AddedPod): object {
  const { cniVersion, prevResult, dns } = config;
  const previous = previousResult(prevResult);
  if (isOlder(cniVersion, '0.3.0')) return earlyResult(config, previous, added.plan);
  const own = ownResult(added, cniVersion, previous.interfaces.length);
  return {
    cniVersion,
    interfaces: [...previous.interfaces, ...own.interfaces],
    ips: [...previous.ips, ...own.ips],
    routes: [...previous.routes, ...own.routes],
    dns: dns ?? previous.dns,
  };
}
