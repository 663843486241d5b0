import assert from 'node:assert/strict';
import { it } from 'node:test';
import { parseAddress, parsePrefix } from '../../../src/model/address.ts';
import { endpointsOf, type OverlayEntry, ROUTE_PROTOCOL } from '../../../src/overlay/plan/entries.ts';

const route = (subnet: string, gateway: string, onlink: boolean): OverlayEntry => ({
  kind: 'route',
  key: subnet,
  destination: parsePrefix(subnet),
  gateway: parseAddress(gateway),
  device: 2,
  onlink,
  protocol: ROUTE_PROTOCOL,
  nexthop: undefined,
});

it('entries send to public IPs: those of forwarding entries, and the gateways of direct routes', () => {
  const mac = '02:00:00:00:00:01';
  const entries: OverlayEntry[] = [
    { kind: 'neighbour', key: 'n', address: parseAddress('10.244.1.0'), mac, device: 3 },
    { kind: 'fdb', key: 'f', mac, destination: parseAddress('192.0.2.11'), device: 3 },
    { kind: 'nexthop', key: 'h', id: 7, gateway: parseAddress('10.244.1.0'), device: 3 },
    route('10.244.1.0/24', '10.244.1.0', true),
    route('10.244.2.0/24', '192.0.2.12', false),
  ];
  const found = endpointsOf(new Map(entries.map((entry) => [entry.key, entry])));
  assert.deepEqual(
    found.map(({ text }) => text),
    ['192.0.2.11', '192.0.2.12'],
  );
});
