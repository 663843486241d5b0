/** Why the kernel does not send a packet on, in words: it says a number, and several things have the same. */
import { died, type Ending, isRefused, routeFor } from './journey.ts';
import { type Asking, ask, type RouteRefused, type Space } from './questions.ts';
import type { State } from './state.ts';

const meanings: Readonly<Record<string, string>> = {
  EACCES: 'a route of type prohibit forbids it',
  EINVAL: 'a route of type blackhole, or an address that cannot be sent to',
  EHOSTUNREACH: 'a route of type unreachable, or none',
  ENETUNREACH: 'no route',
};

export function explainOutput(space: Space, state: State, { refused }: RouteRefused): Ending {
  const { destination, family } = state.packet;
  const flag = family.name === 'ipv4' ? '' : ' -6';
  const why = meanings[refused] ?? refused;
  return died(
    space,
    state,
    `no way to ${destination}: ${why} (${refused})`,
    `ip${flag} route get ${destination}`,
  );
}

function* number(space: Space, name: string): Asking<number> {
  return Number((yield* ask('setting', space.id, { name })) ?? 0);
}

/** The reverse path filter in force for a device: the stricter of its own and that of all. */
function* pathFilter(space: Space, device: string): Asking<number> {
  const all = yield* number(space, 'net/ipv4/conf/all/rp_filter');
  return Math.max(all, yield* number(space, `net/ipv4/conf/${device}/rp_filter`));
}

function* filtered(space: Space, state: State, device: string): Asking<Ending | undefined> {
  const filter = yield* pathFilter(space, device);
  if (filter === 0) return undefined;
  const { packet } = state;
  const back = { ...packet, source: '', destination: packet.source, port: undefined, sourcePort: undefined };
  const route = yield* routeFor(space.id, back);
  const away = isRefused(route) ? 'nowhere' : route.device;
  if (away === device) return undefined;
  return died(
    space,
    state,
    `rp_filter of ${device} (${filter}) drops it: packets to its source ${packet.source} would go by ${away}`,
    `a route to ${packet.source} by ${device}, or sysctl -w net.ipv4.conf.${device}.rp_filter=0 and net.ipv4.conf.all.rp_filter=0`,
  );
}

function* explainInvalid(space: Space, state: State, device: string): Asking<Ending | undefined> {
  const { source, destination } = state.packet;
  if ((yield* ask('addressType', space.id, { address: source })) === 'LOCAL')
    return died(
      space,
      state,
      `its source ${source} is an address of this machine itself: the kernel takes it for forged`,
    );
  if (
    destination.startsWith('127.') &&
    (yield* number(space, `net/ipv4/conf/${device}/route_localnet`)) === 0
  )
    return died(
      space,
      state,
      `${destination} is a loopback address, and net.ipv4.conf.${device}.route_localnet is 0`,
      `sysctl -w net.ipv4.conf.${device}.route_localnet=1`,
    );
  return yield* filtered(space, state, device);
}

/** Why a packet that came in by `device` is not taken. */
export function* explainInput(
  space: Space,
  state: State,
  device: string,
  { refused }: RouteRefused,
): Asking<Ending> {
  const { destination, source, family } = state.packet;
  if (family.name === 'ipv4') {
    if (refused === 'EINVAL' || refused === 'EXDEV') {
      const known = yield* explainInvalid(space, state, device);
      if (known !== undefined) return known;
    }
    const forwards = yield* number(space, `net/ipv4/conf/${device}/forwarding`);
    if (refused === 'EHOSTUNREACH' && forwards === 0)
      return died(
        space,
        state,
        `net.ipv4.conf.${device}.forwarding is 0: nothing that comes in by ${device} is sent on`,
        'sysctl -w net.ipv4.ip_forward=1',
      );
  }
  const flag = family.name === 'ipv4' ? '' : ' -6';
  return died(
    space,
    state,
    `no way to ${destination}: ${meanings[refused] ?? refused} (${refused})`,
    `ip${flag} route get ${destination} from ${source} iif ${device}`,
  );
}
