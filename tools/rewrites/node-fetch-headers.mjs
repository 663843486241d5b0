// The Kubernetes client's configuration part takes `Headers` from node-fetch, for a function that is never called. With
// that comes whatwg-url, which asks for Node's `punycode`: newer versions of Node write a deprecation warning into the log
// of everything that has a kubeconfig. Node has `Headers` itself.
//
// Saves (Node 20, medians of 25 starts of the proxy with a kubeconfig): 5.8 MiB, and 0.3 MB of bundle.
// Can go when the client takes Node's own `fetch`.

export const nodeFetchHeaders = {
  name: 'node-fetch-headers',
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^node-fetch$/ }, ({ importer }) => {
      if (!/client-node\/dist\/config\.js$/.test(importer)) return undefined;
      return { path: 'node-fetch', namespace: 'node-fetch-headers' };
    });
    onLoad({ filter: /.*/, namespace: 'node-fetch-headers' }, () => ({
      // Node sets its own up when it is first asked for, which takes time: not before it is needed.
      contents: 'export class Headers { constructor(init) { return new globalThis.Headers(init); } }\n',
    }));
  },
};
