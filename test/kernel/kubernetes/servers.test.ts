import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { KubeClient } from '../../../src/kubernetes/client.ts';
import type { ServerChoice } from '../../../src/kubernetes/config.ts';
import { makeCertificates } from '../../lab/certificates.ts';
import { KubeApi } from '../../lab/kube-api.ts';

/** Nobody listens there. */
const nobody = 'http://127.0.0.1:1';

const list = (client: KubeClient): Promise<unknown> =>
  client.getJson('/api/v1/services', {}, AbortSignal.timeout(20_000));

describe('several API servers', () => {
  let api: KubeApi;
  before(async () => {
    api = await KubeApi.start();
  });
  after(() => api.stop());

  async function open(...servers: string[]): Promise<{ client: KubeClient; told: ServerChoice[] }> {
    const told: ServerChoice[] = [];
    const client = await KubeClient.open({
      master: servers.join(', '),
      onServer: (choice) => told.push(choice),
    });
    return { client, told };
  }

  it('are tried in turn; which one answers is told once, and why not those before it', async () => {
    const { client, told } = await open(nobody, api.url);
    assert.deepEqual(client.servers, [nobody, api.url]);
    await list(client);
    await list(client);
    assert.equal(client.server, api.url);
    assert.equal(told.length, 1);
    assert.equal(told[0]!.url, api.url);
    assert.equal(told[0]!.why, 'given');
    assert.match(told[0]!.passedOver.join(), /cannot reach http:\/\/127\.0\.0\.1:1 .*ECONNREFUSED/);
  });

  it('when the one that answered goes, the others are asked again', async () => {
    const other = await KubeApi.start();
    const { url: first } = other;
    const { client, told } = await open(first, api.url);
    await list(client);
    await other.stop();
    await list(client);
    assert.deepEqual(
      told.map(({ url }) => url),
      [first, api.url],
    );
  });

  it('one that takes connections and says nothing is not waited for', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const url = `https://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    try {
      const { client, told } = await open(url, api.url);
      await list(client);
      assert.match(told[0]!.passedOver.join(), /no connection/);
    } finally {
      silent.close();
    }
  });

  for (const status of [502, 503, 504])
    it(`one that answers ${status} cannot serve now: the next is asked`, async () => {
      const other = await KubeApi.start();
      try {
        other.failWith = status;
        const { client, told } = await open(other.url, api.url);
        await list(client);
        assert.equal(client.server, api.url);
        assert.match(told[0]!.passedOver.join(), new RegExp(`${other.url} answered ${status}: `));
      } finally {
        await other.stop();
      }
    });

  it('where none can serve, what the last one says is said', async () => {
    const { client } = await open(nobody, api.url);
    api.failWith = 503;
    await assert.rejects(list(client), /answered 503/).finally(() => {
      api.failWith = undefined;
    });
  });

  it('one whose certificate is another’s is passed over', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'twill-servers-'));
    try {
      const { server } = await makeCertificates(directory, ['192.0.2.99']);
      const tls = { cert: readFileSync(server.certificate), key: readFileSync(server.key) };
      const stranger = createTlsServer(tls, () => {}).listen(0, '127.0.0.1');
      await once(stranger, 'listening');
      const url = `https://127.0.0.1:${(stranger.address() as AddressInfo).port}`;
      const { client, told } = await open(url, api.url);
      await list(client).finally(() => stranger.close());
      assert.match(told[0]!.passedOver.join(), new RegExp(`cannot reach ${url} .*certificate`));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('where none answers each is named', async () => {
    const { client } = await open(nobody, 'http://127.0.0.1:2');
    await assert.rejects(list(client), /127\.0\.0\.1:1 .*; cannot reach http:\/\/127\.0\.0\.1:2 /);
  });

  it('where only commas are given, that is said', async () => {
    await assert.rejects(open(',', ' '), {
      code: 'invalid',
      message: /no URL of an API server is in ',, {2}'/,
    });
  });

  it('an answer that refuses is an answer: no other server is asked', async () => {
    const { client, told } = await open(api.url, nobody);
    api.failWith = 403;
    await assert.rejects(list(client), /answered 403/).finally(() => {
      api.failWith = undefined;
    });
    assert.equal(told.length, 1);
  });
});
