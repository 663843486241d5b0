/** A bridge: which port a frame comes in by and goes out of, and what of it the bridge shows to iptables. */
import { deviceOf, died, type Ending, isRefused, routeFor, spaceOf, step, type Ways } from './journey.ts';
import { type Asking, ask, type Device, type Resident, type Space } from './questions.ts';
import { type State, withPacket } from './state.ts';

interface Resolved {
  readonly mac: string;
  readonly state: State;
}

const isDead = (state: string): boolean => state === 'failed' || state === 'incomplete';

/** The MAC address of who has an address on the bridge. */
export function* resolveOnBridge(
  space: Space,
  bridge: Device,
  address: string,
  state: State,
): Asking<Ending | Resolved> {
  const entry = yield* ask('neighbour', space.id, { device: bridge.name, address });
  if (entry?.mac !== undefined && !isDead(entry.state)) {
    const text = `${address} is ${entry.mac} on ${bridge.name} (${entry.state})`;
    return { mac: entry.mac, state: step(state, space, 'neighbour', text, { device: bridge.name }) };
  }
  const all = (yield* ask('residents', space.id, {})).filter((one) => one.addresses.includes(address));
  const owners = all.filter((one) => one.bridge === bridge.name);
  const owner = owners.find(({ up }) => up) ?? owners[0];
  if (owner !== undefined) {
    const text = `${address} is ${owner.mac}: asked for on ${bridge.name}, ${owner.port} answers`;
    return { mac: owner.mac, state: step(state, space, 'neighbour', text, { device: bridge.name }) };
  }
  if (all[0] !== undefined)
    return died(
      space,
      state,
      `the pod with ${address} is behind ${all[0].port}, which is no port of ${bridge.name}`,
      `ip link set ${all[0].port} master ${bridge.name}`,
    );
  return died(
    space,
    state,
    `nobody on ${bridge.name} has ${address}: no pod of this node, and no neighbour entry that is valid`,
    `twill pods; ip neigh show ${address} dev ${bridge.name}`,
  );
}

/** The port to a MAC address: the forwarding table's, else of whoever has it, since the frame goes to all ports. */
function* portTo(space: Space, bridge: Device, mac: string): Asking<string | undefined> {
  const entry = yield* ask('forwarding', space.id, { device: bridge.name, mac });
  if (entry?.port !== undefined && entry.port !== bridge.name) return entry.port;
  const residents: readonly Resident[] = yield* ask('residents', space.id, {});
  return residents.find((one) => one.mac === mac && one.bridge === bridge.name)?.port;
}

/** A frame of the node itself, or one that was bridged, leaves by the port that leads to `mac`. */
export function* leaveBridge(
  ways: Ways,
  space: Space,
  bridge: Device,
  mac: string,
  state: State,
): Asking<Ending[]> {
  const name = yield* portTo(space, bridge, mac);
  const port = deviceOf(space, name);
  if (name === undefined || port === undefined)
    return [
      died(
        space,
        state,
        `no port of ${bridge.name} leads to ${mac}: whoever had that address is gone`,
        `bridge fdb show br ${bridge.name}; ip neigh flush dev ${bridge.name}`,
      ),
    ];
  return yield* outOf(ways, space, bridge, port, mac, state);
}

function blocked(space: Space, bridge: Device, port: Device, state: State): Ending | undefined {
  const { name } = port;
  if (!bridge.up)
    return died(space, state, `the bridge ${bridge.name} is down`, `ip link set ${bridge.name} up`);
  if (!port.up) return died(space, state, `the bridge port ${name} is down`, `ip link set ${name} up`);
  if (!port.running)
    return died(
      space,
      state,
      `the bridge port ${name} has no carrier: the pod's end is down`,
      `ip link show ${name}`,
    );
  if (port.port?.forwarding === false)
    return died(space, state, `the bridge port ${name} does not forward`, `bridge -d link show dev ${name}`);
  return undefined;
}

function* outOf(
  ways: Ways,
  space: Space,
  bridge: Device,
  port: Device,
  mac: string,
  state: State,
): Asking<Ending[]> {
  const dead = blocked(space, bridge, port, state);
  if (dead !== undefined) return [dead];
  const peer = yield* ask('peer', space.id, { device: port.name });
  const out = step(state, space, 'bridge', `${bridge.name} sends it out of ${port.name}`, {
    device: port.name,
  });
  if (peer === undefined) {
    const reason = `left by port ${port.name} of ${bridge.name}`;
    return [{ result: 'left', space: space.id, where: space.name, device: port.name, reason, state: out }];
  }
  const pod = yield* spaceOf(peer.space);
  const far = deviceOf(pod, peer.device);
  if (far !== undefined && far.mac !== mac)
    return [
      died(
        pod,
        out,
        `the frame is for ${mac}, and ${far.name} here is ${far.mac}`,
        `the neighbour entry of the node is wrong: ip neigh show dev ${bridge.name}`,
      ),
    ];
  if (far?.up === false)
    return [died(pod, out, `the device ${far.name} is down`, `ip link set ${far.name} up, in the pod`)];
  return yield* ways.input(pod.id, peer.device, withPacket(out, { mark: 0, tracking: undefined }));
}

/** A frame has come in by a port. */
export function* enterPort(
  ways: Ways,
  space: Space,
  port: Device,
  mac: string,
  start: State,
): Asking<Ending[]> {
  const bridge = deviceOf(space, port.master)!;
  const dead = blocked(space, bridge, port, start);
  if (dead !== undefined) return [dead];
  const clean = withPacket(start, {
    mark: 0,
    tracking: undefined,
    bridgeIn: port.name,
    bridgeOut: undefined,
  });
  const state = step(clean, space, 'bridge', `comes in by port ${port.name} of ${bridge.name}`, {
    device: port.name,
  });
  const isForNode =
    mac === bridge.mac || space.devices.some((one) => one.master === bridge.name && one.mac === mac);
  if (!(yield* isShown(space, state))) {
    if (isForNode) return yield* ways.input(space.id, bridge.name, state);
    return yield* across(ways, space, bridge, port, mac, state);
  }
  const seen = withPacket(state, { inDevice: bridge.name, outDevice: undefined });
  return yield* ways.hook(space.id, 'prerouting', seen, function* (looked) {
    const { destination } = looked.packet;
    const redirected = destination !== state.packet.destination && (yield* staysOn(space, bridge, looked));
    if (redirected) return yield* redirectedAcross(ways, space, bridge, port, looked);
    if (isForNode || destination !== state.packet.destination)
      return yield* ways.input(space.id, bridge.name, looked, true);
    return yield* shownAcross(ways, space, bridge, port, mac, looked);
  });
}

/** Whether the bridge hands packets to iptables (br_netfilter). */
function* isShown(space: Space, { packet }: State): Asking<boolean> {
  const name = `net/bridge/bridge-nf-call-${packet.family.iptables}`;
  return (yield* ask('setting', space.id, { name })) === '1';
}

/** What was redirected to somebody on the same bridge is bridged on, not routed (br_nf_pre_routing_finish). */
function* staysOn(space: Space, bridge: Device, { packet }: State): Asking<boolean> {
  const route = yield* routeFor(space.id, packet, bridge.name);
  if (!isRefused(route)) return route.type === 'unicast' && route.device === bridge.name;
  if (route.refused !== 'EHOSTUNREACH') return false;
  const out = yield* routeFor(space.id, packet);
  return !isRefused(out) && out.device === bridge.name;
}

function* redirectedAcross(
  ways: Ways,
  space: Space,
  bridge: Device,
  port: Device,
  state: State,
): Asking<Ending[]> {
  const found = yield* resolveOnBridge(space, bridge, state.packet.destination, state);
  if ('result' in found) return [found];
  return yield* shownAcross(ways, space, bridge, port, found.mac, found.state);
}

function* shownAcross(
  ways: Ways,
  space: Space,
  bridge: Device,
  port: Device,
  mac: string,
  state: State,
): Asking<Ending[]> {
  const out = yield* portTo(space, bridge, mac);
  const named = withPacket(state, { inDevice: bridge.name, outDevice: bridge.name, bridgeOut: out });
  return yield* ways.hook(space.id, 'forward', named, (passed) =>
    ways.hook(space.id, 'postrouting', withPacket(passed, { inDevice: undefined }), (sent) =>
      across(ways, space, bridge, port, mac, sent),
    ),
  );
}

/** From port to port. */
function* across(
  ways: Ways,
  space: Space,
  bridge: Device,
  from: Device,
  mac: string,
  state: State,
): Asking<Ending[]> {
  const name = yield* portTo(space, bridge, mac);
  const port = deviceOf(space, name);
  if (name === from.name && from.port?.hairpin === false)
    return [
      died(
        space,
        state,
        `the port ${name} would have to send back what came in by it, and its hairpin mode is off`,
        `bridge link set dev ${name} hairpin on`,
      ),
    ];
  if (port?.port?.isolated === true && from.port?.isolated === true)
    return [died(space, state, `the ports ${from.name} and ${name} are isolated from each other`)];
  return yield* leaveBridge(ways, space, bridge, mac, state);
}
