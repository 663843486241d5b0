import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../lab/files.ts';
import { type Manifest, readManifests } from '../lab/manifests.ts';

/** A field of a model of the official client, whose types are made from the API's OpenAPI document. */
interface Attribute {
  /** As it is in JSON. */
  readonly baseName: string;
  readonly type: string;
}

interface Model {
  getAttributeTypeMap(): readonly Attribute[];
}

const models = (await import(
  join(root, 'node_modules/@kubernetes/client-node/dist/gen/models/all.js')
)) as Record<string, Model>;

const modelOf = (type: string): Model | undefined => models[type];

const simple: Readonly<Record<string, string>> = { string: 'string', number: 'number', boolean: 'boolean' };

/** What of a value is not as the type has it, with the way there. */
function wrong(value: unknown, type: string, where: string): string[] {
  const list = /^Array<(.*)>$/.exec(type)?.[1];
  if (list !== undefined) {
    if (!Array.isArray(value)) return [`${where} is no list`];
    return value.flatMap((one, index) => wrong(one, list, `${where}[${index}]`));
  }
  const values = /^\{ \[key: string\]: (.*); \}$/.exec(type)?.[1];
  if (values !== undefined)
    return Object.entries(value as object).flatMap(([name, one]) => wrong(one, values, `${where}.${name}`));
  if (simple[type] !== undefined) return typeof value === simple[type] ? [] : [`${where} is no ${type}`];
  const model = modelOf(type);
  if (model === undefined) return []; // IntOrString and the like
  const attributes = model.getAttributeTypeMap();
  return Object.entries(value as object).flatMap(([name, one]) => {
    const attribute = attributes.find(({ baseName }) => baseName === name);
    return attribute === undefined
      ? [`${where} has no field ${name}`]
      : wrong(one, attribute.type, `${where}.${name}`);
  });
}

/** V1DaemonSet of apps/v1. */
const typeOf = ({ apiVersion, kind }: Manifest): string => {
  const version = apiVersion.split('/').at(-1)!;
  return `${version[0]!.toUpperCase()}${version.slice(1)}${kind}`;
};

for (const file of ['daemonset.yaml', 'daemonset-cleanup.yaml'])
  test(`every field of ${file} is one of the Kubernetes API, and of its type`, () => {
    for (const manifest of readManifests(file)) {
      const type = typeOf(manifest);
      assert.ok(modelOf(type), `there is no ${type}`);
      assert.deepEqual(wrong(manifest, type, manifest.kind), []);
    }
  });

test('a wrong field, or one of another type, is found', () => {
  const [daemonSet] = readManifests('daemonset-cleanup.yaml') as [Manifest];
  const spoilt = JSON.parse(
    JSON.stringify(daemonSet).replace('"hostNetwork":true', '"hostnetwork":true,"hostPID":"yes"'),
  );
  assert.deepEqual(wrong(spoilt, 'V1DaemonSet', 'DaemonSet'), [
    'DaemonSet.spec.template.spec has no field hostnetwork',
    'DaemonSet.spec.template.spec.hostPID is no boolean',
  ]);
});
