// What agents and proxies of earlier versions say of themselves: the program on a host is exchanged before they start again.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { root, twillProgram } from '../../lab/files.ts';
import { withNamespace } from '../../lab/namespace.ts';

const fixtures = join(root, 'test/fixtures/version-0');
const service = `
apiVersion: v1
kind: Service
metadata: { name: web, namespace: demo }
spec: { clusterIP: 10.96.0.10, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-1, namespace: demo, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
endpoints: [{ addresses: [10.244.8.2] }]
ports: [{ port: 8080 }]
`;

test('every command understands the states that the first version with any has left', () =>
  withNamespace('earlier', async (node) => {
    const directory = mkdtempSync(join(tmpdir(), 'twill-earlier-'));
    try {
      for (const name of ['agent-state.json', 'proxy-state.json']) {
        const text = readFileSync(join(fixtures, name), 'utf8').replaceAll('/nowhere', directory);
        writeFileSync(join(directory, name), text);
      }
      mkdirSync(join(directory, 'manifests'));
      writeFileSync(join(directory, 'manifests/web.yaml'), service);
      const sockets = [`--socket=${directory}/cni.sock`, `--proxy-socket=${directory}/proxy.sock`];
      const look = async (command: string): Promise<string> => {
        const { status, stdout, stderr } = await node.run(twillProgram, [command, ...sockets]);
        assert.notEqual(status, 3, `${command}: ${stdout}${stderr}`);
        return (stdout + stderr).replaceAll(/\s+/g, ' ');
      };
      assert.match(await look('status'), /the agent is not running: .* the proxy is not running: /);
      assert.match(await look('diff'), / route 10\.244\.83\.0\/24 missing .*KUBE-SERVICES/);
      assert.match(await look('routes'), / 10\.244\.83\.0\/24 192\.0\.2\.12 22:61:47:c0:83:4d - missing /);
      assert.match(await look('services'), / demo\/web ClusterIP 10\.96\.0\.10 80\/TCP /);
    } finally {
      rmSync(directory, { recursive: true });
    }
  }));
