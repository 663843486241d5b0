/** What daemonset.yaml's ValidatingAdmissionPolicy lets an agent change, asked of any API server that has it. */
import assert from 'node:assert/strict';

const type = 'application/strategic-merge-patch+json';
const flannel = 'flannel.alpha.coreos.com/public-ip';
const annotated = (value: string): object => ({ metadata: { annotations: { [flannel]: value } } });

/** Of its own Node. */
const refused: readonly (readonly [body: object, says: RegExp])[] = [
  [{ metadata: { labels: { a: 'b' } } }, /annotations of a Node's metadata/],
  [{ metadata: { labels: null } }, /annotations of a Node's metadata/],
  [{ metadata: { finalizers: ['twill.example/stay'] } }, /annotations of a Node's metadata/],
  [
    { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: 'none', uid: 'none' }] } },
    /annotations of a Node's metadata/,
  ],
  [{ metadata: { annotations: { a: 'b' } } }, /flannel's annotations/],
  [{ metadata: { annotations: { 'node.alpha/ttl': null } } }, /flannel's annotations/],
  [{ metadata: { annotations: { 'node.alpha/ttl': '1' } } }, /flannel's annotations/],
  [{ status: { conditions: [{ type: 'Ready', status: 'True' }] } }, /NetworkUnavailable/],
  [{ status: { conditions: [{ type: 'Ready', $patch: 'delete' }] } }, /NetworkUnavailable/],
  [{ status: { capacity: { cpu: '9' } } }, /nothing else of it/],
  [{ status: { allocatable: { pods: '900' } } }, /nothing else of it/],
  [{ status: { addresses: [{ type: 'InternalIP', address: '192.0.2.66' }] } }, /nothing else of it/],
  [{ status: { daemonEndpoints: { kubeletEndpoint: { Port: 22 } } } }, /nothing else of it/],
  [{ status: { images: [{ names: ['a'], sizeBytes: 1 }] } }, /nothing else of it/],
];

const allowed: readonly object[] = [
  annotated('192.0.2.67'),
  { metadata: { annotations: { [flannel]: null } } },
  { status: { conditions: [{ type: 'NetworkUnavailable', status: 'False', reason: 'FlannelIsUp' }] } },
  { ...annotated('192.0.2.68'), status: {} },
  // As twill cleanup does.
  {
    metadata: { annotations: { [flannel]: null } },
    status: { conditions: [{ type: 'NetworkUnavailable', $patch: 'delete' }] },
  },
];

export interface Patch {
  readonly token: string;
  readonly node: string;
  readonly body: object;
  readonly type: string;
}

export interface Patching {
  /** Sends the patches of nodes' statuses one after the other. @returns status and body of each */
  send(patches: readonly Patch[]): Promise<readonly { readonly status: number; readonly text: string }[]>;
  /** Of pods on node1. */
  readonly tokens: { readonly agent: string; readonly proxy: string };
}

/** Node1 and node2 have to be there, node1 with a label, the annotation node.alpha/ttl and the condition Ready. */
export async function checkAdmission({ send, tokens: { agent, proxy } }: Patching): Promise<void> {
  const ofOwn = (body: object): Patch => ({ token: agent, node: 'node1', body, type });
  const cases: readonly (readonly [patch: Patch, says: RegExp])[] = [
    [{ ...ofOwn(annotated('192.0.2.66')), node: 'node2' }, /^422 .*only the Node that it runs on/],
    ...refused.map(([body, says]) => [ofOwn(body), new RegExp(`^422 .*${says.source}`)] as const),
    ...allowed.map((body) => [ofOwn(body), /^200 $/] as const),
    [{ ...ofOwn(annotated('192.0.2.66')), token: proxy }, /^403 /],
  ];
  const answers = await send(cases.map(([patch]) => patch));
  for (const [index, [patch, says]] of cases.entries()) {
    const { status, text } = answers[index]!;
    const message = status === 200 ? '' : (JSON.parse(text) as { message: string }).message;
    assert.match(`${status} ${message}`, says, `${patch.node}: ${JSON.stringify(patch.body)}`);
  }
}
