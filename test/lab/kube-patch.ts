/** What the small API server does with a PATCH of a Node: what a real kube-apiserver does, and its refusals. */

type Json = Record<string, unknown>;

/** A refusal, or what the patch comes to. */
export type PatchResult =
  | { readonly code: number; readonly reason: string; readonly message: string }
  | { readonly object: Json };

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Lists that a strategic merge patch merges by a key of their items (`patchMergeKey` in types.go); others are replaced. */
const mergeKeys: Readonly<Record<string, string>> = { conditions: 'type', addresses: 'type', taints: 'key' };

function mergeList(old: unknown, patch: readonly unknown[], key: string): unknown[] {
  const result: Json[] = Array.isArray(old) ? [...(old as Json[])] : [];
  for (const item of patch as Json[]) {
    const index = result.findIndex((other) => (other as Json)[key] === item[key]);
    if (item.$patch === 'delete') {
      if (index >= 0) result.splice(index, 1);
    } else if (index < 0) result.push(item);
    else result[index] = merge(result[index], item, true) as Json;
  }
  return result;
}

/** RFC 7386: null removes, objects are merged, everything else is replaced; with lists as Kubernetes merges them. */
function merge(old: unknown, patch: unknown, strategic: boolean, name = ''): unknown {
  const key = mergeKeys[name];
  if (strategic && key !== undefined && Array.isArray(patch)) return mergeList(old, patch, key);
  if (!isObject(patch)) return patch;
  const result: Json = isObject(old) ? { ...old } : {};
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete result[field];
    else result[field] = merge(result[field], value, strategic, field);
  }
  return result;
}

const invalid = (message: string): PatchResult => ({ code: 422, reason: 'Invalid', message });

function check(old: Json, merged: Json): PatchResult | undefined {
  const [before, after] = [old, merged].map(({ metadata }) => metadata as Json) as [Json, Json];
  if (after.name !== before.name) return invalid('metadata.name: field is immutable');
  for (const [field, value] of Object.entries((after.annotations ?? {}) as Json)) {
    if (typeof value !== 'string')
      return {
        code: 400,
        reason: 'BadRequest',
        message: `cannot unmarshal annotations.${field} into a string`,
      };
    if (!/^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(field))
      return invalid(`metadata.annotations: Invalid value: "${field}"`);
  }
  const cidrs = (object: Json): string => JSON.stringify((object.spec as Json | undefined)?.podCIDRs ?? []);
  if (cidrs(old) !== '[]' && cidrs(old) !== cidrs(merged))
    return {
      code: 403,
      reason: 'Forbidden',
      message: 'node updates may not change podCIDR except from "" to valid',
    };
  return undefined;
}

/**
 * Applies the patch.
 * @param type the request's content type
 * @param status whether it is one of the status: of anything but that and the metadata nothing comes then; without it of
 *   all but the status
 */
export function patchNode(old: Json, text: string, type: string | undefined, status: boolean): PatchResult {
  const strategic = type === 'application/strategic-merge-patch+json';
  if (!strategic && type !== 'application/merge-patch+json')
    return {
      code: 415,
      reason: 'UnsupportedMediaType',
      message: `the body of the request was in an unknown format: ${type}`,
    };
  let patch: unknown;
  try {
    patch = JSON.parse(text);
  } catch {
    patch = undefined;
  }
  if (!isObject(patch)) return { code: 400, reason: 'BadRequest', message: 'the patch is no JSON object' };
  const all = merge(old, patch, strategic) as Json;
  const object = status
    ? { ...old, metadata: all.metadata, status: all.status }
    : { ...all, status: old.status };
  return check(old, object) ?? { object };
}
