// gRPC names the server by its address where it has no other name, which newer versions of Node refuse (RFC 6066 section 3
// knows host names only): no etcd with TLS could be reached by address. Without a name Node checks the certificate
// against the address, as it should.
//
// Saves nothing: it is a correction.
// Can go when grpc-js sends no server name for an address.
import { readFileSync } from 'node:fs';

export const grpcServerName = {
  name: 'grpc-server-name',
  setup({ onLoad }) {
    onLoad({ filter: /grpc-js\/build\/src\/channel-credentials\.js$/ }, (args) => {
      const source = readFileSync(args.path, 'utf8');
      const contents = source.replace(
        'connectionOptions.servername = remoteHost;',
        "connectionOptions.servername = require('node:net').isIP(remoteHost) ? '' : remoteHost;",
      );
      if (contents === source)
        throw new Error(
          'grpc-js changed: tools/rewrites/grpc-server-name.mjs no longer finds its server name',
        );
      return { contents, loader: 'js' };
    });
  },
};
