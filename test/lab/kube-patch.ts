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
    if (typeof item[key] !== 'string') throw new Error(`map does not contain declared merge key: ${key}`);
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

const refusal = (code: number, reason: string, message: string): PatchResult => ({ code, reason, message });
const invalid = (message: string): PatchResult => refusal(422, 'Invalid', message);

/** Of names the part before the slash may have capitals where an annotation has them. */
const name = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const labelValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
/** What all annotations of an object come to, in bytes. */
const annotationsLimit = 256 * 1024;
const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

function problemOfLabels({ labels = {} }: Json): string | undefined {
  for (const [field, value] of Object.entries(labels as Json)) {
    if (typeof value !== 'string') return `cannot unmarshal labels.${field} into a string`;
    if (!name.test(field) || !labelValue.test(value))
      return `metadata.labels: Invalid value: "${field}=${value}"`;
  }
  return undefined;
}

function problemOfAnnotations({ annotations = {} }: Json): string | undefined {
  let bytes = 0;
  for (const [field, value] of Object.entries(annotations as Json)) {
    if (typeof value !== 'string') return `cannot unmarshal annotations.${field} into a string`;
    const [prefix, rest] = field.includes('/') ? field.split(/\/(.*)/s) : [undefined, field];
    if (!name.test(prefix === undefined ? field : `${prefix.toLowerCase()}/${rest}`))
      return `metadata.annotations: Invalid value: "${field}"`;
    bytes += Buffer.byteLength(field) + Buffer.byteLength(value);
  }
  if (bytes > annotationsLimit)
    return `metadata.annotations: Too long: may not be more than ${annotationsLimit} bytes`;
  return undefined;
}

function problemOfConditions(status: unknown): string | undefined {
  const { conditions = [] } = (status ?? {}) as Json;
  if (!Array.isArray(conditions)) return 'cannot restore slice from map';
  for (const condition of conditions as Json[])
    for (const [field, value] of Object.entries(condition)) {
      if (typeof value !== 'string') return `cannot convert ${field} into a string`;
      if (field.endsWith('Time') && !time.test(value)) return `parsing time "${value}"`;
    }
  return undefined;
}

/** What cannot be said of an object that is there. */
function checkIdentity(before: Json, after: Json): PatchResult | undefined {
  if (after.name !== before.name)
    return refusal(
      400,
      'BadRequest',
      `the name of the object (${after.name}) does not match the name on the URL`,
    );
  if (after.resourceVersion !== before.resourceVersion)
    return refusal(
      409,
      'Conflict',
      'the object has been modified; please apply your changes to the latest version',
    );
  if (after.uid !== before.uid) return invalid('metadata.uid: field is immutable');
  return undefined;
}

function check(old: Json, merged: Json): PatchResult | undefined {
  if (!isObject(merged.metadata)) return invalid('metadata is no object');
  if (merged.kind !== old.kind) return invalid(`${merged.kind} is not ${old.kind}`);
  const [before, after] = [old.metadata as Json, merged.metadata];
  const foreign = checkIdentity(before, after);
  if (foreign !== undefined) return foreign;
  const problem = problemOfLabels(after) ?? problemOfAnnotations(after) ?? problemOfConditions(merged.status);
  if (problem !== undefined) return invalid(problem);
  const cidrs = (object: Json): string => JSON.stringify((object.spec as Json | undefined)?.podCIDRs ?? []);
  if (cidrs(old) !== '[]' && cidrs(old) !== cidrs(merged))
    return invalid('spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid');
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
    return refusal(415, 'UnsupportedMediaType', `the body of the request was in an unknown format: ${type}`);
  let patch: unknown;
  try {
    patch = JSON.parse(text);
  } catch {
    patch = undefined;
  }
  if (!isObject(patch)) return refusal(400, 'BadRequest', 'the patch is no JSON object');
  let all: Json;
  try {
    all = merge(old, patch, strategic) as Json;
  } catch (error) {
    return refusal(500, 'InternalError', (error as Error).message);
  }
  const object = status ? { ...all, spec: old.spec } : { ...all, status: old.status };
  return check(old, object) ?? { object };
}
