/** From a device to whoever is at its other end: neighbours, bridges with their ports, tunnels, and out of sight. */
import { enterPort, leaveBridge, resolveOnBridge } from './bridge.ts';
import { deviceOf, died, type Ending, spaceOf, step, type Ways } from './journey.ts';
import { type Asking, ask, type Device, type Neighbour, type Space } from './questions.ts';
import { type State, withPacket } from './state.ts';
import { tunnel } from './tunnel.ts';

/** A device that nothing can be sent by, and why. */
function deadDevice(
  space: Space,
  state: State,
  name: string,
  device: Device | undefined,
): Ending | undefined {
  if (device === undefined) return died(space, state, `there is no device ${name}`);
  if (!device.up) return died(space, state, `the device ${name} is down`, `ip link set ${name} up`);
  if (device.running) return undefined;
  return died(
    space,
    state,
    `the device ${name} has no carrier: its other end is down or not there`,
    `ip link show ${name}`,
  );
}

/** Remembers the smallest MTU on the way, and says where large packets stop fitting. */
export function measured(space: Space, state: State, device: Device): State {
  const { mtu } = state;
  if (mtu === undefined || device.mtu >= mtu)
    return mtu === undefined ? { ...state, mtu: device.mtu } : state;
  const text = `packets above ${device.mtu} bytes do not fit ${device.name}: senders may use ${mtu}`;
  return step({ ...state, mtu: device.mtu }, space, 'note', text, { device: device.name });
}

/** It leaves by a device, to the next machine. */
export function* transmit(
  ways: Ways,
  spaceId: string,
  name: string,
  nextHop: string,
  start: State,
): Asking<Ending[]> {
  const space = yield* spaceOf(spaceId);
  const device = deviceOf(space, name);
  const dead = deadDevice(space, start, name, device);
  if (dead !== undefined) return [dead];
  const state = measured(space, start, device!);
  if (device!.vxlan !== undefined) return yield* tunnel(ways, space, device!, nextHop, state);
  if (device!.kind === 'bridge') {
    const found = yield* resolveOnBridge(space, device!, nextHop, state);
    if ('result' in found) return [found];
    return yield* leaveBridge(ways, space, device!, found.mac, found.state);
  }
  const peer = yield* ask('peer', spaceId, { device: name });
  if (peer === undefined) return yield* outOfSight(space, device!, nextHop, state);
  const target = yield* spaceOf(peer.space);
  const far = deviceOf(target, peer.device);
  if (far === undefined) return yield* outOfSight(space, device!, nextHop, state);
  const resolved = yield* resolveByPeer(space, device!, { space: target, device: far }, nextHop, state);
  if ('result' in resolved) return [resolved];
  if (far.master !== undefined) return yield* enterPort(ways, target, far, resolved.mac, resolved.state);
  return yield* ways.input(target.id, far.name, withPacket(resolved.state, { mark: 0 }));
}

const dead = new Set(['failed', 'incomplete']);

function neighbourText(address: string, device: string, { mac, state }: Neighbour): string {
  return `${address} is ${mac ?? 'unknown'} on ${device} (${state})`;
}

/** The MAC address for the next hop, from the neighbour table or by asking who is there. */
function* resolveByPeer(
  space: Space,
  device: Device,
  far: { readonly space: Space; readonly device: Device },
  nextHop: string,
  state: State,
): Asking<Ending | { readonly mac: string; readonly state: State }> {
  const entry = yield* ask('neighbour', space.id, { device: device.name, address: nextHop });
  if (entry?.mac !== undefined && !dead.has(entry.state))
    return {
      mac: entry.mac,
      state: step(state, space, 'neighbour', neighbourText(nextHop, device.name, entry)),
    };
  const found = yield* whoHas(far, nextHop);
  if (found === undefined)
    return died(
      space,
      state,
      `nobody answers for the next hop ${nextHop} on ${device.name}`,
      `which device of the node should have ${nextHop}? ip address show to ${nextHop}`,
    );
  return {
    mac: found.mac,
    state: step(state, space, 'neighbour', `${nextHop} is ${found.mac}: ${found.who} answers`),
  };
}

/** Who answers when the next hop is asked for at the other end of a pair. */
function* whoHas(
  { space, device }: { readonly space: Space; readonly device: Device },
  address: string,
): Asking<{ readonly mac: string; readonly who: string } | undefined> {
  const bridge = deviceOf(space, device.master);
  if (bridge === undefined) return { mac: device.mac, who: device.name };
  // The kernel answers for any address of its own, whichever device has it.
  if (space.devices.some(({ addresses }) => addresses.some((one) => one.address === address)))
    return { mac: bridge.mac, who: bridge.name };
  const residents = yield* ask('residents', space.id, {});
  const resident = residents.find(
    (one) => one.up && one.bridge === bridge.name && one.addresses.includes(address),
  );
  return resident && { mac: resident.mac, who: resident.port };
}

/** To a machine that cannot be looked into: the neighbour table is all there is. */
function* outOfSight(space: Space, device: Device, nextHop: string, state: State): Asking<Ending[]> {
  const entry = yield* ask('neighbour', space.id, { device: device.name, address: nextHop });
  if (entry !== undefined && dead.has(entry.state))
    return [
      died(
        space,
        state,
        `${nextHop} does not answer on ${device.name} (neighbour entry ${entry.state})`,
        `ip neigh show ${nextHop} dev ${device.name}; ping ${nextHop}`,
      ),
    ];
  const text =
    entry?.mac === undefined
      ? `${nextHop} is asked for on ${device.name}: there is no entry yet`
      : neighbourText(nextHop, device.name, entry);
  const gone = step(state, space, 'neighbour', text, { device: device.name });
  const reason = `left by ${device.name} to ${nextHop}`;
  return [
    { result: 'left', space: space.id, where: space.name, device: device.name, nextHop, reason, state: gone },
  ];
}
