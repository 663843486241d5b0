import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { macFromBytes, parseMac } from '../model/address.ts';
import { readFileIfPresent, writeFileAtomically } from '../process/files.ts';

/**
 * The MAC addresses of our VXLAN devices, kept in the state directory so that a device that is made anew has the MAC
 * that the other nodes know.
 */
export class VtepMacs {
  private readonly path: string;
  private readonly macs: Map<string, string>;

  constructor(stateDir: string) {
    this.path = join(stateDir, 'vtep-macs.json');
    this.macs = new Map();
    try {
      const entries = Object.entries(JSON.parse(readFileIfPresent(this.path) ?? '{}') as object);
      for (const [device, mac] of entries) this.macs.set(device, parseMac(String(mac)));
    } catch {
      this.macs.clear(); // damaged: the device that stands, or a new MAC, takes its place
    }
  }

  get(device: string): string | undefined {
    return this.macs.get(device);
  }

  /** The devices whose MAC is known. */
  names(): string[] {
    return [...this.macs.keys()];
  }

  /** @throws TwillError `permission` */
  set(device: string, mac: string): void {
    this.macs.set(device, mac);
    this.save();
  }

  /** @throws TwillError `permission` */
  delete(device: string): void {
    if (this.macs.delete(device)) this.save();
  }

  private save(): void {
    writeFileAtomically(this.path, `${JSON.stringify(Object.fromEntries(this.macs))}\n`);
  }
}

/** A random unicast, locally administered MAC address. */
export function randomMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = (bytes[0]! & 0xfc) | 0x02;
  return macFromBytes(bytes);
}
