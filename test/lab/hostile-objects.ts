import { seeded } from './random.ts';
import { serviceObject, sliceObject } from './service-fixtures.ts';

/** What must never be in a rule, nor begin a line of a log. */
export const injected = 'EVIL';

const values: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1.5,
  70_000,
  2 ** 53,
  '',
  ' ',
  '80',
  [],
  [null],
  {},
  { ip: '10.1.1.1' },
  [[['x']]],
  `x"\n-A INPUT -j ${injected}\nCOMMIT\n*nat\n"`,
  `"; flush ruleset; add table ip ${injected}`,
  `-j ${injected}`,
  `$(touch ${injected})`,
  `\u0000${injected}`,
  `\u001b[2J${injected}\r`,
  'a'.repeat(5000),
  `${'ä'.repeat(70)}${injected}`,
  '10.244.1.2',
  '010.1.1.1',
  '10.1.1.1/32',
  '1.2.3.4\n',
  '127.0.0.1',
  '224.0.0.1',
  '::1',
  '::1.2.3.4',
  '::ffff:1.2.3.4',
  'fe80::1%eth0',
  'fd00:244::1',
  '2001:DB8::00',
  '0.0.0.0/0',
  '::/0',
  '192.0.2.0/24',
  'TCP',
  'UDP',
  'SCTP',
  'ICMP',
  'None',
  'Local',
  'LoadBalancer',
  'ExternalName',
  'IPv6',
  'FQDN',
  '__proto__',
  'constructor',
];

type Random = (below: number) => number;
type Json = Record<string, unknown>;

/** Puts a random value somewhere into the object; the deeper places are the more likely ones. */
function spoil(object: Json, random: Random): void {
  let at: Json = object;
  for (;;) {
    const keys = Object.keys(at);
    const key = keys[random(keys.length)];
    if (key === undefined) return;
    const next = at[key];
    if (typeof next === 'object' && next !== null && random(4) > 0) {
      at = next as Json;
      continue;
    }
    if (random(10) === 0) delete at[key];
    else at[key] = structuredClone(values[random(values.length)]);
    return;
  }
}

function address(random: Random, v6: boolean): string {
  return v6
    ? `fd00:96::${random(4)}:${1 + random(0xffff).toString(16)}`
    : `10.96.${random(4)}.${1 + random(250)}`;
}

function service(name: string, random: Random): Json {
  const v6 = random(3) === 0;
  const clusterIP = address(random, v6);
  return serviceObject(
    name,
    {
      type: ['ClusterIP', 'NodePort', 'LoadBalancer'][random(3)],
      clusterIP,
      clusterIPs: [clusterIP],
      ipFamilies: [v6 ? 'IPv6' : 'IPv4'],
      ports: [
        { name: 'http', protocol: 'TCP', port: 80, nodePort: 30_000 + random(100) },
        { name: 'dns', protocol: 'UDP', port: 53, nodePort: 30_100 + random(100) },
      ],
      externalIPs: [address(random, v6)],
      loadBalancerSourceRanges: [v6 ? '2001:db8::/32' : '198.51.100.0/24'],
      sessionAffinity: ['None', 'ClientIP'][random(2)],
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
      externalTrafficPolicy: ['Cluster', 'Local'][random(2)],
      internalTrafficPolicy: ['Cluster', 'Local'][random(2)],
      healthCheckNodePort: 32_000 + random(100),
    },
    {
      metadata: { labels: { app: 'x' }, annotations: { note: 'y' } },
      status: { loadBalancer: { ingress: [{ ip: address(random, v6), ipMode: 'VIP' }] } },
    },
  );
}

function slice(name: string, random: Random): Json {
  const v6 = random(3) === 0;
  const ports = [
    { name: 'http', protocol: 'TCP', port: 8080 },
    { name: 'dns', protocol: 'UDP', port: 5353 },
  ];
  const endpoints = Array.from({ length: random(4) }, () => ({
    ip: v6 ? `fd00:244::${1 + random(99)}` : `10.244.1.${1 + random(99)}`,
    node: ['node-a', 'node-b'][random(2)]!,
    ready: random(4) > 0,
    serving: random(4) > 0,
    terminating: random(4) === 0,
  }));
  return { ...sliceObject(name, ports, endpoints), addressType: v6 ? 'IPv6' : 'IPv4' };
}

/** Services and EndpointSlices as anybody who may write them could, most with something wrong in a place or two. */
export function hostileObjects(seed: number, count: number, namespace = 'fuzz'): Json[] {
  const random = seeded(seed);
  return Array.from({ length: count }, (_, index) => {
    const name = `${namespace}/s${index >> 1}`;
    const object = structuredClone(index % 2 === 0 ? service(name, random) : slice(name, random));
    for (let times = random(4); times > 0; times--) spoil(object, random);
    return object;
  });
}
