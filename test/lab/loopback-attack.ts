import type { Place } from './place.ts';
import { udpSend } from './udp.ts';

/** Makes a place send what it sends to 127.0.0.1 to its gateway, and gives it a loopback address to pretend with. */
export async function prepareLoopbackAttack(place: Place): Promise<void> {
  place.namespace.sysctl({ 'net/ipv4/conf/all/route_localnet': '1' });
  const gateway = (await place.exec('ip', ['route', 'show', 'default'])).split(' ')[2];
  await place.namespace.ip(
    'addr del 127.0.0.1/8 dev lo',
    `route add 127.0.0.1 via ${gateway}`,
    'addr add 127.0.0.2/32 dev eth0',
  );
}

/** Sends to a loopback port of the gateway, and under a loopback address to an ordinary one. */
export async function attackLoopback(
  place: Place,
  ports: { readonly loopback: number; readonly ordinary: number },
  node: string,
): Promise<void> {
  const { namespace } = place;
  const data = 'from elsewhere';
  await udpSend(namespace, { address: '127.0.0.1', port: ports.loopback, data });
  await udpSend(namespace, { address: '127.0.0.1', port: ports.loopback, data, from: '127.0.0.2' });
  await udpSend(namespace, { address: node, port: ports.ordinary, data, from: '127.0.0.2' });
}
