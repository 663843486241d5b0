import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runChecked } from '../../../src/kernel/process.ts';
import { withCniNode } from '../../lab/cni-node.ts';
import { twillProgram } from '../../lab/files.ts';

const secret = 'S3cr3tPlant3d';

test('twill report packs what helps, bounded, and no secret', async () => {
  await withCniNode(async (node) => {
    const { directory } = node;
    const pod = await node.pod();
    await node.call('ADD', { netns: pod.path });
    const confDir = join(directory, 'net.d');
    mkdirSync(confDir);
    writeFileSync(
      join(confDir, '10-twill.conflist'),
      JSON.stringify({ name: 'twill', plugins: [{ type: 'twill' }, { type: 'vpn', token: secret }] }),
    );
    writeFileSync(
      join(confDir, 'vpn.kubeconfig'),
      `users:\n- user:\n    token: ${secret}\n    client-key-data: LS0tLS1CRUdJTi${secret}${secret}\n`,
    );
    const log = join(directory, 'agent.log');
    const line = `{"level":30,"etcd":"https://root:${secret}@192.0.2.1:2379","flags":"--etcd-password=${secret}","msg":"starts"}\n`;
    writeFileSync(log, line + 'a line of a log that goes on for long\n'.repeat(300_000) + line);
    // As large as a log that nobody rotates; it takes no room.
    const huge = join(directory, 'huge.log');
    writeFileSync(huge, 'the first line\n');
    truncateSync(huge, 2 ** 31);
    appendFileSync(huge, '\nthe last line\n');
    const longName = `${'ü'.repeat(70)}.conflist`;
    writeFileSync(join(confDir, longName), '{}');
    symlinkSync('loop.conf', join(confDir, 'loop.conf'));
    await node.namespace.exec('iptables-nft', [
      ...['-A', 'INPUT', '-p', 'tcp', '--dport', '4444', '-m', 'comment', '--comment', `password=${secret}`],
      ...['-j', 'ACCEPT'],
    ]);
    const file = join(directory, 'report.tar.gz');
    const said = await node.namespace.exec(process.execPath, [
      ...[twillProgram, 'report', `--socket=${node.socketPath}`, `--proxy-socket=${directory}/none.sock`],
      ...[`--file=${file}`, `--cni-conf-dir=${confDir}`, `--log-file=${log}`],
      `--log-file=${huge}`,
    ]);
    assert.match(said, /report\.tar\.gz: \d+ bytes, \d+ files; passwords, tokens and keys are left out/);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.ok(statSync(file).size < 4 * 1024 * 1024);

    const out = join(directory, 'out');
    mkdirSync(out);
    await runChecked('tar', ['-xzf', file, '-C', out, '--strip-components=1']);
    const names = readdirSync(out, { recursive: true, encoding: 'utf8' }).filter((name) =>
      statSync(join(out, name)).isFile(),
    );
    for (const wanted of [
      ...['status.json', 'diff.json', 'routes.json', 'pods.json', 'services.json', 'preflight.json'],
      ...['kernel/routes.txt', 'kernel/sysctls.txt', 'rules/iptables-nft.txt', 'rules/nft.txt'],
      ...['files/10-twill.conflist', 'logs/agent.log'],
    ])
      assert.ok(names.includes(wanted), `${wanted} in ${names}`);
    let total = 0;
    for (const name of names) {
      const text = readFileSync(join(out, name), 'utf8');
      total += text.length;
      assert.ok(text.length <= 4 * 1024 * 1024 + 100, name);
      assert.ok(!text.includes(secret), name);
    }
    assert.ok(total <= 32 * 1024 * 1024);
    const logged = readFileSync(join(out, 'logs/agent.log'), 'utf8');
    assert.match(logged, /^\{"level":30,"etcd":"https:\/\/\*\*\*@192\.0\.2\.1:2379"/);
    assert.match(logged, /characters left out[\s\S]*"msg":"starts"\}\n$/);
    const hugeLog = readFileSync(join(out, 'logs/huge.log'), 'utf8');
    assert.match(hugeLog, /^the first line\n[\s\S]*left out[\s\S]*\nthe last line\n$/);
    assert.equal(readFileSync(join(out, `files/${'_'.repeat(60)}`), 'utf8'), `# ${confDir}/${longName}\n{}`);
    assert.equal(JSON.parse(readFileSync(join(out, 'pods.json'), 'utf8')).pods.length, 1);
    assert.match(readFileSync(join(out, 'kernel/links.txt'), 'utf8'), /cni0/);

    for (const place of ['/nowhere', '/etc/hostname']) {
      const refused = await node.namespace.run(process.execPath, [
        ...[twillProgram, 'report', `--socket=${node.socketPath}`, `--cni-conf-dir=${confDir}`],
        `--file=${place}/report.tar.gz`,
      ]);
      assert.match(refused.stderr, new RegExp(`\\(is ${place} a directory\\?\\)`));
    }

    // A disk that is full says so, and has the file of before.
    const small = join(directory, 'small');
    mkdirSync(small);
    const full = await node.namespace.run('unshare', [
      ...['-m', 'sh', '-c'],
      `mount -t tmpfs -o size=4k none ${small} && echo before > ${small}/r.tar.gz &&
      ${twillProgram} report --file ${small}/r.tar.gz --socket=${node.socketPath} --cni-conf-dir=${confDir}
      echo status $?; cat ${small}/*; ls -A ${small}`,
    ]);
    assert.match(full.stderr, /ENOSPC/);
    assert.doesNotMatch(full.stderr, /a directory\?/);
    assert.equal(full.stdout, 'status 3\nbefore\nr.tar.gz\n');

    // A file that is mounted into a container is written, though nothing can take its place.
    const mounted = await node.namespace.run('unshare', [
      ...['-m', 'sh', '-c'],
      `mount --bind ${join(out, 'status.json')} ${join(out, 'status.json')} &&
      ${twillProgram} report --file ${join(out, 'status.json')} --socket=${node.socketPath} --cni-conf-dir=${confDir} >&2 &&
      tar -tzf ${join(out, 'status.json')}`,
    ]);
    assert.match(mounted.stdout, /^twill-report-\S+\/status\.json$/m, mounted.stderr);

    const piped = await node.namespace.run('sh', [
      '-c',
      `${twillProgram} report --file - --socket=${node.socketPath} --cni-conf-dir=${confDir} | tar -tz`,
    ]);
    assert.match(piped.stdout, /^twill-report-\S+\/status\.json$/m);

    // Whoever may not list tables does not say that there are none.
    const limited = await node.namespace.run('sh', [
      '-c',
      `setpriv --bounding-set=-net_admin --inh-caps=-net_admin ${twillProgram} report --file - --socket=${node.socketPath} --cni-conf-dir=${confDir} | tar -xzO --wildcards '*/rules/nft.txt'`,
    ]);
    assert.match(limited.stdout, /^\(.*list tables of nftables.*EPERM/);
  });
});
