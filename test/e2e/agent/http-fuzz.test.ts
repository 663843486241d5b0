import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { stringify } from 'yaml';
import { httpStatus } from '../../lab/http.ts';
import type { FuzzReport } from '../../lab/http-fuzz-process.ts';
import { withLab } from '../../lab/lab.ts';
import type { LabProcess } from '../../lab/process.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { healthFlags } from './readiness.ts';

const SEED = Number(process.env.TWILL_TEST_SEED ?? 1);
const CONNECTIONS = 2000;
/** Heaps grow by steps, and the machine is not alone. */
const TOLERANCE_MIB = 16;

function residentMiB({ pid }: LabProcess): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

it(`rubbish from strangers is answered or not, and nothing else comes of it (seed ${SEED})`, async () => {
  await withLab({ nodes: 1 }, async (lab) => {
    const node = lab.nodes[0]!;
    const objects = [
      serviceObject('shop/web', {
        type: 'LoadBalancer',
        externalTrafficPolicy: 'Local',
        healthCheckNodePort: 32_000,
        clusterIP: '10.96.0.10',
        ports: [{ name: 'http', port: 80, nodePort: 30_080 }],
      }),
      sliceObject('shop/web', [{ name: 'http', port: 8080 }], [{ ip: '10.244.9.9', node: node.name }]),
    ];
    lab.writeManifest('web.yaml', objects.map((object) => `---\n${stringify(object)}`).join(''));
    await node.startAgent([
      ...healthFlags,
      '--page-bind-address=127.0.0.1:9090',
      '--page-host=x',
      `--proxy-socket=${node.proxySocket}`,
    ]);
    await node.startProxy();
    const checks = [
      [9099, '/readyz'],
      [9098, '/metrics'],
      [9090, '/'],
      [10_256, '/readyz'],
      [10_249, '/metrics'],
      [32_000, '/'],
    ] as const;
    const healthy = async (): Promise<boolean> => {
      const statuses = checks.map(([port, path]) => httpStatus(node.namespace, port, path));
      return (await Promise.all(statuses)).every((status) => status === 200);
    };
    await lab.waitFor('all to be served', healthy);
    const program = join(import.meta.dirname, '../../lab/http-fuzz-process.js');
    const ports = checks.map(([port]) => port).join();
    const fuzz = async (seed: number): Promise<FuzzReport> =>
      JSON.parse(
        await node.exec(process.execPath, [program, ports, String(seed), String(CONNECTIONS)], {
          timeoutMs: 120_000,
        }),
      ) as FuzzReport;
    const processes = [node.agent!, node.proxy!];
    const pids = processes.map(({ pid }) => pid);
    const logged = processes.map((process) => process.log().length);

    // The first round is what a heap needs to find its size.
    const first = await fuzz(SEED);
    const before = processes.map(residentMiB);
    const second = await fuzz(SEED + 1);
    for (const { statuses, strange } of [first, second]) {
      assert.deepEqual(strange, []);
      for (const status of ['200', '400', '404'])
        assert.ok((statuses[status] ?? 0) > 20, `${status} is seen`);
    }
    assert.deepEqual(
      processes.map(({ pid }) => pid),
      pids,
    );
    assert.ok(await healthy());
    for (const [index, process] of processes.entries()) {
      // A heap that has grown shrinks when there is nothing to do.
      await lab.waitFor(
        `the memory of ${process.name} to be as before`,
        () => residentMiB(process) <= before[index]! + TOLERANCE_MIB,
        { explain: () => `${before[index]} MiB, then ${residentMiB(process)}` },
      );
      assert.doesNotMatch(process.log().slice(logged[index]), /could not be answered|x1nj3ct3d/);
      await lab.waitFor('the connections to be closed', () => {
        const links = readdirSync(`/proc/${process.pid}/fd`).length;
        return links < 100;
      });
    }
  });
});
