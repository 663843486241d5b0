import { resolve } from 'node:path';
import { TwillError } from '../../model/error.ts';
import { goField } from '../../model/go-json.ts';
import { meantName } from '../../model/spelling.ts';
import { conditionsProblem } from '../plan/conditions.ts';
import { type bandwidthEntries, fieldNames, isObject, type Parsed } from './schema.ts';

type Json = Readonly<Record<string, unknown>>;

/** A field that the specification's code 2 is about: understood, and refused. */
export interface UnsupportedField {
  readonly field: string;
  readonly value: unknown;
  readonly advice: string;
}

/** What of flannel's and of bridge's own network this node's agent cannot be: another kind of network. */
export function unsupportedField(parsed: Parsed): UnsupportedField | undefined {
  const { delegate, ipam } = parsed;
  const kind = delegate?.type ?? '';
  if (kind !== '' && kind !== 'bridge') {
    const advice = 'Twill wires pods to a bridge: leave it out or set bridge';
    return { field: 'delegate.type', value: kind, advice };
  }
  for (const [prefix, vlan] of [
    ['', parsed.vlan],
    ['delegate.', delegate?.vlan],
  ] as const)
    if ((vlan ?? 0) !== 0)
      return { field: `${prefix}vlan`, value: vlan, advice: 'Twill has one network per bridge' };
  const type = ipam?.type ?? '';
  if (type !== '' && type !== 'host-local' && type !== 'twill') {
    const advice = 'Twill gives out the addresses of the node’s lease itself: leave it out';
    return { field: 'ipam.type', value: type, advice };
  }
  return undefined;
}

/** Where flannel's and host-local's plugins keep their files unless told otherwise. */
const usualDataDirs = { dataDir: '/var/lib/cni/flannel', 'ipam.dataDir': '/var/lib/cni/networks' } as const;

export const given = (value: unknown): boolean =>
  value !== undefined && value !== null && value !== '' && !(Array.isArray(value) && value.length === 0);

/** Fields that would have to be honoured and are not, with what to do. */
function refused(parsed: Parsed): [field: string, value: unknown, advice: string][] {
  const { delegate, ipam, runtimeConfig } = parsed;
  const dataDirs = [
    ['dataDir', parsed.dataDir],
    ['ipam.dataDir', ipam?.dataDir],
  ] as const;
  return [
    ['vlanTrunk', parsed.vlanTrunk, 'Twill has one network per bridge'],
    ['delegate.vlanTrunk', delegate?.vlanTrunk, 'Twill has one network per bridge'],
    ['delegate.name', delegate?.name, 'the network has one name, beside delegate'],
    ['delegate.ipam', delegate?.ipam, 'ipam has its place beside delegate'],
    ['externalSetMarkChain', parsed.externalSetMarkChain, 'set markMasqBit instead'],
    ['shapedSubnets', parsed.shapedSubnets, 'all traffic of a pod is shaped alike'],
    ['unshapedSubnets', parsed.unshapedSubnets, 'all traffic of a pod is shaped alike'],
    ['runtimeConfig.deviceID', runtimeConfig?.deviceID, 'Twill makes the pod’s device'],
    ['runtimeConfig.infinibandGUID', runtimeConfig?.infinibandGUID, 'Twill’s devices are Ethernet'],
    ...dataDirs
      .filter(([field, value]) => resolve(value ?? '') !== usualDataDirs[field])
      .map(([field, value]): [string, unknown, string] => [
        field,
        value,
        'Twill keeps its state in --state-dir of the agent',
      ]),
  ];
}

/** @throws TwillError `invalid` naming field and value */
export function refuse(field: string, value: unknown, why: string): never {
  const text = JSON.stringify(value) ?? '';
  const shown = text.length > 100 ? `${text.slice(0, 100)}…` : text;
  throw new TwillError(
    'invalid',
    `network configuration: ${field} is ${shown}, which is not supported: ${why}`,
  );
}

/** A burst is a part of a limit, which needs a rate; the bandwidth plugin refuses one without, too. */
function refuseBursts(prefix: string, limits: Partial<Record<keyof typeof bandwidthEntries, unknown>>): void {
  for (const [burst, rate] of [
    ['ingressBurst', 'ingressRate'],
    ['egressBurst', 'egressRate'],
  ] as const)
    if (limits[burst] && !limits[rate])
      refuse(`${prefix}${burst}`, limits[burst], `a burst needs ${rate} beside it`);
}

/** @throws TwillError `invalid` naming the first field that is not honoured, and its value */
export function refuseUnhonoured(parsed: Parsed): void {
  for (const [field, value, advice] of refused(parsed)) if (given(value)) refuse(field, value, advice);
  refuseBursts('', parsed);
  refuseBursts('runtimeConfig.bandwidth.', parsed.runtimeConfig?.bandwidth ?? {});
  for (const field of ['conditionsV4', 'conditionsV6'] as const) {
    const problem = conditionsProblem(parsed[field] ?? []);
    if (problem !== undefined) refuse(field, parsed[field], problem);
  }
}

/** Capabilities that have a meaning here; the others only make the runtime send more. */
const capabilities = ['portMappings', 'bandwidth', 'ips', 'ipRanges', 'mac', 'dns'];

/** Fields that change nothing here, and harm nobody by it. */
function withoutEffect(parsed: Parsed): string[] {
  const unknown = Object.entries(parsed.capabilities ?? {})
    .filter(([name, wanted]) => wanted === true && !capabilities.includes(name))
    .map(([name]) => `capabilities.${name}`);
  const fields = [
    ['preserveDefaultVlan', parsed.preserveDefaultVlan ?? parsed.delegate?.preserveDefaultVlan],
    ['ipMasqBackend', parsed.ipMasqBackend ?? parsed.delegate?.ipMasqBackend],
    ['backend', parsed.backend === 'iptables' ? undefined : parsed.backend],
  ] as const;
  return [...fields.filter(([, value]) => given(value)).map(([field]) => field), ...unknown];
}

function itemsAt(config: Json, path: string): Json[] {
  let found: unknown[] = [config];
  for (const name of path.split('.').filter((part) => part !== ''))
    found = found.flatMap((item) => (isObject(item) ? [goField(item, name)].flat(2) : []));
  return found.filter(isObject);
}

function misspelt(config: Json): string[] {
  return Object.entries(fieldNames).flatMap(([path, known]) =>
    itemsAt(config, path).flatMap((item) =>
      Object.keys(item).flatMap((name) => {
        const meant = meantName(name, known);
        const prefix = path === '' ? '' : `${path}.`;
        return meant === undefined ? [] : [`${prefix}${name} has no meaning; is ${meant} meant?`];
      }),
    ),
  );
}

/** What is to be said once about a configuration that is otherwise carried out. */
export function configurationWarnings(config: Json, parsed: Parsed): string[] {
  return [...misspelt(config), ...withoutEffect(parsed).map((field) => `${field} has no effect`)];
}
