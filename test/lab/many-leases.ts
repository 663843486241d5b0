import { etcdPrefix, type Lab } from './lab.ts';

/** The part of the keys that all leases share. */
export const leasesPrefix = `${etcdPrefix}/subnets/`;

/** A network with room for the leases, and apart from them for the node's own. */
export const leasesNetwork = {
  Network: '10.0.0.0/8',
  SubnetMin: '10.200.0.0',
  SubnetMax: '10.210.0.0',
  Backend: { Type: 'vxlan' },
};

export const leaseKey = (index: number): string =>
  `${leasesPrefix}10.${1 + (index >> 8)}.${index & 255}.0-24`;
export const macOf = (index: number): string =>
  `02:00:00:00:${[index >> 8, index & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
export const leaseValue = (index: number): string =>
  `{"PublicIP":"172.${16 + (index >> 8)}.${index & 255}.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${macOf(index)}"}}`;

/** Writes the leases of that many nodes into the lab's etcd. */
export async function putLeases(lab: Lab, count: number): Promise<void> {
  const { kv } = lab.etcd.client;
  // etcd allows 128 operations in a transaction.
  for (let start = 0; start < count; start += 100) {
    const success = [];
    for (let index = start; index < Math.min(count, start + 100); index++)
      success.push({
        request_put: { key: Buffer.from(leaseKey(index)), value: Buffer.from(leaseValue(index)) },
      });
    await kv.txn({ success });
  }
}
