// Imports nothing: the CNI executable starts with this file, too.

/** The two letters outside ASCII that Unicode folds to letters within: the long s and the Kelvin sign. */
const foreign: Readonly<Record<string, string>> = { '\u017f': 's', '\u212a': 'k' };

/** A field's name as Go's encoding/json compares names (`foldName`, for names that are ASCII). */
export function foldName(name: string): string {
  return name.replace(/[A-Z\u017f\u212a]/g, (letter) => foreign[letter] ?? letter.toLowerCase());
}

/**
 * A field of a JSON object that a Go program wrote, or another of which Go programs read: encoding/json takes a field
 * whatever the case of its name, and structs without names in their tags are written under those of Go's own fields.
 * The exact name wins; of others the last one does. Null is no value, as in Go: it only shows where nothing else is.
 */
export function goField(object: Readonly<Record<string, unknown>>, name: string): unknown {
  const exact = Object.hasOwn(object, name) ? object[name] : undefined;
  if (exact !== undefined && exact !== null) return exact;
  let found: unknown = exact;
  let folded: string | undefined;
  for (const key of Object.keys(object)) {
    // Every fold keeps the number of UTF-16 units, so most names need not be folded.
    if (key.length !== name.length || key === name) continue;
    folded ??= foldName(name);
    if (foldName(key) === folded) found = object[key] ?? found ?? null;
  }
  return found;
}

/** The object with the fields of these names under exactly these; it itself where nothing is to be done. */
export function goFields(
  object: Readonly<Record<string, unknown>>,
  names: readonly string[],
): Readonly<Record<string, unknown>> {
  const known = new Set(names);
  const folded = new Map(names.map((name) => [foldName(name), name]));
  const others = Object.keys(object).filter((key) => !known.has(key) && folded.has(foldName(key)));
  if (others.length === 0) return object;
  const rest = Object.entries(object).filter(([key]) => !others.includes(key));
  const renamed = new Set(others.map((key) => folded.get(foldName(key)) ?? key));
  return Object.fromEntries([...rest, ...[...renamed].map((name) => [name, goField(object, name)] as const)]);
}
