import { listLinks } from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { describeError } from '../model/error.ts';
import { monotonicMs } from '../process/clock.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import { shapePod, unshaped } from './kernel/bandwidth.ts';
import { namespaceExists } from './kernel/namespace.ts';
import type { PodRecord } from './plan/pod.ts';
import type { PodManager } from './pods.ts';
import { podKeyText } from './store.ts';

/**
 * Watches over the pods between their ADD and DEL: frees what a pod held for which DEL never comes, and repairs the
 * bridge, host ports and traffic shaping.
 */
export class PodWarden {
  private readonly manager: PodManager;
  private readonly socket: RtSocket;
  private readonly log: Log;
  private readonly graceMs: number;
  private readonly limiter = new LogLimiter();
  /** When an attachment first looked dead. */
  private readonly suspects = new Map<string, number>();

  /** @param graceMs how long both signs of a pod's end must last before its address is freed without a DEL */
  constructor(manager: PodManager, socket: RtSocket, log: Log, graceMs: number) {
    this.manager = manager;
    this.socket = socket;
    this.log = log;
    this.graceMs = graceMs;
  }

  async run(): Promise<void> {
    const steps = [
      () => this.manager.adoption.look(),
      () => this.freeDead(),
      () => this.manager.bridges.repair(),
      () => this.manager.hostPorts.sync(),
      () => this.manager.remains.removeDeadRulesOnce(),
      () => this.manager.spoofGuard.sync(),
      () => this.reshape(),
    ];
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        const reason = describeError(error);
        if (this.limiter.allow(reason) !== undefined)
          this.log.warn({ error: reason }, 'looking after the pods failed, will retry');
      }
    }
  }

  /** Two signs are needed, both for a while: the namespace is gone, and so is the host-side veth. */
  private async freeDead(): Promise<void> {
    const now = monotonicMs();
    const gone = this.manager.store.list().filter(({ netns, netnsId }) => !namespaceExists(netns, netnsId));
    if (gone.length === 0) return this.suspects.clear();
    const devices = new Set((await listLinks(this.socket)).map(({ name }) => name));
    const dead = gone.filter(({ hostVeth }) => !devices.has(hostVeth));
    const keys = new Set(dead.map(podKeyText));
    for (const key of this.suspects.keys()) if (!keys.has(key)) this.suspects.delete(key);
    await Promise.all(dead.map((record) => this.judge(record, now)));
  }

  private async judge(record: PodRecord, now: number): Promise<void> {
    const key = podKeyText(record);
    const since = this.suspects.get(key) ?? now;
    this.suspects.set(key, since);
    if (now - since < this.graceMs) return;
    this.suspects.delete(key);
    const { containerId, ifname, addresses } = record;
    const held = addresses.map(({ address }) => address);
    this.log.warn(
      { containerId, ifname, addresses: held },
      'pod is gone without DEL: its addresses are free',
    );
    await this.manager.forget(record);
  }

  private async reshape(): Promise<void> {
    for (const record of await unshaped(this.socket, this.manager.store.list())) {
      this.log.info({ containerId: record.containerId }, 'traffic shaping repaired');
      await shapePod(this.socket, record);
      this.manager.repairs.pods++;
    }
  }
}
