/** How many processors a list as the kernel writes it has: `0-3,6` are five; 0 when it is none. */
export function countCores(list: string): number {
  let count = 0;
  for (const part of list.trim().split(',')) {
    const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(part) ?? [];
    if (first === undefined) return 0;
    count += Number(last ?? first) - Number(first) + 1;
  }
  return count;
}
