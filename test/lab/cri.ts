import { join } from 'node:path';
import { type Client, credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { controlGroupPrefix, ownerVariable } from './cleanup.ts';
import { Containerd, type OtherNetwork } from './containerd.ts';
import { root } from './files.ts';
import { Namespace } from './namespace.ts';
import type { LabNode } from './node.ts';
import { writeImage } from './oci-image.ts';
import { Place } from './place.ts';
import { waitFor } from './wait.ts';

/** Fields are spelt as in the interface's .proto. */
export interface PortMapping {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly container_port: number;
  readonly host_port: number;
  readonly host_ip?: string;
}

export interface SandboxOptions {
  readonly port_mappings?: readonly PortMapping[];
  readonly annotations?: Readonly<Record<string, string>>;
}

interface SandboxStatus {
  readonly status: { readonly state: string; readonly network: { readonly ip: string } | null };
  readonly info: Readonly<Record<string, string>>;
}

type Call = (request: object, done: (error: ServiceError | null, answer: unknown) => void) => void;
type Service = Client & Readonly<Record<string, Call>>;
type Services = Record<'RuntimeService' | 'ImageService', new (...args: unknown[]) => Service>;

function connectTo(socket: string): Record<keyof Services, Service> {
  const file = join(root, 'test/lab/cri.proto');
  const definition = loadPackageDefinition(loadSync(file, { keepCase: true, enums: String, defaults: true }));
  const { v1 } = definition.runtime as unknown as { v1: Services };
  const connect = (name: keyof Services): Service =>
    new v1[name](`unix:${socket}`, credentials.createInsecure());
  return { RuntimeService: connect('RuntimeService'), ImageService: connect('ImageService') };
}

function call<T>(service: Service, method: string, request: object): Promise<T> {
  return new Promise((resolve, reject) => {
    const done = (error: ServiceError | null, answer: unknown): void =>
      error === null ? resolve(answer as T) : reject(new Error(`${method}: ${error.details}`));
    service[method]!.call(service, request, done);
  });
}

/** A pod sandbox of a runtime; its network namespace lasts until the lab ends, as if something still used it. */
export class Sandbox extends Place {
  readonly id: string;

  constructor(id: string, name: string, namespace: Namespace, ipv4: string) {
    super(name, namespace, { ipv4 });
    this.id = id;
  }
}

/** A node's containerd, called as the kubelet calls it. */
export class Cri {
  readonly containerd: Containerd;
  private readonly node: LabNode;
  private readonly services: Record<keyof Services, Service>;

  private constructor(node: LabNode, containerd: Containerd) {
    this.node = node;
    this.containerd = containerd;
    this.services = connectTo(containerd.socket);
  }

  /** Resolves when the runtime says that it and its network are ready. */
  static async start(node: LabNode, network?: OtherNetwork): Promise<Cri> {
    const containerd = await Containerd.start(node, network);
    const cri = new Cri(node, containerd);
    await cri.importImage();
    await cri.ready();
    return cri;
  }

  /** @throws Error with what the runtime says, which includes what the CNI plugin said */
  async runSandbox(name: string, options: SandboxOptions = {}): Promise<Sandbox> {
    const { guard } = this.node;
    const config = {
      metadata: { name, uid: `${guard.id}-${name}`, namespace: 'default' },
      hostname: name,
      linux: { cgroup_parent: `/${controlGroupPrefix(guard.id)}${name}` },
      ...options,
    };
    const { pod_sandbox_id: id } = await this.runtime<{ pod_sandbox_id: string }>('RunPodSandbox', {
      config,
    });
    const { status, info } = await this.status(id);
    const { pid } = JSON.parse(info.info!) as { pid: number };
    const namespace = await Namespace.attach(`${this.node.name}-${name}`, pid, guard);
    return new Sandbox(id, name, namespace, status.network!.ip);
  }

  status(id: string): Promise<SandboxStatus> {
    return this.runtime('PodSandboxStatus', { pod_sandbox_id: id, verbose: true });
  }

  /** Ends it and takes its network away; doing so twice is fine. */
  async stopSandbox({ id }: Sandbox): Promise<void> {
    await this.runtime('StopPodSandbox', { pod_sandbox_id: id });
  }

  async removeSandbox({ id }: Sandbox): Promise<void> {
    await this.runtime('RemovePodSandbox', { pod_sandbox_id: id });
  }

  /** What the runtime says of its network: the configuration that it uses is in there. */
  async configuration(): Promise<string | undefined> {
    const { info } = await this.runtime<{ info: Record<string, string> }>('Status', { verbose: true });
    return info.cniconfig;
  }

  /** Closes the connections, which would keep the process from ending. */
  close(): void {
    for (const service of Object.values(this.services)) service.close();
  }

  private runtime<T>(method: string, request: object): Promise<T> {
    return call(this.services.RuntimeService, method, request);
  }

  private async importImage(): Promise<void> {
    const { rootfs, directory, process, sandboxImage } = this.containerd;
    const file = await writeImage(directory, {
      name: sandboxImage,
      rootfs,
      entrypoint: ['/bin/busybox', 'tail', '-f', '/dev/null'],
      environment: [`${ownerVariable}=${this.node.guard.id}`],
    });
    const args = ['--namespace=k8s.io', 'images', 'import', '--snapshotter=native', file];
    const { status, stderr } = await this.containerd.ctr(...args);
    if (status !== 0) throw new Error(`importing the sandbox image: ${stderr}\n${process.tail()}`);
    const known = async (): Promise<boolean> => {
      const request = { image: { image: sandboxImage } };
      return (
        (await call<{ image: unknown }>(this.services.ImageService, 'ImageStatus', request)).image !== null
      );
    };
    await waitFor('the runtime to know the sandbox image', known, { explain: () => process.tail() });
  }

  private async ready(): Promise<void> {
    let last: unknown;
    const check = async (): Promise<boolean> => {
      const answer = await this.runtime<{ status: { conditions: { status: boolean }[] } }>('Status', {});
      last = answer.status;
      return answer.status.conditions.every(({ status }) => status);
    };
    const explain = (): string => `${JSON.stringify(last)}\n${this.containerd.process.tail()}`;
    await waitFor('the runtime and its network to be ready', check, { explain });
  }
}
