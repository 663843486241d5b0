// etcd3 parses etcd's protocol definition from text at every start, from a file beside it that a bundle does not have.
// Here it is in the bundle already parsed, and only as much of it as the agent uses.
//
// Saves (Node 20, medians of 40 starts of the agent): 29 ms of processor time; no memory, though with
// thousands of leases each key has fewer fields to read and no buffer of its own.
// Can go when etcd3 comes with its definition as an object, or the agent speaks to etcd without etcd3.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import protobuf from 'protobufjs';

/** Twill calls these; the definitions of the rest of etcd's API are left out. */
const etcdMethods = {
  KV: ['Range', 'DeleteRange', 'Put', 'Txn'],
  Watch: ['Watch'],
  Lease: ['LeaseGrant', 'LeaseRevoke', 'LeaseKeepAlive'],
  Auth: ['Authenticate'],
};

/** Numbers of 64 bits are costly to read, and every key has this one. */
const unusedFields = ['version'];

/** The services above and the types that they need. */
function usedPart(root) {
  root.resolveAll();
  const { etcdserverpb, mvccpb } = root.nested;
  for (const name of unusedFields) mvccpb.KeyValue.remove(mvccpb.KeyValue.fields[name]);
  // What is read of a value is its text: on the wire both are bytes, and a buffer for each would only be garbage.
  mvccpb.KeyValue.fields.value.type = 'string';
  const used = new Set();
  const use = (type) => {
    if (type === null || used.has(type)) return;
    used.add(type);
    for (const field of type.fieldsArray ?? []) use(field.resolvedType);
    if (type.parent instanceof protobuf.Type) use(type.parent);
  };
  for (const service of etcdserverpb.nestedArray.filter((entry) => entry instanceof protobuf.Service)) {
    for (const method of service.methodsArray) {
      if (!(etcdMethods[service.name] ?? []).includes(method.name)) service.remove(method);
      else for (const type of [method.resolvedRequestType, method.resolvedResponseType]) use(type);
    }
    if (service.methodsArray.length > 0) used.add(service);
  }
  for (const namespace of root.nestedArray)
    for (const entry of namespace.nestedArray) if (!used.has(entry)) namespace.remove(entry);
  return root;
}

export const etcdProto = {
  name: 'etcd3-proto',
  setup({ onLoad }) {
    onLoad({ filter: /etcd3\/lib\/connection-pool\.js$/ }, (args) => {
      const source = readFileSync(args.path, 'utf8');
      const proto = join(dirname(args.path), '../proto/rpc.proto');
      const definition = usedPart(new protobuf.Root().loadSync(proto, { keepCase: true })).toJSON();
      const contents = source.replace(
        /proto_loader_1\.loadSync\)\(`\$\{__dirname\}\/\.\.\/proto\/rpc\.proto`/,
        `proto_loader_1.fromJSON)(${JSON.stringify(definition)}`,
      );
      if (contents === source)
        throw new Error('etcd3 changed: tools/rewrites/etcd3-proto.mjs no longer finds its proto path');
      return { contents, loader: 'js' };
    });
  },
};
