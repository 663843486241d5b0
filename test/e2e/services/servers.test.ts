import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Place } from '../../lab/place.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { httpGet, type ServiceLab, withServiceLab } from '../../lab/service-lab.ts';

const dnsAddress = '10.96.0.53';
const dns = serviceObject('kube-system/dns', {
  clusterIP: dnsAddress,
  ports: [
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'dns-tcp', port: 53, protocol: 'TCP' },
  ],
});
const dnsPorts = [
  { name: 'dns', port: 53, protocol: 'UDP' },
  { name: 'dns-tcp', port: 53, protocol: 'TCP' },
];

/** A real dnsmasq that gives `name` the address. */
function startDns(pod: Place, name: string, address: string): void {
  const flags = [
    '--keep-in-foreground',
    '--no-resolv',
    '--no-hosts',
    '--conf-file=/dev/null',
    '--pid-file=',
    '--user=root',
  ];
  pod.namespace.spawn('dnsmasq', [...flags, `--address=/${name}/${address}`], {
    detached: true,
    stdio: 'ignore',
  });
}

function resolve(from: Place, transport: 'udp' | 'tcp', name: string): Promise<string> {
  const script = join(import.meta.dirname, '../../lab/dns-query.js');
  return from.exec(process.execPath, [script, transport, dnsAddress, name, '40053']);
}

/** A real nginx: a page with the pod's name, or a proxy to another address. */
function startNginx(services: ServiceLab, pod: Place, location: string): void {
  const directory = join(services.lab.dir, `nginx-${pod.name}`);
  mkdirSync(directory);
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${directory}/${name};`,
  );
  const server = `server { listen 8080; location / { ${location} } }`;
  const http = `http { access_log off; ${paths.join(' ')} ${server} }`;
  const config = `daemon off; user root; worker_processes 1; pid ${directory}/pid; error_log ${directory}/error.log; events {} ${http}`;
  writeFileSync(join(directory, 'nginx.conf'), config);
  pod.namespace.spawn('nginx', ['-c', join(directory, 'nginx.conf')], { detached: true, stdio: 'ignore' });
}

for (const variant of ['nft', 'legacy'] as const) {
  describe(`with iptables-${variant}`, () => {
    test('a DNS server answers through its Service over UDP and TCP, also right after its only endpoint was replaced', async () => {
      await withServiceLab({ nodes: 2, variant }, async (services) => {
        const { lab } = services;
        const [node1, node2] = lab.nodes as [(typeof lab.nodes)[0], (typeof lab.nodes)[0]];
        const first = await services.addPod(node1, 'dns1');
        const second = await services.addPod(node2, 'dns2');
        const caller = await services.addPod(node1, 'caller');
        startDns(first, 'www.example', '203.0.113.1');
        startDns(second, 'www.example', '203.0.113.2');
        const write = (pod: Place, node: string): void =>
          services.write('dns.yaml', dns, sliceObject('kube-system/dns', dnsPorts, [{ ip: pod.ipv4, node }]));
        write(first, 'node1');
        await services.startProxies();
        for (const transport of ['udp', 'tcp'] as const) {
          const answer = await lab.waitFor('an answer', async () =>
            (await resolve(caller, transport, 'www.example')).trim(),
          );
          assert.equal(answer, '203.0.113.1', transport);
        }
        await first.namespace.remove();
        write(second, 'node2');
        // The query comes from the port of the flow that led to the server that is gone.
        for (const transport of ['udp', 'tcp'] as const) {
          await lab.waitFor(`the other server to answer over ${transport}`, async () => {
            return (await resolve(caller, transport, 'www.example')).trim() === '203.0.113.2';
          });
        }
      });
    });

    test('an nginx as ingress behind a node port reaches its pods through their Service', async () => {
      await withServiceLab({ nodes: 2, variant }, async (services) => {
        const { lab } = services;
        const [node1, node2] = lab.nodes as [(typeof lab.nodes)[0], (typeof lab.nodes)[0]];
        const ingress = await services.addPod(node1, 'ingress');
        const pods = [await services.addPod(node1, 'a'), await services.addPod(node2, 'b')];
        for (const pod of pods) startNginx(services, pod, `return 200 "page of ${pod.name}\\n";`);
        startNginx(services, ingress, 'proxy_pass http://10.96.0.10;');
        const ports = [{ name: 'http', port: 8080, protocol: 'TCP' }];
        services.write(
          'web.yaml',
          serviceObject('shop/web', { clusterIP: '10.96.0.10', ports: [{ name: 'http', port: 80 }] }),
          sliceObject(
            'shop/web',
            ports,
            pods.map((pod, index) => ({ ip: pod.ipv4, node: `node${index + 1}` })),
          ),
          serviceObject('ingress/nginx', {
            type: 'NodePort',
            clusterIP: '10.96.0.20',
            ports: [{ name: 'http', port: 80, nodePort: 30_080 }],
          }),
          sliceObject('ingress/nginx', ports, [{ ip: ingress.ipv4, node: 'node1' }]),
        );
        await services.startProxies();
        // node2 runs no ingress: the node port leads to node1's.
        for (const node of [node1, node2]) {
          const pages = new Set<string>();
          await lab.waitFor(`both pages through ${node.name}`, async () => {
            const answer = await httpGet(lab.client, node.ipv4, 30_080, '/');
            pages.add(/page of (\w+)/.exec(answer)?.[1] ?? answer);
            return pages.size === 2;
          });
          assert.deepEqual([...pages].sort(), ['a', 'b']);
        }
      });
    });
  });
}
