import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from '../../lab/lab.ts';
import { Namespace } from '../../lab/namespace.ts';
import { LabProcess } from '../../lab/process.ts';
import { bridgeName } from '../../lab/underlay.ts';

/** One member of an etcd cluster: a machine of its own on the lab's underlay. */
export class EtcdMember {
  readonly name: string;
  readonly address: string;
  readonly namespace: Namespace;
  readonly process: LabProcess;

  constructor(name: string, address: string, namespace: Namespace, process: LabProcess) {
    this.name = name;
    this.address = address;
    this.namespace = namespace;
    this.process = process;
  }

  get endpoint(): string {
    return `http://${this.address}:2379`;
  }

  /** The value of a metric of this member; undefined when it has none of that name. */
  async metric(name: string): Promise<number | undefined> {
    const script = `fetch('${this.endpoint}/metrics').then(async (r) => console.log(await r.text()))`;
    const text = await this.namespace.exec(process.execPath, ['-e', script]);
    const [, value] = new RegExp(`^${name} (\\S+)$`, 'm').exec(text) ?? [];
    return value === undefined ? undefined : Number(value);
  }

  async isLeader(): Promise<boolean> {
    return (await this.metric('etcd_server_is_leader')) === 1;
  }

  /** Cuts it off from the other members without a word; clients still reach it. */
  async partition(): Promise<void> {
    const rules = ['dport', 'sport'].map((port) => `add rule inet lab peers tcp ${port} 2380 drop`);
    const chains = ['input', 'output'].flatMap((hook) => [
      `add chain inet lab peers${hook} { type filter hook ${hook} priority 0; }`,
      `add rule inet lab peers${hook} jump peers`,
    ]);
    const document = ['add table inet lab', 'add chain inet lab peers', ...rules, ...chains];
    await this.namespace.exec('nft', ['-f', '-'], { input: `${document.join('\n')}\n` });
  }

  async heal(): Promise<void> {
    await this.namespace.exec('nft', ['delete', 'table', 'inet', 'lab']);
  }
}

/** Starts a cluster of three real etcd processes, each in a namespace of its own that is plugged into the underlay. */
export async function startEtcdMembers(lab: Lab): Promise<EtcdMember[]> {
  const plan = [1, 2, 3].map((number) => ({ name: `etcd${number}`, address: `192.0.2.${20 + number}` }));
  const cluster = plan.map(({ name, address }) => `${name}=http://${address}:2380`).join(',');
  const members = await Promise.all(
    plan.map(async ({ name, address }) => {
      const namespace = await Namespace.make(name, lab.guard);
      await namespace.ip(`link add eth0 type veth peer name ${name} netns ${lab.underlay.name}`);
      await lab.underlay.ip(`link set ${name} master ${bridgeName} up`);
      await namespace.ip('link set eth0 up', `address add ${address}/24 dev eth0`);
      const directory = join(lab.dir, name);
      mkdirSync(directory);
      const peer = `http://${address}:2380`;
      const client = `http://${address}:2379`;
      const etcd = new LabProcess({
        name,
        namespace,
        program: 'etcd',
        args: [
          `--name=${name}`,
          '--data-dir=data',
          `--listen-client-urls=${client}`,
          `--advertise-client-urls=${client}`,
          `--listen-peer-urls=${peer}`,
          `--initial-advertise-peer-urls=${peer}`,
          `--initial-cluster=${cluster}`,
        ],
        cwd: directory,
        logFile: join(directory, 'etcd.log'),
      });
      await etcd.start();
      return new EtcdMember(name, address, namespace, etcd);
    }),
  );
  await lab.waitFor('a leader', async () =>
    (await Promise.all(members.map((m) => m.isLeader()))).some(Boolean),
  );
  return members;
}

/** Runs an `etcdctl`-like request on a member: a JSON request of the gateway, with keys and values as text. */
export async function etcdRequest(member: EtcdMember, path: string, body: object): Promise<string> {
  const encoded = JSON.stringify(body, (name, value) =>
    ['key', 'value', 'range_end'].includes(name) ? Buffer.from(String(value)).toString('base64') : value,
  );
  const script = `fetch('${member.endpoint}/v3/${path}', { method: 'POST', body: process.argv[1] }).then(async (r) => {
    if (!r.ok) throw new Error(await r.text());
    console.log(await r.text());
  })`;
  return await member.namespace.exec(process.execPath, ['-e', script, encoded]);
}
