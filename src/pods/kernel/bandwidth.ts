import { createDevice, findLink, type Link, listLinks, setLink } from '../../kernel/netlink/links.ts';
import {
  createIngress,
  deleteIngress,
  listQdiscs,
  type Qdisc,
  redirectReceived,
  setTokenBucket,
  type TokenBucket,
} from '../../kernel/netlink/qdiscs.ts';
import type { Change, RtSocket } from '../../kernel/netlink/socket.ts';
import { isTwillError, TwillError } from '../../model/error.ts';
import { aliasOf } from '../plan/alias.ts';
import { ifbName, planBucket } from '../plan/bandwidth.ts';
import type { PodRecord } from '../plan/pod.ts';

/** Sends changes; what is there already is fine. */
async function applyMissing(socket: RtSocket, changes: readonly Change[]): Promise<void> {
  const errors = await socket.batch(changes);
  const failed = errors.find((error) => error !== undefined && !isTwillError(error, 'exists'));
  if (failed !== undefined) throw failed;
}

/** What a pod sends goes, as its host-side veth receives it, through the queue of an ifb device. */
async function shapeSent(
  socket: RtSocket,
  record: PodRecord,
  port: Link,
  bucket: TokenBucket,
): Promise<void> {
  const name = record.ifb ?? ifbName(record.hostVeth);
  const alias = aliasOf(record);
  // A redirection outlives the device it led to, and drops everything then: it is always made anew.
  await socket.batch([deleteIngress(port.index)]);
  await applyMissing(socket, [
    createDevice('ifb', { name, mtu: record.mtu, up: true }),
    createIngress(port.index),
  ]);
  const ifb = await findLink(socket, name);
  if (ifb === undefined) throw new TwillError('not-found', `${name} is gone`);
  await applyMissing(socket, [
    setLink(ifb.index, { alias }, name),
    setTokenBucket(ifb.index, bucket),
    redirectReceived(port.index, ifb.index),
  ]);
}

/** Makes a pod's traffic shaping as its record wants it; doing so twice is fine. */
export async function shapePod(socket: RtSocket, record: PodRecord): Promise<void> {
  const { ingressRate, ingressBurst, egressRate, egressBurst } = record.bandwidth ?? {};
  const received = planBucket(ingressRate, ingressBurst);
  const sent = planBucket(egressRate, egressBurst);
  if (received === undefined && sent === undefined) return;
  const port = await findLink(socket, record.hostVeth);
  if (port === undefined) throw new TwillError('not-found', `${record.hostVeth} is gone`);
  if (received !== undefined) await applyMissing(socket, [setTokenBucket(port.index, received)]);
  if (sent !== undefined) await shapeSent(socket, record, port, sent);
}

function hasRate(qdiscs: readonly Qdisc[], link: Link | undefined, rate: number | undefined): boolean {
  if (rate === undefined) return true;
  return qdiscs.some((qdisc) => qdisc.root && qdisc.index === link?.index && qdisc.rate === rate);
}

/** The records whose traffic shaping is not as it should be. Pods without a host-side veth are left out. */
export async function unshaped(socket: RtSocket, records: readonly PodRecord[]): Promise<PodRecord[]> {
  const limited = records.filter(({ bandwidth }) => bandwidth !== undefined);
  if (limited.length === 0) return [];
  const links = new Map((await listLinks(socket)).map((link) => [link.name, link]));
  const qdiscs = await listQdiscs(socket);
  return limited.filter((record) => {
    const port = links.get(record.hostVeth);
    if (port === undefined) return false;
    const { ingressRate, egressRate } = record.bandwidth ?? {};
    const ifb = links.get(record.ifb ?? ifbName(record.hostVeth));
    const redirects = qdiscs.some(({ index, kind }) => index === port.index && kind === 'ingress');
    return !(
      hasRate(qdiscs, port, planBucket(ingressRate, undefined)?.rate) &&
      hasRate(qdiscs, ifb, planBucket(egressRate, undefined)?.rate) &&
      (egressRate === undefined || redirects)
    );
  });
}
