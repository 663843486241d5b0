import type { Netns } from '../netns.ts';
import { attributeU32, parseAttributes } from './codec.ts';
import { RTM_GETNSID } from './constants.ts';
import type { RtSocket } from './socket.ts';

const NETNSA_NSID = 1;
const NETNSA_FD = 3;
const UNASSIGNED = 0xffffffff;

/**
 * The number that the socket's namespace has for another one, as links show it (`Link.peerNetns`); undefined when it has
 * none, which is so for namespaces that no device of ours has its other end in.
 */
export async function netnsNumber(socket: RtSocket, netns: Netns): Promise<number | undefined> {
  const answer = await socket.ask({
    what: `ask for the number of '${netns.path}'`,
    // struct rtgenmsg, padded
    write: (to) => to.message(RTM_GETNSID).struct([0, 0, 0, 0]).u32(NETNSA_FD, netns.fd),
  });
  const number = attributeU32(parseAttributes(answer.payload, 4).get(NETNSA_NSID));
  return number === UNASSIGNED ? undefined : number;
}
