import type { ServiceRow } from '../services/plan/row.ts';
import type { Screen } from './output.ts';
import type { ServiceAnswer, ServicesAnswer, ShownEndpoint } from './plan/services.ts';
import { type Cell, formatTable } from './table.ts';

function portsText({ ports }: ServiceRow): string {
  return ports
    .map(({ port, protocol, nodePort }) => `${port}${nodePort === 0 ? '' : `:${nodePort}`}/${protocol}`)
    .join(',');
}

function addresses({ clusterIPs, externalIPs, loadBalancerIPs }: ServiceRow): string {
  const all = [...clusterIPs, ...externalIPs, ...loadBalancerIPs];
  return all.length === 0 ? 'none' : all.join(',');
}

function endpointsText({ endpoints: { ready, local, terminating, notReady } }: ServiceRow): string {
  const rest = [
    ...(terminating > 0 ? [`${terminating} ending`] : []),
    ...(notReady > 0 ? [`${notReady} not ready`] : []),
  ];
  return [`${ready} (${local} here)`, ...rest].join(', ');
}

function notes(row: ServiceRow): Cell {
  const told = [
    ...(row.internalPolicy === 'Local' ? ['internal policy Local'] : []),
    ...(row.externalPolicy === 'Local' ? ['external policy Local'] : []),
    ...(row.affinitySeconds > 0 ? [`affinity ${row.affinitySeconds}s`] : []),
    ...(row.sourceRanges.length > 0 ? [`only from ${row.sourceRanges.join(' ')}`] : []),
    ...(row.healthCheckNodePort > 0 ? [`health check port ${row.healthCheckNodePort}`] : []),
  ];
  const text = [...(row.trouble === undefined ? [] : [row.trouble]), ...told].join('; ');
  return row.trouble === undefined ? text : { text, tone: 'bad' };
}

const rowOf = (service: ServiceRow): Cell[] => [
  service.name,
  service.type,
  addresses(service),
  portsText(service),
  endpointsText(service),
  notes(service),
];

const header = ['SERVICE', 'TYPE', 'ADDRESSES', 'PORTS', 'ENDPOINTS', 'NOTES'];

const away = (proxyAway: string | undefined, { paint }: Screen): string =>
  proxyAway === undefined ? '' : `${paint(`${proxyAway}: Services are what its source says`, 'poor')}\n`;

/** Rows of Services that are well: more are counted. */
const MOST_WELL = 500;

export function servicesTable({ services, proxyAway }: ServicesAnswer, screen: Screen): string {
  const troubled = services.filter(({ trouble }) => trouble !== undefined);
  const well = services.filter(({ trouble }) => trouble === undefined);
  const shown = [...troubled, ...well.slice(0, MOST_WELL)];
  const more = well.length - MOST_WELL;
  const table = formatTable(header, shown.map(rowOf), screen);
  return `${away(proxyAway, screen)}${table}${more > 0 ? `… and ${more} more, all well\n` : ''}`;
}

function endpointRow({ address, ports, node, local, ready, serving, terminating }: ShownEndpoint): Cell[] {
  const state = terminating
    ? `ending${serving ? ', still serves' : ''}`
    : ready
      ? 'ready'
      : serving
        ? 'serves, not ready'
        : 'not ready';
  return [
    address,
    ports.map(({ name, port, protocol }) => `${name === '' ? '' : `${name} `}${port}/${protocol}`).join(', '),
    `${node ?? 'unknown'}${local ? ' (this node)' : ''}`,
    ready && !terminating ? state : { text: state, tone: 'poor' },
  ];
}

export function serviceTable(answer: ServiceAnswer, screen: Screen): string {
  const { service, endpoints, rules, rulesKnown, proxyAway, mode } = answer;
  const lines = rules.map(({ table, chain, rule, packets }): Cell[] => [
    packets === undefined ? '-' : String(packets),
    `${table} ${chain}`,
    rule,
  ]);
  const none = rulesKnown
    ? 'no rule of it stands\n'
    : `rules of mode ${mode} cannot be shown by this program\n`;
  return [
    away(proxyAway, screen) + formatTable(header, [rowOf(service)], screen),
    formatTable(['ENDPOINT', 'PORTS', 'NODE', 'STATE'], endpoints.map(endpointRow), screen),
    lines.length === 0 ? none : formatTable(['PACKETS', 'CHAIN', 'RULE'], lines, screen),
  ].join('\n');
}
