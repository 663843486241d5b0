/** Rules that are quoted; the command beside shows the others. */
const MOST_QUOTED = 2;

const quoted = (lines: readonly string[]): string => {
  const more = lines.length - MOST_QUOTED;
  const shown = lines.slice(0, MOST_QUOTED).map((line) => `'${line}'`);
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
};

/** What the one list has more often than the other, in its order. */
function surplus(of: readonly string[], over: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const line of over) left.set(line, (left.get(line) ?? 0) + 1);
  return of.filter((line) => {
    const count = left.get(line) ?? 0;
    left.set(line, count - 1);
    return count <= 0;
  });
}

/** How rules differ from those that should stand, in words; undefined where they do not. */
export function compareLines(wanted: readonly string[], actual: readonly string[]): string | undefined {
  if (wanted.length === actual.length && wanted.every((line, index) => line === actual[index]))
    return undefined;
  const missing = surplus(wanted, actual);
  const foreign = surplus(actual, wanted);
  if (missing.length + foreign.length === 0) return 'its rules stand in another order';
  return [
    ...(missing.length > 0 ? [`missing ${quoted(missing)}`] : []),
    ...(foreign.length > 0 ? [`foreign ${quoted(foreign)}`] : []),
  ].join('; ');
}
