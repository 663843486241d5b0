import { RTM_DELLINK, RTM_NEWLINK } from './constants.ts';

/** struct sock_filter: code, where to go on when a comparison holds and when not, constant. */
function instruction(code: number, holds: number, fails: number, constant: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt8(holds, 2);
  bytes.writeUInt8(fails, 3);
  bytes.writeUInt32LE(constant, 4);
  return bytes;
}

const LOAD_WORD = 0x20;
const LOAD_HALF = 0x28;
const LOAD_BYTE = 0x30;
const JUMP_EQUAL = 0x15;
const RETURN = 0x06;
const EVERYTHING = 0xffffffff;

/**
 * Classic BPF (include/uapi/linux/filter.h) for a socket that wants to hear of deleted devices and of nothing else: a
 * pod's ADD alone makes some twenty notifications of links. A bridge also announces (AF_BRIDGE) that a device is no port
 * of it any more.
 */
export const deletedLinksOnly: Buffer = Buffer.concat([
  instruction(LOAD_HALF, 0, 0, 4), // nlmsg_type, read as big-endian
  instruction(JUMP_EQUAL, 0, 3, RTM_DELLINK << 8),
  instruction(LOAD_BYTE, 0, 0, 16), // ifi_family
  instruction(JUMP_EQUAL, 0, 1, 0),
  instruction(RETURN, 0, 0, EVERYTHING),
  instruction(RETURN, 0, 0, 0),
]);

/**
 * For a socket that wants to hear of everything but the links of pods: those whose name is `veth` and eleven more
 * characters. IFLA_IFNAME is the first attribute of a link (rtnl_fill_ifinfo, br_fill_ifinfo).
 */
export const notOfPods: Buffer = Buffer.concat([
  instruction(LOAD_HALF, 0, 0, 4),
  instruction(JUMP_EQUAL, 1, 0, RTM_NEWLINK << 8),
  instruction(JUMP_EQUAL, 0, 5, RTM_DELLINK << 8),
  instruction(LOAD_HALF, 0, 0, 32), // length of the attribute, read as big-endian
  instruction(JUMP_EQUAL, 0, 3, (4 + 'veth0123456789a'.length + 1) << 8),
  instruction(LOAD_WORD, 0, 0, 36),
  instruction(JUMP_EQUAL, 0, 1, Buffer.from('veth').readUInt32BE(0)),
  instruction(RETURN, 0, 0, 0),
  instruction(RETURN, 0, 0, EVERYTHING),
]);

/**
 * For a socket that wants to hear what others change in nf_tables' tables of one family. The messages of one transaction
 * come together, and each says whose it was (nlmsg_pid).
 * @param af the family @param port of the socket whose own changes are left out
 */
export function rulesOfOthers(af: number, port: number): Buffer {
  const swapped = Buffer.alloc(4);
  swapped.writeInt32LE(port | 0);
  return Buffer.concat([
    instruction(LOAD_BYTE, 0, 0, 16), // nfgen_family
    instruction(JUMP_EQUAL, 0, 3, af),
    instruction(LOAD_WORD, 0, 0, 12), // nlmsg_pid, read as big-endian
    instruction(JUMP_EQUAL, 1, 0, swapped.readUInt32BE(0)),
    instruction(RETURN, 0, 0, EVERYTHING),
    instruction(RETURN, 0, 0, 0),
  ]);
}

const ELEMENTS = [12, 14].map((message) => (message << 8) | 10); // NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM, as read

/**
 * For a socket that wants to hear of all changes of nf_tables but those of sets' elements: a proxy makes a thousand of these
 * in a second. Messages of one transaction come together, of several families, and the filter sees the first of them.
 */
export const rulesWithoutElements: Buffer = Buffer.concat([
  instruction(LOAD_HALF, 0, 0, 4), // nlmsg_type, read as big-endian
  instruction(JUMP_EQUAL, 2, 0, ELEMENTS[0]!),
  instruction(JUMP_EQUAL, 1, 0, ELEMENTS[1]!),
  instruction(RETURN, 0, 0, EVERYTHING),
  instruction(RETURN, 0, 0, 0),
]);
