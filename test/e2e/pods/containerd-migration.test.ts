// A real containerd whose sandboxes flannel's chain of plugins wired goes over to Twill under them.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../../../src/kernel/process.ts';
import { Cri, type Sandbox } from '../../lab/cri.ts';
import { twillProgram } from '../../lab/files.ts';
import { pluginFolder } from '../../lab/flannel-chain.ts';
import { withLab } from '../../lab/lab.ts';
import { servicePort } from '../../lab/place.ts';
import { flannelLease } from '../overlay/state.ts';

const subnet = '10.244.3.0/24';

/** What flannel's own plugin hands on to the bridge plugin, and what comes behind it. */
const flannel = {
  plugins: ['bridge', 'host-local', 'portmap'].map((name) => join(pluginFolder, name)),
  conflist: {
    cniVersion: '1.0.0',
    name: 'cbr0',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        mtu: 1450,
        hairpinMode: true,
        isGateway: true,
        isDefaultGateway: true,
        ipMasq: false,
        ipam: { type: 'host-local', ranges: [[{ subnet }]], routes: [{ dst: '10.244.0.0/16' }] },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  },
};

test('containerd: sandboxes of flannel’s chain stay, new ones are Twill’s, and old ones go without a trace', async () => {
  await withLab({ nodes: 1 }, async (lab) => {
    const node = lab.nodes[0]!;
    const { key, value } = flannelLease(3, '02:00:00:00:00:03', node.ipv4);
    await lab.etcd.put(key, value);
    const cri = await Cri.start(node, flannel);
    try {
      const amongMounts = async (...command: string[]): Promise<string> => {
        const [program = '', ...args] = [...cri.containerd.amongItsMounts, ...command];
        const { status, stdout, stderr } = await run(program, args);
        assert.equal(status, 0, `${command}: ${stderr}`);
        return stdout;
      };
      const serving = async (name: string, hostPort?: number): Promise<Sandbox> => {
        const mapping = { protocol: 'TCP', container_port: servicePort, host_port: hostPort ?? 0 } as const;
        const sandbox = await cri.runSandbox(
          name,
          hostPort === undefined ? {} : { port_mappings: [mapping] },
        );
        await sandbox.serve();
        return sandbox;
      };
      const ask = async (address: string, port: number): Promise<string> =>
        (await lab.client.probe.ask({ protocol: 'tcp', address, port })).server;
      const reservations = (): Promise<string> => amongMounts('ls', '/var/lib/cni/networks/cbr0');
      const olds = [await serving('old-web', 8080), await serving('old')];
      assert.match(await reservations(), /10\.244\.3\.2\n10\.244\.3\.3/);

      node.prefix = cri.containerd.amongItsMounts;
      await node.startAgent(['--cni-data-dir=/var/lib/cni']);
      await amongMounts(twillProgram, 'install-cni', '--replace', `--cni-socket=${node.cniSocket}`);
      const names = async (): Promise<string> => await amongMounts('ls', '/etc/cni/net.d');
      assert.match(await names(), /10-flannel\.conflist\.set-aside-by-twill\n10-twill\.conflist/);
      // The runtime hears of the new configuration by itself, a moment later.
      const config = async () => JSON.stringify((await cri.configuration()) ?? '');
      await lab.waitFor('the runtime to use it', async () => /"?type\\*"?:\\*"twill/.test(await config()), {
        explain: config,
      });
      assert.equal(await ask(node.ipv4, 8080), 'old-web');
      const young = await serving('young');
      assert.ok(!olds.some(({ ipv4 }) => ipv4 === young.ipv4), `${young.ipv4} is nobody else's`);
      for (const old of olds)
        assert.equal(
          (await young.probe.ask({ protocol: 'tcp', address: old.ipv4, port: servicePort })).server,
          old.name,
        );
      const heir = await serving('heir', 8080);
      assert.equal(await ask(node.ipv4, 8080), 'heir');
      for (const old of olds) {
        await cri.stopSandbox(old);
        await cri.removeSandbox(old);
      }
      assert.doesNotMatch(await reservations(), /10\.244/);
      const rules = await node.exec('iptables-save', ['-t', 'nat']);
      assert.doesNotMatch(rules, /CNI-DN-/);
      assert.match(rules, /TWILL .*--dport 8080/);
      const links = await node.exec('ip', ['-br', 'link', 'show', 'type', 'veth']);
      assert.equal(links.match(/^veth/gm)?.length, 2, links);
      assert.equal(await ask(node.ipv4, 8080), 'heir');
      for (const sandbox of [young, heir]) await cri.stopSandbox(sandbox);
      assert.doesNotMatch(await node.exec('ip', ['-br', 'link', 'show', 'type', 'veth']), /^veth/m);
    } finally {
      cri.close();
    }
  });
});
