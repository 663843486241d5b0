/** Patches of a Node's status, and the codes with which a kube-apiserver (1.36) answers them. */
export interface PatchCase {
  readonly body: string;
  readonly code: number;
  /** Default: a strategic merge patch. */
  readonly type?: string;
  /** Of the Node itself. */
  readonly main?: true;
}

const merge = 'application/merge-patch+json';
const condition = (fields: object): string =>
  JSON.stringify({ status: { conditions: [{ type: 'NetworkUnavailable', status: 'False', ...fields }] } });
const metadata = (fields: object): string => JSON.stringify({ metadata: fields });

export const patchCases: readonly PatchCase[] = [
  { body: '{', code: 400 },
  { body: '[]', code: 400 },
  { body: '"x"', code: 400 },
  { body: '{}', type: 'application/json', code: 415 },
  { body: '{}', type: 'application/yaml', code: 415 },
  { body: metadata({ annotations: { a: 1 } }), code: 422 },
  { body: metadata({ annotations: { a: 1 } }), type: merge, code: 422 },
  { body: metadata({ annotations: { a: {} } }), code: 422 },
  { body: metadata({ annotations: { 'a b': '1' } }), code: 422 },
  { body: metadata({ annotations: { 'A_/b': '1' } }), code: 422 },
  { body: metadata({ annotations: { 'A/b': '1' } }), code: 200 },
  { body: metadata({ annotations: { ['a'.repeat(64)]: '1' } }), code: 422 },
  { body: metadata({ annotations: { big: 'x'.repeat(256 * 1024) } }), code: 422 },
  { body: metadata({ annotations: { 'a.b/c': '1' } }), type: merge, code: 200 },
  { body: metadata({ annotations: null }), type: merge, code: 200 },
  { body: metadata({ labels: { a: 'b c' } }), type: merge, main: true, code: 422 },
  { body: metadata({ labels: { a: 1 } }), type: merge, main: true, code: 422 },
  { body: metadata({ name: 'other' }), code: 400 },
  { body: metadata({ uid: 'other' }), code: 422 },
  { body: metadata({ resourceVersion: '1' }), code: 409 },
  { body: '{"metadata":"x"}', type: merge, code: 422 },
  { body: '{"kind":"Pod"}', type: merge, code: 422 },
  { body: '{"spec":{"podCIDR":"10.244.9.0/24","podCIDRs":["10.244.9.0/24"]}}', type: merge, code: 200 },
  {
    body: '{"spec":{"podCIDR":"10.244.9.0/24","podCIDRs":["10.244.9.0/24"]}}',
    type: merge,
    main: true,
    code: 422,
  },
  { body: '{"status":{"capacity":{"cpu":"9"}}}', type: merge, main: true, code: 200 },
  { body: '{"status":{"conditions":[{"status":"True"}]}}', code: 500 },
  { body: '{"status":{"conditions":{}}}', type: merge, code: 422 },
  { body: condition({ lastTransitionTime: 'yesterday' }), code: 422 },
  { body: condition({ status: 1 }), code: 422 },
  { body: condition({ lastTransitionTime: '2026-01-01T00:00:00Z' }), code: 200 },
];

export const patchType = ({ type = 'application/strategic-merge-patch+json' }: PatchCase): string => type;
