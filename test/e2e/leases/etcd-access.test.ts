import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { makeCertificates } from '../../lab/certificates.ts';
import { etcdPrefix, podSubnets, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { flannelLease } from '../overlay/state.ts';

test('the agent uses an etcd that speaks TLS and asks for a client certificate', async () => {
  await withLab({ nodes: 2, etcdTls: true }, async (lab) => {
    const [first, second] = lab.nodes as [LabNode, LabNode];
    const { ca, client } = lab.etcd.certificates!;
    const authority = `--etcd-cafile=${ca}`;
    const own = [`--etcd-certfile=${client.certificate}`, `--etcd-keyfile=${client.key}`];
    await first.startAgent([authority, ...own]);
    assert.equal((await lab.etcd.keys(`${etcdPrefix}/subnets/`)).length, 1);

    await second.startAgent([authority], false);
    await lab.waitFor('the agent without a certificate to say that etcd refuses it', () =>
      /certificate|SSL|TLS|does not answer/i.test(second.agent!.log()),
    );
    assert.ok(second.agent!.running, second.agent!.tail());
    assert.equal(existsSync(second.subnetFile), false);
    await second.agent!.stop();
    await second.startAgent([authority, ...own]);
    assert.equal((await lab.etcd.keys(`${etcdPrefix}/subnets/`)).length, 2);

    // Renewed by another authority: the files are replaced, and etcd refuses the certificates of before.
    await lab.etcd.stop();
    const folder = join(dirname(ca), 'renewed');
    mkdirSync(folder);
    const renewed = await makeCertificates(folder, [lab.etcd.endpoint.replace(/^https:..(.*):\d+$/, '$1')]);
    copyFileSync(renewed.client.key, client.key);
    const from = second.agent!.log().length;
    await lab.waitFor('the agent to try with a key that does not belong to the certificate', () =>
      /will retry[\s\S]*will retry/.test(second.agent!.log().slice(from)),
    );
    assert.ok(second.agent!.running, second.agent!.tail());
    for (const file of readdirSync(folder)) copyFileSync(join(folder, file), join(dirname(ca), file));
    await lab.etcd.start();
    const value =
      '{"PublicIP":"192.0.2.200","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}';
    await lab.etcd.put(`${etcdPrefix}/subnets/10.244.200.0-24`, value);
    await lab.waitFor('the new lease to arrive', async () =>
      (await second.exec('ip', ['route'])).includes('10.244.200.0/24 '),
    );
    assert.match(second.agent!.log(), /certificates for etcd have changed/);

    await second.agent!.stop();
    await assert.rejects(
      second.startAgent([`--etcd-cafile=${join(second.dir, 'absent.pem')}`]),
      /absent\.pem/,
    );
  });
});

test('the agent uses an etcd that asks for user and password', async () => {
  await withLab({ nodes: 1 }, async (lab) => {
    const [node] = lab.nodes as [LabNode];
    const user = { username: 'twill', password: 'it is: a, secret' };
    await lab.etcd.requireUser(user, etcdPrefix);
    await node.startAgent([`--etcd-username=${user.username}`, '--etcd-password=wrong'], false);
    await lab.waitFor('the agent to say that etcd refuses it', () =>
      /authentication|password|auth|refuse/i.test(node.agent!.log()),
    );
    assert.ok(!node.agent!.log().includes('wrong'), 'a password has no place in a log');
    await node.agent!.stop();
    const file = join(node.dir, 'password');
    writeFileSync(file, `${user.password}\n`);
    await node.startAgent([`--etcd-username=${user.username}`, `--etcd-password-file=${file}`]);
    const [own] = await lab.etcd.keys(`${etcdPrefix}/subnets/`);
    assert.ok(own);
    // etcd keeps its tokens in memory: after a restart it knows none of them.
    await lab.etcd.stop();
    await lab.etcd.start();
    await lab.etcd.put(
      `${etcdPrefix}/subnets/10.244.200.0-24`,
      own.value.replace(/"PublicIP":"[^"]+"/, '"PublicIP":"192.0.2.200"').replace(/..:..("})/, '00:01$1'),
    );
    await lab.waitFor('the new lease to arrive', async () =>
      (await node.exec('ip', ['route'])).includes('10.244.200.0/24 '),
    );
    assert.ok(!node.agent!.log().includes(user.password), 'a password has no place in a log');
    // Another password: with the old one there is no token any more.
    writeFileSync(file, 'another one\n');
    await lab.etcd.client.auth.userChangePassword({ name: user.username, password: 'another one' });
    await lab.etcd.delete(own.key);
    await lab.waitFor(
      'the lease to be written back',
      async () => (await lab.etcd.get(own.key)) === own.value,
    );
  });
});

test('the agent needs no more rights than flanneld: to read the configuration, to read and write the subnets', async () => {
  await withLab({ nodes: 1 }, async (lab) => {
    const [node] = lab.nodes as [LabNode];
    const user = { username: 'twill', password: 'secret' };
    const config = `${etcdPrefix}/config`;
    await lab.etcd.requireUser(user, `${etcdPrefix}/subnets/`, [config]);
    await node.startAgent([`--etcd-username=${user.username}`, `--etcd-password=${user.password}`]);
    const { key, value } = flannelLease(200, '02:00:00:00:00:01');
    await lab.etcd.put(key, value);
    await lab.waitFor('a lease to arrive', async () =>
      (await node.exec('ip', ['route'])).includes('10.244.200.0/24 '),
    );
    await lab.etcd.put(config, JSON.stringify({ ...podSubnets, Backend: { Type: 'vxlan', MTU: 1400 } }));
    await lab.waitFor('a changed configuration to arrive', async () =>
      (await node.exec('ip', ['link', 'show', 'flannel.1'])).includes('mtu 1350'),
    );
  });
});

test('users are made, and their rights changed, while tokens are signed: each change makes all tokens worthless', async () => {
  await withLab({ nodes: 1, etcdSignedTokens: true }, async (lab) => {
    const [node] = lab.nodes as [LabNode];
    const user = { username: 'twill', password: 'secret' };
    const credentials = [`--etcd-username=${user.username}`, `--etcd-password=${user.password}`];
    // Nodes get their credentials before etcd asks for any.
    await node.startAgent(credentials);
    await lab.etcd.requireUser(user, etcdPrefix);
    const { key, value } = flannelLease(200, '02:00:00:00:00:01');
    await lab.etcd.put(key, value);
    await lab.waitFor('a lease to arrive', async () =>
      (await node.exec('ip', ['route'])).includes('10.244.200.0/24 '),
    );
    const from = node.agent!.log().length;
    await lab.etcd.addUser({ username: 'another', password: 'secret' });
    // Its own lease it has to write back, with a token that is of before.
    const own = (await lab.etcd.keys(`${etcdPrefix}/subnets/`)).find((one) => one.key !== key)!;
    await lab.etcd.delete(own.key);
    await lab.waitFor(
      'the lease to be written back',
      async () => (await lab.etcd.get(own.key)) === own.value,
    );
    assert.doesNotMatch(node.agent!.log().slice(from), /auth store is old|does not answer|refuses/);
  });
});
