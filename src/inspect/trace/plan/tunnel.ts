/** VXLAN: a packet inside another one, which goes its own way from this node. */

import { parseAddress } from '../../../model/address.ts';
import { deviceOf, died, type Ending, spaceOf, step, type Ways } from './journey.ts';
import { type Asking, ask, type Device, type Space } from './questions.ts';
import { type State, withPacket } from './state.ts';

/** The packet that carries this one. Its source port is a hash of the flow inside. */
function wrapped(
  state: State,
  vxlan: NonNullable<Device['vxlan']>,
  source: string,
  destination: string,
): State {
  const { packet } = state;
  const outer = {
    family: parseAddress(destination).family,
    protocol: 'udp' as const,
    source,
    sourcePort: undefined,
    destination,
    port: vxlan.port,
    mark: packet.mark,
    tracking: undefined,
    opening: true,
  };
  return { ...state, packet: outer, carried: [packet], connections: [] };
}

/** Into the tunnel: the neighbour says which VTEP, the forwarding table which node. */
export function* tunnel(
  ways: Ways,
  space: Space,
  device: Device,
  nextHop: string,
  start: State,
): Asking<Ending[]> {
  const { name } = device;
  const entry = yield* ask('neighbour', space.id, { device: name, address: nextHop });
  if (entry?.mac === undefined || entry.state === 'failed' || entry.state === 'incomplete')
    return [
      died(
        space,
        start,
        `${name} has no neighbour entry for ${nextHop}: nobody says which VTEP that is`,
        `ip neigh show dev ${name}; is the agent running?`,
      ),
    ];
  const known = step(start, space, 'neighbour', `${nextHop} is ${entry.mac} on ${name} (${entry.state})`, {
    device: name,
  });
  const forwarding = yield* ask('forwarding', space.id, { device: name, mac: entry.mac });
  if (forwarding?.destination === undefined)
    return [
      died(
        space,
        known,
        `${name} has no forwarding entry for ${entry.mac}: nobody says which node that is`,
        `bridge fdb show dev ${name}; is the agent running?`,
      ),
    ];
  const { vni, port, local } = device.vxlan!;
  const text = `carried in UDP to ${forwarding.destination}:${port} (VNI ${vni})`;
  const told = step(known, space, 'tunnel', text, { device: name });
  const outer = fitting(space, wrapped(told, device.vxlan!, local ?? '', forwarding.destination), device);
  const endings = yield* ways.output(space.id, outer);
  return endings.map((ending) => ({ ...ending, state: { ...ending.state, connections: start.connections } }));
}

/** Says when the device in which packets are carried does not take the largest of them. */
function fitting(space: Space, state: State, device: Device): State {
  const overhead = state.packet.family.vxlanOverhead;
  const under = deviceOf(space, device.vxlan?.underlay);
  if (under === undefined || under.mtu - overhead >= device.mtu) return { ...state, mtu: undefined };
  const text = `packets above ${under.mtu - overhead} bytes do not fit ${under.name} once they are carried: ${device.name} takes ${device.mtu}`;
  return step({ ...state, mtu: undefined }, space, 'note', text, { device: under.name });
}

/** Out of the tunnel: first the packet that carries it must get in, then it comes in by the tunnel's device. */
export function* unwrap(
  ways: Ways,
  spaceId: string,
  name: string,
  from: string,
  state: State,
): Asking<Ending[]> {
  const space = yield* spaceOf(spaceId);
  const device = deviceOf(space, name)!;
  const { packet, connections } = state;
  const forwarder = device.vxlan!;
  const local = forwarder.local ?? deviceOf(space, forwarder.underlay)?.addresses[0]?.address ?? '';
  const outer = { ...wrapped(state, forwarder, from, local), mtu: undefined };
  const told = step(outer, space, 'tunnel', `comes in UDP from ${from} to ${local}:${forwarder.port}`);
  const endings: Ending[] = [];
  for (const ending of yield* ways.input(spaceId, forwarder.underlay ?? '', told)) {
    const inner = { ...ending.state, packet, carried: [], connections };
    if (ending.result !== 'delivered') endings.push({ ...ending, state: { ...ending.state, connections } });
    else if (!device.up)
      endings.push(died(space, inner, `the device ${name} is down`, `ip link set ${name} up`));
    else
      endings.push(
        ...(yield* ways.input(spaceId, name, withPacket(inner, { mark: 0, tracking: undefined }))),
      );
  }
  return endings;
}
