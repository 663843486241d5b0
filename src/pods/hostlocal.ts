import { join } from 'node:path';
import { parseAddress } from '../model/address.ts';
import { namesIn, unlinkIfPresent } from '../process/files.ts';
import { readRegularFile } from '../process/regular-file.ts';
import type { PodRecord } from './plan/pod.ts';
import type { Reservation } from './plan/resident.ts';

function isAddress(text: string): boolean {
  try {
    return parseAddress(text).text === text;
  } catch {
    return false;
  }
}

/** Empty where it cannot be read: its name says that the address is taken, whoever has it. */
function textOf(path: string): string {
  try {
    return readRegularFile(path);
  } catch {
    return '';
  }
}

/**
 * What flannel's chain keeps in files: host-local a file for each address, named by it, with the container's id and its
 * interface in two lines; flannel's own plugin a file for each container.
 */
export class HostLocal {
  private readonly networks: string;
  private readonly flannel: string;

  /** @param dataDir normally /var/lib/cni */
  constructor(dataDir: string) {
    this.networks = join(dataDir, 'networks');
    this.flannel = join(dataDir, 'flannel');
  }

  /** True when host-local has given the address out. @throws TwillError `permission` */
  holds(address: string): boolean {
    return namesIn(this.networks).some((network) => namesIn(join(this.networks, network)).includes(address));
  }

  /** @throws TwillError `permission`: what cannot be read is not empty */
  reservations(): Reservation[] {
    return namesIn(this.networks).flatMap((network) =>
      namesIn(join(this.networks, network))
        .filter(isAddress)
        .map((address) => this.read(network, address)),
    );
  }

  reservationsOf({ containerId, ifname }: Pick<PodRecord, 'containerId' | 'ifname'>): Reservation[] {
    return this.reservations().filter(
      (entry) => entry.containerId === containerId && (entry.ifname ?? ifname) === ifname,
    );
  }

  private read(network: string, address: string): Reservation {
    const text = textOf(join(this.networks, network, address));
    const [containerId = '', ifname = ''] = text.split(/\r?\n/).map((line) => line.trim());
    return { network, address, containerId, ifname: ifname === '' ? undefined : ifname };
  }

  /**
   * Takes away what the chain kept of a pod: its addresses' files as far as they are its, and flannel's.
   * @returns the reservations that were there; undefined where there was nothing at all
   * @throws TwillError `permission` when they cannot be read; Error of the system when one cannot be removed
   */
  release({ containerId, ifname }: Pick<PodRecord, 'containerId' | 'ifname'>): Reservation[] | undefined {
    const own = this.reservationsOf({ containerId, ifname });
    const isName = /^[\w.-]+$/.test(containerId) && !/^\.+$/.test(containerId);
    const files = [
      ...own.map(({ network, address }) => join(this.networks, network, address)),
      ...(isName ? [join(this.flannel, containerId)] : []),
    ];
    return files.map(unlinkIfPresent).includes(true) ? own : undefined;
  }
}
