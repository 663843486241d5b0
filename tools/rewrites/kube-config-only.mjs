// Of the Kubernetes client only the configuration part is used; that imports the generated client of the whole API, for a
// function that is never called.
//
// Saves (Node 20, medians of 25 starts of the proxy with a kubeconfig): 79 ms of processor time, 10 MiB; and 2.5 MiB where
// no kubeconfig is read, for the bundle is half as large again.
// Can go when the client's configuration part stands in a package or a module without the API.

export const kubeConfigOnly = {
  name: 'kube-config-only',
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^\.\/gen\/index\.js$/ }, (args) =>
      /client-node\/dist\/config\.js$/.test(args.importer)
        ? { path: 'unused-api', namespace: 'kube-config-only' }
        : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'kube-config-only' }, () => ({
      contents: 'export class ServerConfiguration {}\nexport function createConfiguration() {}\n',
    }));
  },
};
