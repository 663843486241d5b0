import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { kubeAssets } from '../../lab/real/assets.ts';
import { healthFlags, readyz } from '../agent/readiness.ts';
import { kernelState } from '../overlay/state.ts';
import {
  flannel,
  flannelAnnotations,
  type KubeNodes,
  kubeNode,
  ownKubeApi,
  realKubeApi,
} from './kube-nodes.ts';

/** The same checks over every kind of API server. */
function checks(open: (lab: Lab) => Promise<KubeNodes>): void {
  let lab: Lab;
  let api: KubeNodes;
  let one: LabNode;
  let two: LabNode;
  let start: (node: LabNode) => Promise<void>;
  let netConfig: string;

  const flannelAnnotationsOf = async (name: string): Promise<Record<string, string>> => {
    const { annotations = {} } = (await api.read(name)).metadata;
    return Object.fromEntries(Object.entries(annotations).filter(([key]) => key.startsWith(flannel)));
  };
  const subnets = async (node: LabNode): Promise<string[]> =>
    (await kernelState(node.namespace)).routes.map((line) => line.split(' ')[0]!);

  before(async () => {
    lab = await Lab.start({ nodes: 2, underlay: 'ipv4', networkConfig: null });
    [one, two] = lab.nodes as [LabNode, LabNode];
    api = await open(lab);
    netConfig = join(lab.dir, 'net-conf.json');
    writeFileSync(netConfig, '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}');
    const args = ['--kube-subnet-mgr', `--net-config-path=${netConfig}`, ...healthFlags];
    const nodes = [
      kubeNode('node1', 1, one.ipv4),
      kubeNode('node2', 2, two.ipv4),
      kubeNode('node40', 40, '192.0.2.40', flannelAnnotations(40)),
      kubeNode('fresh', 50, '192.0.2.50'),
      kubeNode('broken', 60, '192.0.2.60', { ...flannelAnnotations(60), [`${flannel}/backend-data`]: '{' }),
    ];
    for (const node of nodes) await api.put(node);
    start = async (node) => {
      await node.startAgent([...args, ...(await api.agentArgs(node.name)), '--log-level=debug']);
    };
    await Promise.all(lab.nodes.map(start));
  });
  after(() => lab.stop());

  it("takes the node's podCIDR and publishes flannel's annotations", async () => {
    const mac = (await one.exec('cat', ['/sys/class/net/flannel.1/address'])).trim();
    assert.deepEqual(await flannelAnnotationsOf('node1'), {
      [`${flannel}/backend-data`]: `{"VNI":1,"VtepMAC":"${mac}"}`,
      [`${flannel}/backend-type`]: 'vxlan',
      [`${flannel}/kube-subnet-manager`]: 'true',
      [`${flannel}/public-ip`]: one.ipv4,
    });
  });

  it("clears the node's NetworkUnavailable condition and leaves the others", async () => {
    const { conditions } = await lab.waitFor('the condition', async () => {
      const { status } = await api.read('node1');
      return (
        status?.conditions?.some(({ type, status: is }) => type === 'NetworkUnavailable' && is === 'False') &&
        status
      );
    });
    assert.deepEqual(conditions?.map(({ type, status, reason }) => [type, status, reason]).sort(), [
      ['NetworkUnavailable', 'False', 'FlannelIsUp'],
      ['Ready', 'True', 'KubeletReady'],
    ]);
  });

  it('knows the other nodes, Twill or flanneld, passes over one without a lease, names one that cannot be read', async () => {
    await lab.waitFor(
      'the routes',
      async () => (await subnets(one)).join() === '10.244.2.0/24,10.244.40.0/24',
    );
    assert.match(one.agent!.log(), /skipped a node whose lease cannot be read .*node=broken/);
    assert.match(one.agent!.log(), /it has the node's InternalIP 192\.0\.2\.11/);
    const [a, b] = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
    await b.serve();
    const answer = await lab.waitFor('traffic', () =>
      a.probe.ask({ protocol: 'tcp', address: b.ipv4, port: servicePort, timeoutMs: 500 }),
    );
    assert.equal(answer.client, a.ipv4);
  });

  it('follows nodes that come, change and go', async () => {
    await api.put(kubeNode('fresh', 50, '192.0.2.50', flannelAnnotations(50)));
    await lab.waitFor('the new node', async () => (await subnets(one)).includes('10.244.50.0/24'));
    const moved = { ...flannelAnnotations(50), [`${flannel}/public-ip`]: '192.0.2.150' };
    await api.put(kubeNode('fresh', 50, '192.0.2.50', moved));
    await lab.waitFor('its new public IP', async () =>
      (await kernelState(one.namespace)).fdb.includes('02:00:00:00:00:50 dst 192.0.2.150'),
    );
    await api.put(kubeNode('fresh', 51, '192.0.2.50', moved));
    await lab.waitFor('its new podCIDR', async () => {
      const now = await subnets(one);
      return now.includes('10.244.51.0/24') && !now.includes('10.244.50.0/24');
    });
    await api.delete('fresh');
    await lab.waitFor('it to go', async () => (await subnets(one)).join() === '10.244.2.0/24,10.244.40.0/24');
  });

  it('a public IP that the administrator set in an annotation is used and kept', async () => {
    const before = await api.read('node2');
    const annotations = { ...before.metadata.annotations, [`${flannel}/public-ip-overwrite`]: '192.0.2.222' };
    await api.put({ ...before, metadata: { ...before.metadata, annotations } });
    await lab.waitFor(
      'the annotation',
      async () => (await flannelAnnotationsOf('node2'))[`${flannel}/public-ip`] === '192.0.2.222',
    );
    await lab.waitFor('the other node to follow', async () =>
      (await kernelState(one.namespace)).fdb.some((line) => line.endsWith('dst 192.0.2.222')),
    );
    const { [`${flannel}/public-ip-overwrite`]: _, ...rest } = annotations as Record<string, string>;
    await api.put({ ...before, metadata: { ...before.metadata, annotations: rest } });
    await lab.waitFor('the other node to send to its own address again', async () =>
      (await kernelState(one.namespace)).fdb.some((line) => line.endsWith(`dst ${two.ipv4}`)),
    );
  });

  it("a node's own address that the administrator set in an annotation is used, until it is taken away", async () => {
    const annotate = async (nodeIp: object): Promise<void> => {
      const node = await api.read('node1');
      const annotations = { ...node.metadata.annotations };
      delete annotations[`${flannel}/node-public-ip`];
      await api.put({ ...node, metadata: { ...node.metadata, annotations: { ...annotations, ...nodeIp } } });
    };
    const seen = (ip: string): Promise<boolean> =>
      lab.waitFor(`the other node to send to ${ip}`, async () =>
        (await kernelState(two.namespace)).fdb.some((line) => line.endsWith(`dst ${ip}`)),
      );
    await one.namespace.ip('address add 192.0.2.111/24 dev eth0');
    await annotate({ [`${flannel}/node-public-ip`]: '192.0.2.111' });
    await seen('192.0.2.111');
    assert.match(one.agent!.log(), /it has the public IP 192\.0\.2\.111/);
    await lab.waitFor('the device to send from it', async () =>
      (await one.exec('ip', ['-d', 'link', 'show', 'flannel.1'])).includes('local 192.0.2.111'),
    );
    await annotate({});
    await seen(one.ipv4);
    await one.namespace.ip('address delete 192.0.2.111/24 dev eth0');
  });

  it('annotations of its own node that somebody spoils are put right', async () => {
    const right = await flannelAnnotationsOf('node1');
    for (const spoiled of [{ 'backend-data': '{' }, { 'backend-type': 'x' }, { 'public-ip': 'x' }]) {
      const node = await api.read('node1');
      const wrong = Object.fromEntries(
        Object.entries(spoiled).map(([name, value]) => [`${flannel}/${name}`, value]),
      );
      await api.put({
        ...node,
        metadata: { ...node.metadata, annotations: { ...node.metadata.annotations, ...wrong } },
      });
      await lab.waitFor(`${Object.keys(wrong)} to be as before`, async () =>
        isDeepStrictEqual(await flannelAnnotationsOf('node1'), right),
      );
    }
  });

  it('annotations of its own node that cannot be followed are named, with what to do, until they are taken away', async () => {
    const node = await api.read('node1');
    const wrong = {
      [`${flannel}/node-public-ip`]: 'eth0',
      [`${flannel}/public-ip-overwrite`]: '2001:db8::1',
    };
    const annotations = { ...node.metadata.annotations, ...wrong };
    await api.put({ ...node, metadata: { ...node.metadata, annotations } });
    for (const [name, value] of Object.entries(wrong))
      await lab.waitFor(`${name} to be named`, async () => {
        const { status, text } = await readyz(one);
        const line = `[!] own node: the annotation ${name} is "${value}", which is no IPv4 address of a machine: it is passed over; correct it or take it away (kubectl annotate node node1 ${name}-)`;
        return status === 200 && text.includes(line);
      });
    await api.put(node);
    await lab.waitFor('nothing to be named', async () => !(await readyz(one)).text.includes('own node'));
    assert.equal((await flannelAnnotationsOf('node1'))[`${flannel}/public-ip`], one.ipv4);
  });

  it('what a node published for IPv6 with another backend does not hide its IPv4', async () => {
    const before = { [`${flannel}/public-ipv6`]: '2001:db8::40', [`${flannel}/backend-v6-data`]: 'null' };
    const node = kubeNode('left', 70, '192.0.2.70', { ...flannelAnnotations(70), ...before });
    await api.put({ ...node, spec: { ...node.spec, podCIDRs: ['10.244.70.0/24', 'fd00:70::/64'] } });
    await lab.waitFor('the node', async () => (await subnets(one)).includes('10.244.70.0/24'));
    await api.delete('left');
    await lab.waitFor('it to go', async () => !(await subnets(one)).includes('10.244.70.0/24'));
  });

  it('the file with the network configuration changes: taken up, or named and left aside', async () => {
    const config = (backend: object, Network = '10.244.0.0/16'): void =>
      writeFileSync(netConfig, JSON.stringify({ Network, Backend: { Type: 'vxlan', ...backend } }));
    config({ MTU: 1400 });
    await lab.waitFor('the MTU', async () =>
      (await one.exec('ip', ['link', 'show', 'flannel.1'])).includes('mtu 1350'),
    );
    config({ MTU: 'x' });
    await lab.waitFor('the complaint', async () =>
      /\[!\] network configuration: .*net-conf\.json.*MTU.*stays in force/.test((await readyz(one)).text),
    );
    config({}, '10.9.0.0/16');
    await lab.waitFor('the pods of this node to hold it up', async () =>
      /\[!\] network configuration: .*away from 1 pods/.test((await readyz(one)).text),
    );
    config({});
    await lab.waitFor('the MTU of before', async () =>
      (await one.exec('ip', ['link', 'show', 'flannel.1'])).includes('mtu 1450'),
    );
    await lab.waitFor(
      'nothing to be said',
      async () => !(await readyz(one)).text.includes('[!] network configuration'),
    );
  });

  it('its own node is deleted and comes again with another podCIDR', async () => {
    const right = await flannelAnnotationsOf('node1');
    await api.delete('node1');
    await lab.waitFor('its route to go', async () => !(await subnets(two)).includes('10.244.1.0/24'));
    assert.match(await one.exec('ip', ['address', 'show', 'flannel.1']), /10\.244\.1\.0\/32/);
    await api.put(kubeNode('node1', 5, one.ipv4));
    await lab.waitFor('the annotations again', async () =>
      isDeepStrictEqual(await flannelAnnotationsOf('node1'), right),
    );
    await lab.waitFor('the other node to follow', async () => (await subnets(two)).includes('10.244.5.0/24'));
    await lab.waitFor('the new address', async () => {
      const text = await one.exec('ip', ['address', 'show', 'flannel.1']);
      return text.includes('10.244.5.0/32') && !text.includes('10.244.1.0/32');
    });
    await lab.waitFor('the subnet file', () =>
      readFileSync(one.subnetFile, 'utf8').includes('FLANNEL_SUBNET=10.244.5.1/24'),
    );
    await lab.waitFor('the condition', async () => {
      const [, condition] = (await api.read('node1')).status?.conditions ?? [];
      return condition?.status === 'False';
    });
    // Pods of another subnet keep their gateway for as long as they are there.
    for (const old of [...one.pods]) await old.remove();
    const pod = await one.addPod('new');
    assert.match(pod.ipv4, /^10\.244\.5\./);
    await pod.serve();
    const far = await two.addPod('far');
    const answer = await lab.waitFor('traffic', () =>
      far.probe.ask({ protocol: 'tcp', address: pod.ipv4, port: servicePort, timeoutMs: 500 }),
    );
    assert.equal(answer.client, far.ipv4);
  });

  it('keeps its VTEP MAC although all its own memory of it is gone', async () => {
    const mac = (await one.exec('cat', ['/sys/class/net/flannel.1/address'])).trim();
    await one.agent!.stop();
    await one.namespace.ip('link delete flannel.1');
    await one.exec('rm', ['-rf', join(one.stateDir, 'vtep-macs.json'), one.subnetFile]);
    await start(one);
    assert.equal((await one.exec('cat', ['/sys/class/net/flannel.1/address'])).trim(), mac);
  });
}

describe("leases from the Kubernetes API, the tests' own server", () => checks(ownKubeApi));

const assets = kubeAssets(process.env);
if (assets === undefined)
  process.stdout.write('NOT RUN: leases from a real kube-apiserver; set TEST_ASSET_KUBE_APISERVER for it\n');
else
  describe('leases from the Kubernetes API, kube-apiserver', () => checks((lab) => realKubeApi(lab, assets)));
