/** What tests put into a real cluster. */
import { sandboxImage } from '../../lab/real/kube-node.ts';

export const hostPort = 18080;
export const nodePort = 30080;

export interface PodStatus {
  readonly metadata: { readonly name: string; readonly creationTimestamp: string };
  readonly spec: { readonly nodeName: string };
  readonly status: {
    readonly podIP?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly lastTransitionTime: string;
    }[];
    readonly containerStatuses?: readonly {
      readonly restartCount: number;
      readonly state: { readonly running?: { readonly startedAt: string } };
    }[];
  };
}

export const isReady = ({ status }: PodStatus): boolean =>
  status.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') === true;

const startOf = ({ status }: PodStatus): number =>
  Date.parse(status.containerStatuses![0]!.state.running!.startedAt);

/** Seconds until a pod's container was started, from when it was created or another one's was started. */
export function since(pod: PodStatus, other?: PodStatus): number {
  return (startOf(pod) - (other ? startOf(other) : Date.parse(pod.metadata.creationTimestamp))) / 1000;
}

const container = { image: sandboxImage, imagePullPolicy: 'Never' };

/** Answers with its node's name. The kubelet has it without a scheduler that would wait for the node's network. */
export function server(node: string, app = 'web'): object {
  const script = 'echo $NODE >/www/index.html; exec httpd -f -p 8080 -h /www';
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `${app}-${node}`, labels: { app } },
    spec: {
      nodeName: node,
      // The kubelet tries volumes with tokens again ever less often while there is no network: that is not what is tested.
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          ...container,
          name: 'server',
          command: ['sh', '-c', script],
          env: [{ name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }],
          ports: app === 'web' ? [{ containerPort: 8080, hostPort }] : [],
          readinessProbe: { httpGet: { port: 8080, path: '/' }, periodSeconds: 1 },
        },
      ],
    },
  };
}

/** A request on a new connection; what comes is the name of a node, else it is said to have failed. */
export const askOnce = (target: string): string => `
  target="${target}"
  answer=$(printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 \${target%:*} \${target#*:} 2>&1 | busybox tail -n 1)
  case "$answer" in node*) echo "$answer" ;; *) echo "FAILED $target $answer" ;; esac`;

/** Asks these in turn, for ever. @param targets ADDRESS:PORT */
export function askForEver(targets: readonly string[]): string {
  return `while :; do ${targets.map(askOnce).join('\n')}\nsleep 0.1\ndone`;
}

export function client(node: string, targets: readonly string[]): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `client-${node}`, labels: { app: 'client' } },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 0,
      containers: [{ ...container, name: 'client', command: ['sh', '-c', askForEver(targets)] }],
    },
  };
}

export const service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web' },
  spec: { type: 'NodePort', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080, nodePort }] },
};
