import { type Address, ipv4 } from '../../model/address.ts';
import type { MessageWriter } from './codec.ts';
import * as nl from './constants.ts';
import { createLink, ifinfo, type NewLink, type VxlanParameters } from './links.ts';
import type { Change } from './socket.ts';

function writeLocal(to: MessageWriter, local: Address | undefined): void {
  if (local !== undefined)
    to.address(local.family === ipv4 ? nl.IFLA_VXLAN_LOCAL : nl.IFLA_VXLAN_LOCAL6, local);
}

export function createVxlan(settings: NewLink, vxlan: VxlanParameters): Change {
  const { vni, port, learning, underlayIndex, local, gbp } = vxlan;
  const write = (to: MessageWriter): void => {
    createLink(to, settings).begin(nl.IFLA_LINKINFO).string(nl.IFLA_INFO_KIND, 'vxlan');
    to.begin(nl.IFLA_INFO_DATA).u32(nl.IFLA_VXLAN_ID, vni).u16be(nl.IFLA_VXLAN_PORT, port);
    to.u8(nl.IFLA_VXLAN_LEARNING, learning ? 1 : 0).u32(nl.IFLA_VXLAN_LINK, underlayIndex);
    writeLocal(to, local);
    if (gbp) to.bytes(nl.IFLA_VXLAN_GBP, []);
    to.end().end();
  };
  return { what: `create VXLAN device ${settings.name}`, write };
}

/**
 * Changes parameters of a standing VXLAN device: those that are given, and none besides `local`, `underlayIndex` and
 * `learning`, which are all that the kernel changes so (vxlan_changelink, Linux 4.12 and later). Its entries stay.
 */
export function changeVxlan(
  index: number,
  { local, underlayIndex, learning }: Partial<Pick<VxlanParameters, 'local' | 'underlayIndex' | 'learning'>>,
  label: string,
): Change {
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_NEWLINK).struct(ifinfo(index));
    to.begin(nl.IFLA_LINKINFO).string(nl.IFLA_INFO_KIND, 'vxlan').begin(nl.IFLA_INFO_DATA);
    if (learning !== undefined) to.u8(nl.IFLA_VXLAN_LEARNING, learning ? 1 : 0);
    if (underlayIndex !== undefined) to.u32(nl.IFLA_VXLAN_LINK, underlayIndex);
    writeLocal(to, local);
    to.end().end();
  };
  return { what: `change VXLAN device ${label}`, write };
}
