import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { startBigNode } from '../../lab/big-node.ts';
import { Browser, type BrowserPage } from '../../lab/browser.ts';
import type { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { Lab } from '../../lab/lab.ts';
import { leaseKey, leasesNetwork, leaseValue } from '../../lab/many-leases.ts';
import { benchSlice, clusterAddress, serviceName } from '../../lab/many-services.ts';
import type { LabNode } from '../../lab/node.ts';

const LEASES = 5000;
const SERVICES = 10_000;
/** A look takes one part in five of the time, thirty seconds apart at most. */
const PATIENCE_MS = 180_000;
/** Elements of the document, whatever the cluster: a drawing has some 1,300 cells of three each. */
const MOST_ELEMENTS = 8000;

describe('the page of a node of a large cluster, in a browser', () => {
  let lab: Lab;
  let node: LabNode;
  let api: NamespacedKubeApi;
  let browser: Browser;
  let page: BrowserPage;

  const elements = (): Promise<number> => page.evaluate<number>('document.querySelectorAll("*").length');
  const find = async (field: string, text: string): Promise<void> => {
    await page.evaluate(`document.querySelector(${JSON.stringify(field)}).value = ''`);
    await page.click(field);
    await page.type(text);
  };

  before(async () => {
    lab = await Lab.start({ nodes: 1, underlay: 'ipv4', networkConfig: leasesNetwork });
    node = lab.nodes[0]!;
    const opened = Browser.start(node.namespace);
    api = await startBigNode(lab, {
      leases: LEASES,
      services: SERVICES,
      endpoints: 1,
      kind: 'nftables',
      agentFlags: ['--page-bind-address=127.0.0.1:9090', `--proxy-socket=${node.proxySocket}`],
    });
    browser = await opened;
    page = await browser.open('http://127.0.0.1:9090/');
    await page.screen(1280, 900, 'light');
  });

  after(async () => {
    await browser?.close();
    await lab?.stop();
  });

  it('finds any node and any Service, shows a change of both, and is never larger than it may be', async () => {
    await page.waitForText('#services-count', /^10,000$/, PATIENCE_MS);
    await page.waitForText('#nodes-count', /^5,000/, PATIENCE_MS);
    await page.waitForText('#live', /^live, looked/, PATIENCE_MS);
    await page.waitForText('#drift-list', /All is as it should be/, PATIENCE_MS);
    const first = await elements();
    assert.ok(first <= MOST_ELEMENTS, `${first} elements`);
    await page.evaluate('window.same = true');

    await find('#nodes-find', '10.20.135.0');
    await page.waitForText('#nodes-list', /^10\.20\.135\.0\/24\s+at 172\.35\.135\.1$/);
    const last = serviceName(SERVICES - 1);
    await find('#services-find', last);
    const row = new RegExp(
      `team/${last}\\s+ClusterIP\\s+${clusterAddress(SERVICES - 1)}\\s+http 80/tcp\\s+1 ready`,
    );
    await page.waitForText('#services-list', row);

    api.send({ delete: [benchSlice(SERVICES - 1)] });
    await lab.etcd.put(leaseKey(LEASES), leaseValue(LEASES));
    await page.waitForText('#services-list', new RegExp(`team/${last}\\s+it has no endpoints`), PATIENCE_MS);
    await page.waitForText('#nodes-count', /^5,001/, PATIENCE_MS);
    await find('#nodes-find', '10.20.136.0');
    await page.waitForText('#nodes-list', /^10\.20\.136\.0\/24\s+at 172\.35\.136\.1$/);
    const later = await elements();
    assert.ok(later <= MOST_ELEMENTS, `${later} elements`);
    assert.equal(await page.evaluate('window.same'), true);
    assert.deepEqual(page.complaints, []);
  });
});
