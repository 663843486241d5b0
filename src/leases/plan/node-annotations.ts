import {
  type Address,
  type Family,
  families,
  ipv4,
  isUnicast,
  type Prefix,
  parsePrefix,
  tryParseAddress,
} from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { list, object } from '../../model/untrusted.ts';
import {
  formatLeaseValue,
  type Lease,
  type LeaseOrder,
  leaseFamily,
  makeLease,
  type RawLease,
} from './lease.ts';

/** The parts of a Kubernetes Node that carry a lease; nothing of it is trusted. */
export interface RawNode {
  readonly metadata?: {
    readonly name?: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly creationTimestamp?: string;
    /** Who wrote which fields when, as the API server keeps it. */
    readonly managedFields?: readonly { readonly time?: string; readonly fieldsV1?: unknown }[];
  };
  readonly spec?: { readonly podCIDR?: string; readonly podCIDRs?: readonly string[] };
  readonly status?: {
    readonly addresses?: readonly { readonly type?: string; readonly address?: string }[];
    readonly conditions?: readonly { readonly type?: string; readonly status?: string }[];
  };
}

/** The names of flannel's annotations under one prefix. */
export interface AnnotationNames {
  readonly managed: string;
  readonly backendType: string;
  readonly data: Readonly<Record<Family['name'], string>>;
  readonly publicIp: Readonly<Record<Family['name'], string>>;
  /** Set by an administrator: the node's own address for traffic between nodes, as --public-ip. */
  readonly nodeIp: Readonly<Record<Family['name'], string>>;
  /** Set by an administrator: the address to publish, whatever the node's own is. */
  readonly overwrite: Readonly<Record<Family['name'], string>>;
}

/**
 * @param prefix `--kube-annotation-prefix`: `fqdn` or `fqdn/something`
 * @throws TwillError `invalid`
 */
export function annotationNames(prefix: string): AnnotationNames {
  const slash = prefix.includes('/') ? prefix : `${prefix}/`;
  const base = /[/-]$/.test(slash) ? slash : `${slash}-`;
  if (!/^([a-z0-9_-]+\.)+[a-z0-9_-]+\/([a-z0-9_-]+-)?$/.test(base))
    throw new TwillError(
      'invalid',
      `--kube-annotation-prefix '${prefix}' is not of the form fqdn/[0-9a-z-_]*`,
    );
  return {
    managed: `${base}kube-subnet-manager`,
    backendType: `${base}backend-type`,
    data: { ipv4: `${base}backend-data`, ipv6: `${base}backend-v6-data` },
    publicIp: { ipv4: `${base}public-ip`, ipv6: `${base}public-ipv6` },
    nodeIp: { ipv4: `${base}node-public-ip`, ipv6: `${base}node-public-ipv6` },
    overwrite: { ipv4: `${base}public-ip-overwrite`, ipv6: `${base}public-ipv6-overwrite` },
  };
}

/** The node's pod subnets, IPv4 first. @throws TwillError `invalid` naming the CIDR */
export function podSubnets(node: RawNode): Prefix[] {
  const { podCIDR, podCIDRs } = node.spec ?? {};
  const texts = podCIDRs !== undefined && podCIDRs.length > 0 ? podCIDRs : podCIDR ? [podCIDR] : [];
  const subnets = texts.map(parsePrefix).sort((a, b) => a.family.bits - b.family.bits);
  if (new Set(subnets.map(({ family }) => family)).size < subnets.length)
    throw new TwillError('invalid', `podCIDRs ${texts.join(', ')}: more than one of a family`);
  return subnets;
}

export function internalIps(node: RawNode): Address[] {
  return (node.status?.addresses ?? [])
    .filter(({ type }) => type === 'InternalIP')
    .flatMap(({ address }) => tryParseAddress(address) ?? []);
}

function parseData(text: string | undefined): unknown {
  return text === undefined || text === '' ? undefined : JSON.parse(text);
}

/** Seconds; what a node says of itself comes after all podCIDRs, which a controller hands out. */
const AFTER_SUBNETS = 2 ** 40;

const seconds = (time: string | undefined): number => Math.floor(Date.parse(time ?? '') / 1000) || 0;

/** When the node was made, and when its annotations were last written by somebody, by the API server's own clock. */
function order({ metadata = {} }: RawNode, names: AnnotationNames): LeaseOrder {
  const created = seconds(metadata.creationTimestamp);
  const field = `f:${names.data.ipv4}`;
  const writers = list(metadata.managedFields).map(object);
  const writer = writers.find(({ fieldsV1 }) =>
    Object.hasOwn(object(object(object(fieldsV1)['f:metadata'])['f:annotations']), field),
  );
  const written = typeof writer?.time === 'string' ? seconds(writer.time) : 0;
  return { created, changed: AFTER_SUBNETS + Math.max(created, written) };
}

/**
 * The lease that a node's annotations amount to; undefined when flannel does not manage the node (yet).
 * @throws TwillError or SyntaxError saying what is wrong
 */
export function nodeLease(node: RawNode, names: AnnotationNames): Lease | undefined {
  const annotations = node.metadata?.annotations ?? {};
  if (annotations[names.managed] !== 'true') return undefined;
  const type = annotations[names.backendType];
  const data = parseData(annotations[names.data.ipv4]);
  const dataV6 = parseData(annotations[names.data.ipv6]);
  // Nobody takes annotations away: those of a family that the node served with another backend may still be there.
  const left = (own: unknown, other: unknown): boolean =>
    type === 'vxlan' && (own ?? null) === null && (other ?? null) !== null;
  const raw: RawLease = {
    PublicIP: left(data, dataV6) ? undefined : annotations[names.publicIp.ipv4],
    PublicIPv6: left(dataV6, data) ? undefined : annotations[names.publicIp.ipv6],
    BackendType: type,
    BackendData: data,
    BackendV6Data: dataV6,
  };
  return makeLease(node.metadata?.name ?? '', podSubnets(node), raw, order(node, names));
}

function annotatedIp(node: RawNode, name: string, family: Family): Address | undefined {
  const address = tryParseAddress(node.metadata?.annotations?.[name]);
  return address?.family === family && isUnicast(address) ? address : undefined;
}

/** The public IP to publish that an administrator set in an annotation. */
export function overwrittenIp(node: RawNode, names: AnnotationNames, family: Family): Address | undefined {
  return annotatedIp(node, names.overwrite[family.name], family);
}

/** Annotations that an administrator set and that cannot be followed, each with what to do. */
export function annotationProblems(node: RawNode, names: AnnotationNames): string[] {
  const { annotations = {} } = node.metadata ?? {};
  return [names.nodeIp, names.overwrite].flatMap((byFamily) =>
    families.flatMap((family) => {
      const name = byFamily[family.name];
      const text: unknown = annotations[name];
      if (text === undefined || annotatedIp(node, name, family) !== undefined) return [];
      return [
        `the annotation ${name} is ${JSON.stringify(text)}, which is no ${family.kubeName} address of a machine: it is passed over; correct it or take it away (kubectl annotate node ${node.metadata?.name ?? ''} ${name}-)`,
      ];
    }),
  );
}

/** The node's addresses for traffic between nodes that an administrator set in annotations. */
export function nodePublicIps(node: RawNode, names: AnnotationNames): Address[] {
  return families.flatMap((family) => annotatedIp(node, names.nodeIp[family.name], family) ?? []);
}

/** Those that publish a lease, whatever its backend: not those that an administrator sets. */
export function publishedNames({ managed, backendType, data, publicIp }: AnnotationNames): string[] {
  return [managed, backendType, data.ipv4, data.ipv6, publicIp.ipv4, publicIp.ipv6];
}

/** The annotations that publish a lease, as flannel writes them: `null` where a backend has no data. */
export function leaseAnnotations(lease: Lease, names: AnnotationNames): Record<string, string> {
  const value = JSON.parse(formatLeaseValue(lease)) as { BackendData?: object; BackendV6Data?: object };
  const annotations: Record<string, string> = {
    [names.backendType]: lease.backend,
    [names.managed]: 'true',
  };
  for (const { family } of lease.families) {
    const data = family === ipv4 ? value.BackendData : value.BackendV6Data;
    annotations[names.data[family.name]] = JSON.stringify(data ?? null);
    annotations[names.publicIp[family.name]] = leaseFamily(lease, family)?.publicIp.text ?? '';
  }
  return annotations;
}
