import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Browser, type BrowserPage } from '../../lab/browser.ts';
import { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Pod } from '../../lab/pod.ts';
import { flannelLease } from '../overlay/state.ts';

const url = 'http://127.0.0.1:9090/';

const service = (name: string, address: string, endpoint: string): string => `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: ${address}, clusterIPs: [${address}], ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, namespace: shop, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
ports: [{ name: http, port: 8080, protocol: TCP }]
endpoints: [${endpoint}]
---
`;

describe('the page of the agent, in a browser', () => {
  let lab: Lab;
  let node: LabNode;
  let client: Pod;
  let browser: Browser;
  let page: BrowserPage;
  let pictures: string;
  let flags: string[];

  const picture = (name: string): Promise<void> => page.picture(join(pictures, `${name}.png`));
  const shell = (script: string): Promise<string> => node.namespace.exec('sh', ['-ec', script]);

  before(async () => {
    lab = await Lab.start({ nodes: 2 });
    pictures = process.env.TWILL_PICTURES ?? join(lab.dir, 'pictures');
    mkdirSync(pictures, { recursive: true });
    for (const host of [40, 41, 42, 43, 44]) {
      const { key, value } = flannelLease(host, `02:00:00:00:00:${host}`);
      await lab.etcd.put(key, value);
    }
    const [first, second] = lab.nodes as [LabNode, LabNode];
    node = first;
    const mesh = ['--mesh-probe-port=8473', '--mesh-probe-interval=1s'];
    flags = ['--page-bind-address=127.0.0.1:9090', `--proxy-socket=${node.proxySocket}`, ...mesh];
    const opened = Browser.start(node.namespace);
    await Promise.all([node.startAgent(flags), second.startAgent(mesh)]);
    const pod = await node.addPod('web', {
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 8080, protocol: 'tcp' }] },
    });
    client = await node.addPod('client');
    const endpoint = `{ addresses: [${pod.ipv4}], nodeName: node1, conditions: { ready: true } }`;
    lab.writeManifest(
      'web.yaml',
      service('web', '10.96.0.10', endpoint) + service('empty', '10.96.0.11', ''),
    );
    await node.startProxy();
    browser = await opened;
    page = await browser.open(url);
    await page.screen(1280, 900, 'light');
  });

  after(async () => {
    await browser?.close();
    await lab?.stop();
  });

  it('shows the verdict first, then nodes, pods and Services, and nothing is refused or fails', async () => {
    await page.waitForText('#verdict-text', /^node1 is healthy$/);
    await page.waitForText('#services-list', /shop\/web/);
    await page.waitForText('#drift-list', /All is as it should be/);
    assert.match(
      await page.text('#nodes-list'),
      /10\.244\.40\.0\/24\s+at 192\.0\.2\.40\s+via 10\.244\.40\.0 dev flannel\.1/,
    );
    assert.equal(await page.evaluate('document.querySelectorAll("#graph .choice").length'), 6);
    assert.match(await page.text('#services-list'), /shop\/empty\s+it has no endpoints/);
    assert.match(await page.text('#pods-list'), /8080→8080\/tcp/);
    assert.match(await page.text('#facts-list'), /eth0 \(192\.0\.2\.11/);
    assert.match(await page.text('#live'), /^live, looked \d+ s ago$/);
    assert.match(await page.evaluate('document.title'), /^✓ node1/);
    await page.waitForText('#nodes-list', /at 192\.0\.2\.12\s[\s\S]*?answers by the overlay: [\d.]+ ms/);
    assert.match(await page.text('#facts-list'), /Mesh\s+6 nodes by IPv4/);
    await picture('healthy-light');
    assert.deepEqual(page.complaints, []);
  });

  it('says what is wrong as soon as it is, and that it is mended, without being loaded again', async () => {
    await page.evaluate('window.same = true');
    await shell(
      'ip route add 10.244.41.0/24 via 192.0.2.1 table 77; ip rule add to 10.244.41.0/24 lookup 77; iptables-nft -I INPUT -p udp --dport 8472 -j DROP',
    );
    await page.waitForText('#verdict-text', /^node1 is degraded: /);
    await page.waitForText(
      '#nodes-list',
      /10\.244\.41\.0\/24[\s\S]*the kernel sends to its pods another way: via 192\.0\.2\.1/,
    );
    // What agents measure of each other says what the closed port has come to.
    await page.waitForText(
      '#nodes-list',
      /192\.0\.2\.12\) is reached by the underlay but not by the overlay: /,
    );
    await page.waitForText(
      '#problems',
      /degraded\s+firewall\s+UDP port 8472 is closed: nothing comes in[\s\S]*-j DROP/,
    );
    await page.waitForText('#drift-list', /wrong\s+route\s+10\.244\.41\.0\/24/);
    assert.equal(await page.evaluate('document.querySelectorAll("#graph .choice.bad").length'), 2);
    assert.match(await page.evaluate('document.title'), /^▲ node1/);
    await picture('degraded-light');
    await page.screen(360, 740, 'dark');
    await picture('degraded-phone-dark');
    assert.equal(await page.evaluate('document.scrollingElement.scrollWidth'), 360);
    await page.screen(1280, 900, 'dark');
    await picture('degraded-dark');
    await shell(
      'iptables-nft -D INPUT -p udp --dport 8472 -j DROP; ip rule delete lookup 77; ip route flush table 77',
    );
    await page.waitForText('#verdict-text', /^node1 is healthy$/);
    await page.waitForText('#nodes-count', /^6(?:, 1 in doubt)?$/);
    assert.equal(await page.evaluate('window.same'), true);
  });

  it('is used by the keyboard alone: from link to link, into the graph, by its arrows, to the list', async () => {
    await page.evaluate('document.activeElement.blur(); window.scrollTo(0, 0)');
    const focused = (): Promise<string> =>
      page.evaluate(
        'document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent',
      );
    await page.press('Tab');
    assert.equal(await focused(), 'Skip to what is wrong');
    const stops: string[] = [];
    for (let count = 0; count < 40 && !/^10\.244\./.test(stops.at(-1) ?? ''); count++) {
      await page.press('Tab');
      stops.push(await focused());
    }
    const first = stops.at(-1)!;
    assert.match(first, /^10\.244\.\d+\.0\/24 at 192\.0\.2\.12: /);
    await page.press('ArrowRight');
    assert.match(await focused(), /^10\.244\.40\.0\/24 /);
    const outline = 'getComputedStyle(document.activeElement.querySelector(".body")).strokeWidth';
    assert.equal(await page.evaluate(outline), '5px');
    await page.press('Enter');
    await page.waitForText('#nodes-list', /^Only 10\.244\.40\.0\/24/);
    assert.equal(await page.evaluate('document.querySelectorAll("#nodes-list li").length'), 1);
    await page.click('#nodes-list .picked button');
    assert.equal(await page.evaluate('document.querySelectorAll("#nodes-list li").length'), 6);
    await page.click('#nodes-find');
    await page.type('.43');
    await page.waitForText(
      '#nodes-list',
      /^10\.244\.43\.0\/24[^.]*at 192\.0\.2\.43\s+via \S+ dev flannel\.1$/,
    );
  });

  it('traces as twill trace does, says what is wrong with a name, and takes nothing for HTML', async () => {
    await page.click('#pods-list tbody tr:nth-child(2) button');
    const from = await page.evaluate<string>('document.querySelector("#trace-from").value');
    assert.equal(from, client.containerId);
    assert.equal(await page.evaluate('document.activeElement.id'), 'trace-to');
    await page.type('shop/web:80');
    await page.press('Enter');
    await page.waitForText('#trace-result h3', /^ARRIVES, by the one way$/);
    const result = await page.text('#trace-result');
    assert.match(result, /Service shop\/web:http \(10\.96\.0\.10:80\) over tcp/);
    assert.match(result, /nat\s+KUBE-SERVICES: .* "shop\/web:http cluster IP"/);
    assert.match(result, /ARRIVES at pod/);
    await page.screen(1280, 900, 'light');
    await picture('trace-light');
    await page.screen(360, 740, 'light');
    await picture('trace-phone-light');
    assert.equal(await page.evaluate('document.scrollingElement.scrollWidth'), 360);
    await page.screen(1280, 900, 'light');
    await page.evaluate('document.querySelector("#trace-to").value = ""');
    await page.click('#trace-to');
    await page.type('<img src=x onerror=alert(1)>');
    await page.click('#trace-go');
    await page.waitForText('#trace-result', /'<img src=x onerror=alert\(1\)>' is no pod, Service or address/);
    assert.equal(await page.evaluate('document.querySelectorAll("img").length'), 0);
    // What looks like a flag is a name.
    await page.evaluate('document.querySelector("#trace-to").value = "--probe"');
    await page.click('#trace-go');
    await page.waitForText('#trace-result', /'--probe' is no pod, Service or address/);
    assert.deepEqual(page.complaints, []);
  });

  it('says that the agent is gone and since when, and goes on when it is back', async () => {
    await node.agent!.stop();
    await page.waitForText(
      '#alarm',
      /^No word from the agent since \d\d:\d\d:\d\d\. What is shown is of then/,
    );
    assert.match(await page.evaluate('document.title'), /^\? node1/);
    assert.match(await page.text('#live'), /^agent gone for \d+ s$/);
    assert.match(await page.text('#verdict-text'), /^node1 is healthy$/);
    await picture('agent-gone');
    await node.startAgent(flags);
    await page.waitForText('#live', /^live, looked/);
    assert.equal(await page.evaluate('document.querySelector("#alarm").hidden'), true);
    assert.equal(await page.evaluate('window.same'), true);
    // One that is stopped by a signal keeps its connections: silence is what tells.
    process.kill(node.agent!.pid, 'SIGSTOP');
    try {
      await page.evaluate('const clock = Date.now; Date.now = () => clock() + 60_000');
      await page.waitForText('#alarm', /^No word from the agent since/);
    } finally {
      process.kill(node.agent!.pid, 'SIGCONT');
    }
    await page.waitForText('#live', /^live, looked/);
  });
});
