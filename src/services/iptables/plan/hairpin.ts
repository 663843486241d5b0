/**
 * KUBE-HAIRPIN: who was sent to itself. It would answer itself without what was sent to it, so it is masqueraded; and
 * table filter accepts it whatever the policy of FORWARD, as kube-proxy does by its mark. It is recognised after DNAT: source
 * and destination are one. One rule says that where the kernel has the match `bpf`; elsewhere each endpoint that may meet
 * itself on this node needs one.
 */

/** Instruction codes of classic BPF, as `<linux/bpf_common.h>` and `<linux/filter.h>` have them. */
const LOAD_WORD = 32;
const TO_INDEX = 7;
const JUMP_IF_EQUAL = 29;
const RETURN = 6;

/** A program that compares two fields of the network header, as `iptables -m bpf --bytecode` takes it. */
function equalFields(first: number, second: number, words: number): string {
  const end = 4 * words + 1;
  const compare = Array.from({ length: words }, (_, word) => [
    [LOAD_WORD, 0, 0, first + 4 * word],
    [TO_INDEX, 0, 0, 0],
    [LOAD_WORD, 0, 0, second + 4 * word],
    [JUMP_IF_EQUAL, 0, end - (4 * word + 4), 0],
  ]).flat();
  const program = [...compare, [RETURN, 0, 0, 0xffff], [RETURN, 0, 0, 0]];
  return [program.length, ...program.map((instruction) => instruction.join(' '))].join();
}

/** Source and destination address of the IPv4 and the IPv6 header. */
const programs = { ipv4: equalFields(12, 16, 1), ipv6: equalFields(8, 24, 4) };

/** Matches packets whose source is their destination. */
export function toItself(v6: boolean): string {
  return `-m bpf --bytecode "${v6 ? programs.ipv6 : programs.ipv4}"`;
}

/** What becomes of them, by table. */
export const hairpinActions = { nat: '-j MASQUERADE --random-fully', filter: '-j ACCEPT' } as const;
