import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { KubeSource } from '../../../../src/leases/kubernetes/source.ts';
import { makeLog } from '../../../../src/process/log.ts';
import { KubeApi } from '../../../lab/kube-api.ts';
import { waitFor } from '../../../lab/wait.ts';

const log = makeLog({ level: 'fatal', format: 'json', name: 'test' });

it('the network configuration is the one of when the nodes are known, not of when they were asked for', async (test) => {
  const folder = mkdtempSync(join(tmpdir(), 'twill-test-'));
  const netConfigPath = join(folder, 'net-conf.json');
  const configure = (vni: number): void =>
    writeFileSync(
      netConfigPath,
      JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan', VNI: vni } }),
    );
  configure(1);
  const api = await KubeApi.start();
  api.failWith = 503;
  const source = new KubeSource({
    client: { master: api.url },
    annotationPrefix: 'flannel.alpha.coreos.com',
    netConfigPath,
    setNodeNetworkUnavailable: true,
    log,
  });
  test.after(async () => {
    await source.stop();
    await api.stop();
    rmSync(folder, { recursive: true });
  });
  let changed = false;
  source.start((change) => {
    changed ||= change === 'config';
  });
  await waitFor('the source to ask for the nodes', () => api.requests.length > 0);
  configure(2);
  await waitFor('the source to see the file', () => changed);
  api.failWith = undefined;
  const { backend } = await source.config(AbortSignal.timeout(30_000));
  assert.equal(backend.type === 'vxlan' && backend.vni, 2);
});
