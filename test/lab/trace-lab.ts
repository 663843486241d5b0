import type { LabNode } from './node.ts';
import type { Place } from './place.ts';
import type { Answer } from './probe-protocol.ts';
import { serviceObject, sliceObject } from './service-fixtures.ts';
import { ServiceLab, type ServiceLabOptions } from './service-lab.ts';

/** Two nodes with pods and a Service of every kind that a packet may die at. */
export interface TraceLab {
  readonly services: ServiceLab;
  readonly node: LabNode;
  /** Two pods of the node, and one of the other node; all serve, as do the node and the client outside. */
  readonly client: Place;
  readonly near: Place;
  readonly far: Place;
  readonly outside: Place;
}

const http = [{ name: 'http', port: 8080, protocol: 'TCP' }];
const port = { name: 'http', port: 80, protocol: 'TCP' };

function writeServices({ services, near, far, node }: Omit<TraceLab, 'outside'>, other: LabNode): void {
  const [here, there] = [
    { ip: near.ipv4, node: node.name },
    { ip: far.ipv4, node: other.name },
  ];
  const write = (name: string, spec: object, endpoints: (typeof here)[], more: object = {}): void =>
    services.write(
      `${name}.yaml`,
      serviceObject(`shop/${name}`, { ports: [port], ...spec }, { ...more }),
      sliceObject(`shop/${name}`, http, endpoints),
    );
  const ingress = { status: { loadBalancer: { ingress: [{ ip: '203.0.113.80' }] } } };
  write('none', { clusterIP: '10.96.0.11' }, []);
  write('local', { clusterIP: '10.96.0.12', internalTrafficPolicy: 'Local' }, [there]);
  write('self', { clusterIP: '10.96.0.13' }, [here]);
  write('remote', { clusterIP: '10.96.0.14' }, [there]);
  const ranges = { type: 'LoadBalancer', loadBalancerSourceRanges: ['192.0.2.200/32'] };
  write(
    'ranges',
    { ...ranges, clusterIP: '10.96.0.15', ports: [{ ...port, nodePort: 30_081 }] },
    [here],
    ingress,
  );
  const external = {
    type: 'NodePort',
    externalTrafficPolicy: 'Local',
    ports: [{ ...port, nodePort: 30_082 }],
  };
  write('external', { ...external, clusterIP: '10.96.0.16' }, [there]);
  write('web', { type: 'NodePort', clusterIP: '10.96.0.10', ports: [{ ...port, nodePort: 30_080 }] }, [
    here,
    there,
  ]);
}

export async function startTraceLab(options: ServiceLabOptions = {}): Promise<TraceLab> {
  const services = await ServiceLab.start(options);
  const [node, other] = services.lab.nodes as [LabNode, LabNode];
  const client = await services.addServer(node, 'client');
  const near = await services.addServer(node, 'near');
  const far = await services.addServer(other, 'far');
  const outside = services.lab.client;
  await Promise.all([outside.serve(), node.serve()]);
  writeServices({ services, node, client, near, far }, other);
  // The router knows where pods are, so that they and the outside reach each other without masquerade.
  await services.lab.underlay.ip(
    ...services.lab.nodes.flatMap(({ ipv4, ipv6 }, index) => [
      `route add 10.244.${index + 1}.0/24 via ${ipv4}`,
      `route add fd00:244:${index + 1}::/64 via ${ipv6}`,
    ]),
  );
  await services.startProxies();
  await services.lab.waitFor('the Services to be served', () => reach(client, '10.96.0.10', 80));
  return { services, node, client, near, far, outside };
}

/** How long one waits that is to be answered, in ms: a machine may be busy, and a SYN be sent again. */
export const patient = 20_000;

/** What a real connection reaches; undefined when it dies, or takes longer than one waits that is to die. */
export async function reach(
  from: Place,
  address: string,
  port: number,
  timeoutMs = 700,
): Promise<Answer | undefined> {
  return await from.probe.ask({ protocol: 'tcp', address, port, timeoutMs }).catch(() => undefined);
}
