/**
 * A large change as several transactions. The kernel holds one lock for the whole of a transaction and checks every rule
 * it can reach, and iptables-nft looks chains up in lists that grow with the transaction: sixty thousand rules in one go
 * take longer than in ten, and hold up others meanwhile.
 */
import { eachTarget, inWalkingOrder, type JumpChanges, ruleCount, type TableChange } from './document.ts';
import { jumps } from './names.ts';

/** Chains of table nat that packets come to first: written last, when all they lead to stands. */
const entrances = new Set([
  ...jumps.filter(({ table }) => table === 'nat').map(({ rule }) => rule.slice(rule.lastIndexOf(' ') + 1)),
  'KUBE-NODEPORTS',
]);

type Chain = TableChange['write'][number];

const noJumps: JumpChanges = { missing: [], surplus: [] };

/** Chains of table nat in groups of some `limit` rules: each leads to chains of its own or an earlier group, or that stand. */
function groups(chains: readonly Chain[], limit: number): TableChange[] {
  const waiting = new Map(chains);
  const result: TableChange[] = [];
  let write: Chain[] = [];
  let rules = 0;
  const close = (): void => {
    result.push({ table: 'nat', write, rules, remove: [], jumps: noJumps });
    write = [];
    rules = 0;
  };
  const take = (name: string): void => {
    const text = waiting.get(name);
    if (text === undefined) return;
    waiting.delete(name);
    write.push([name, text]);
    rules += ruleCount(text);
    eachTarget(text, take);
  };
  for (const one of chains) {
    take(one[0]);
    if (rules >= limit) close();
  }
  if (write.length > 0) close();
  return result;
}

/**
 * Divides a change whose table nat has many more rules than `limit`: groups of chains first, and last, in one
 * transaction with everything else, the entrances that lead to them, jumps, and removals.
 */
export function inPortions(changes: readonly TableChange[], limit: number): (readonly TableChange[])[] {
  const nat = changes.find(({ table }) => table === 'nat');
  if (nat === undefined || nat.rules <= 2 * limit) return [changes];
  const inner = inWalkingOrder(nat.write).filter((one) => !entrances.has(one[0]));
  const first = groups(inner, limit);
  const rules = first.reduce((left, group) => left - group.rules, nat.rules);
  const last = { ...nat, write: nat.write.filter(([name]) => entrances.has(name)), rules };
  return [...first.map((group) => [group]), changes.map((change) => (change === nat ? last : change))];
}
