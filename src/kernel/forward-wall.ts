import { describeError, isTwillError } from '../model/error.ts';
import { refusesAll } from '../model/rule-words.ts';
import type { Iptables } from './iptables.ts';

/**
 * Why packets that are passed on need a rule of iptables that accepts them: chain FORWARD refuses what nobody has accepted
 * in it, and no other table can do that. Docker and ufw set it up so.
 * @returns undefined where it does not; where it cannot be printed, that: what cannot be read may refuse all
 */
export async function forwardWall(iptables: Iptables): Promise<string | undefined> {
  let lines: string[] | undefined;
  try {
    lines = await iptables.list('filter', 'FORWARD');
  } catch (error) {
    if (!isTwillError(error, 'conflict')) throw error;
    return describeError(error);
  }
  const wall = lines?.find((line) => /^-P \S+ DROP$/.test(line) || refusesAll(line));
  if (wall === undefined) return undefined;
  const program = `${iptables.family.iptables}-${iptables.variant}`;
  return `chain FORWARD of ${program} refuses what is not accepted in it ('${wall}')`;
}
