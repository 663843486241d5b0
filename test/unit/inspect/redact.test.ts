import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bounded, redact } from '../../../src/inspect/plan/redact.ts';
import { seeded } from '../../lab/random.ts';

const secret = 'S3cr3t-Plant3d';

/** Where operators have secrets; each holds the planted one. */
const planted: Readonly<Record<string, string>> = {
  'a password in JSON': `{"user": "x", "password": "${secret}", "after": 1}`,
  'one with a quote in it': `{"etcdPassword":"a\\"${secret}","after":1}`,
  'a token in JSON that is quoted in a log line': `{"msg":"config {\\"token\\":\\"${secret}\\"} read"}`,
  'a password in YAML': `user: x\npassword: ${secret}\nafter: 1`,
  'a quoted one in YAML': `client-secret: '${secret} and more'\nafter: 1`,
  'an environment variable': `TWILL_ETCD_PASSWORD=${secret} after`,
  'a flag': `twill agent --etcd-password=${secret} --ip-masq`,
  'a flag with its value behind': `twill agent --etcd-password ${secret} --ip-masq`,
  'a comment of a rule': `-A INPUT -m comment --comment "password=${secret}" -j ACCEPT after`,
  'a URL': `etcd at https://root:${secret}@192.0.2.1:2379/`,
  'a header': `GET / HTTP/1.1\nAuthorization: Bearer ${secret}\nafter`,
  'a bearer token in a sentence': `sent bearer ${secret} to the server`,
  'a web token': `token eyJhbGciOiJSUzI1NiJ9.${secret}.c2ln is refused`,
  'a private key': `-----BEGIN EC PRIVATE KEY-----\n${secret}\n-----END EC PRIVATE KEY-----\nafter`,
  'a private key that was cut': `-----BEGIN PRIVATE KEY-----\nMIGH\n${secret}`,
  'a key in a kubeconfig': `client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVkt${secret.replace(/-/g, '')}`,
  'a key of a VPN': `psk = "${secret}"`,
  'a shared key of WireGuard': `PresharedKey = ${secret}=\nafter`,
  'a password of a registry, as docker has it': `{"auths":{"registry.example":{"auth":"${secret}"}},"after":1}`,
  'a token of npm': `//registry.example/:_authToken=${secret}\nafter`,
  'a short name': `DB_PASS=${secret} after`,
  'a short name in JSON': `{"user":"x","pass":"${secret}","after":1}`,
  'one of several words in YAML': `password: my ${secret} words\nafter: 1`,
  'one of several lines in YAML': `password: |\n  first\n\n  ${secret}\nafter: 1`,
  "a container's environment as JSON": `{"env":[{"name":"ETCD_PASSWORD","value":"${secret}"},{"name":"after"}]}`,
  "a container's environment as YAML": `- name: ETCD_PASSWORD\n  value: ${secret}\n- name: after`,
  'a flag among others in JSON': `{"args":["--etcd-password","${secret}","after"]}`,
  'a list of tokens': `{"tokens":["${secret}","more"],"after":1}`,
  'a login of curl': `curl -u root:${secret} https://192.0.2.1/after`,
  'a login of curl, at length': `curl --user root:${secret} 192.0.2.1/after`,
  'a login of a proxy without a scheme': `http_proxy=user:${secret}@192.0.2.9:3128 after`,
  'a header of several words': `Proxy-Authorization: Digest username="x", response="${secret}"\nafter`,
  'a cookie': `Set-Cookie: sid=${secret}; Path=/\nafter`,
  'a signed address': `https://192.0.2.1/x?sv=1&sig=${secret}&after=1`,
  'a signature of YAML': `sv: 1\nsig: ${secret}\nafter: 1`,
  'a token that begins as its service has it': `cloned with ghp_${secret.replace(/-/g, '')} after`,
  'a key of PGP': `-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n${secret}\n-----END PGP PRIVATE KEY BLOCK-----\nafter`,
  'one on the next line in YAML': `password:\n  ${secret}\nafter: 1`,
  'one that goes on in the next line in YAML': `password: my\n  ${secret}\nafter: 1`,
  'a list of tokens in YAML': `tokens:\n- ${secret}\n- more\nafter: 1`,
  'several lines with a tag in YAML': `password: !!str |\n  ${secret}\nafter: 1`,
  'one on the next line in JSON': `{"password":\n  "${secret}",\n"after": 1}`,
  'what is further in': `{"credentials":{"of":{"a":"b"},"key":"${secret}"},"after":1}`,
  'a long list': `{"tokens":["${'x'.repeat(2000)}","${secret}"],"after":1}`,
  'a list that was cut': `{"tokens":["x","${secret}"\nafter`,
  'a list of several lines': `{"tokens": [\n${`  "${'x'.repeat(100)}",\n`.repeat(20)}  "${secret}"\n],\n"after": 1}`,
  'a list in a text that is quoted': `{"msg":"{\\"tokens\\":[\\"a\\\\\\"]\\",\\"${secret}\\"]}","after":1}`,
  'a password in the comment of a rule': `--comment "demo/password:${secret}" after`,
  'a password that was cut': `{"password":"${secret} and`,
};

describe('what a report leaves out', () => {
  for (const [name, text] of Object.entries(planted))
    it(name, () => {
      const shown = redact(text);
      assert.ok(!shown.includes(secret) && !shown.includes(secret.replace(/-/g, '')), shown);
      if (text.includes('after')) assert.ok(shown.includes('after'), shown);
    });

  it('is nothing of what shows faults', () => {
    const said = [
      '-A KUBE-SVC-NPX46M4PTMTKRN6Y -p tcp -m comment --comment "default/tokens" -j KUBE-SEP-7NPX46M4PTMTKRN6',
      '10.244.40.0/24 nhid 183773184 via 10.244.40.0 dev flannel.1 proto 80 onlink',
      '{"kind":"route","object":"10.244.40.0/24","state":"missing"}',
      '{"mesh":{"passSeconds":10,"passedOver":3},"author":"x","bypass":"none"}',
      '5: veth1a2b@if2: <BROADCAST,MULTICAST,UP> mtu 1450 master cni0 state UP',
      'udp ESTABLISHED src=10.244.1.2 dst=10.96.0.10 sport=53:80 mark=0',
      'net/ipv4/tcp_syncookies = 1',
      '"net/netfilter/nf_conntrack_sctp_timeout_cookie_wait":"3"',
      'net/netfilter/nf_conntrack_sctp_timeout_cookie_echoed = 3',
      '--comment "demo/auth:http cluster IP" -j KUBE-SVC-NPX46M4PTMTKRN6Y',
      '{"rule":"--comment \\"demo/secret-store:http -> 10.244.1.2:80\\" -j DNAT"}',
      '-A KUBE-NODEPORTS -p tcp -m comment --comment "demo/token:http" -m tcp --dport 30080',
      '--comment "demo/token has no endpoints" -j REJECT',
      '--comment "demo/token cluster IP" -j KUBE-SVC-NPX46M4PTMTKRN6Y',
      'net/ipv4/tcp_fastopen_key = 00000000-00000000-00000000-00000000',
    ];
    for (const text of said) assert.equal(redact(text), text);
  });

  it('takes time that grows with the text alone', () => {
    for (const text of [
      '"password": "'.repeat(100_000),
      'password '.repeat(100_000),
      'token='.repeat(100_000),
      'token'.repeat(100_000),
      'token: |\n'.repeat(100_000),
      '"token":['.repeat(50_000),
      '"token":[\n'.repeat(50_000),
      'token: {\n'.repeat(50_000),
      '"token":{"a":"'.repeat(50_000),
      'token:\n  '.repeat(50_000),
      'token: x\n  y\n'.repeat(50_000),
      'name: token value '.repeat(50_000),
      'a:b'.repeat(100_000),
      '\\"token\\":\\"'.repeat(50_000),
    ])
      assert.ok(redact(text).length > 0);
  });

  it('and so of a text that is one thing over and over', () => {
    const long = (piece: string): string => piece.repeat(300_000 / piece.length);
    const things = ['"', "'", '\\', ' ', '\t', '\n', 'aGk0', '-----BEGIN ', '://', 'a://', '@', 'eyJ-'];
    const beginnings = ['@ ', 'token', 'token=', '"token":[', 'name: token', 'token: x\n'];
    for (const text of [
      ...beginnings.flatMap((beginning) => things.map((thing) => `@ ${beginning}${long(thing)}x: y`)),
      ...['-----BEGIN PRIVATE KEY-----', '-----END PRIVATE KEY-----', 'PRIVATE KEY', 'psk'].map(long),
      `token: x\n${long(' ')}${long('a')}: b`,
      `name${long('\\')}:token value: x`,
      `token=${long('\\')}"${long('\\').slice(1)}" ${long('x')}`,
      `${long('eyJ-')}.${long('a')}`,
    ])
      assert.ok(redact(text).length > 0);
  });

  it('and so of what is put together from words and marks that it knows', () => {
    const known =
      'token password pass auth sig name value cookie bearer sshpass comment demo/token KUBE-A eyJhbGci ghp_ a b1 ' +
      '-u --user= PRIVATE_KEY -----BEGIN -----END LS0tLS1CRUdJTi :// a:// \\" " \' \\ : = , . - / + | > & @ # [ ] { }';
    const pieces = [...known.split(' '), ' ', '\t', '\n', '\r', '- ', ': '];
    const below = seeded(20);
    const drawn = (): string =>
      Array.from({ length: 1 + below(3) }, () => pieces[below(pieces.length)]!).join('');
    for (let number = 0; number < 60; number++) {
      const blocks = Array.from({ length: 1 + below(4) }, () => drawn().repeat([1, 200, 20_000][below(3)]!));
      const block = blocks.join('').slice(0, 100_000);
      const text = block.repeat(100_000 / block.length);
      assert.ok(redact(text).length > 0);
    }
  });

  it('and JSON stays JSON', () => {
    const names = { password: secret, 'tls-secret': [secret], credentials: { key: 'x' }, tokenNumber: 12345 };
    const shown = JSON.parse(redact(JSON.stringify({ ...names, after: JSON.stringify({ token: secret }) })));
    assert.deepEqual(Object.keys(shown), [...Object.keys(names), 'after']);
    assert.deepEqual(JSON.parse(shown.after), { token: '***' });
    assert.ok(!JSON.stringify(shown).includes('12345'));
  });

  it('and JSON stays JSON whatever is behind the name', () => {
    const inner = JSON.stringify({ token: 12345, secrets: { a: ['"]', '\\'] }, last: [1] });
    const values = [
      { a: { b: 'x' }, c: 1 },
      [['x'], { y: [1, '}'] }],
      ['x'.repeat(2000), secret],
      'quoted "]}\\',
      [],
      null,
      true,
    ];
    const given = {
      values: values.map((token) => ({ token, after: 1 })),
      inner,
      again: JSON.stringify({ inner }),
    };
    for (const text of [JSON.stringify(given), JSON.stringify(given, undefined, 2)]) {
      const shown = JSON.parse(redact(text));
      assert.deepEqual(
        shown.values,
        values.map(() => ({ token: '***', after: 1 })),
      );
      const left = { token: '***', secrets: '***', last: [1] };
      assert.deepEqual(JSON.parse(shown.inner), left);
      assert.deepEqual(JSON.parse(JSON.parse(shown.again).inner), left);
    }
    const said = JSON.stringify({ msg: 'Unexpected token { in JSON', level: 'x', next: { a: 1 } });
    assert.deepEqual(Object.keys(JSON.parse(redact(said))), ['msg', 'level', 'next']);
  });

  it('is found wherever it stands in a long text', () => {
    const filler = 'nothing of interest here\n';
    const fills = [filler, filler.replace('\n', ','), '"x":1,'];
    for (const [index, sample] of Object.values(planted).entries())
      for (const before of [65_500, 65_520, 65_530, 65_536, 65_540, 131_060, 131_072]) {
        const fill = fills[index % fills.length]!;
        const text = `${fill.repeat(before / fill.length)}\n${sample}${`\n${fill}`.repeat(8000)}`;
        const shown = redact(text);
        assert.ok(!shown.includes(secret) && !shown.includes(secret.replace(/-/g, '')), sample);
      }
    const { 'a password in JSON': inLine } = planted;
    for (let before = 65_480; before < 65_560; before++)
      assert.ok(
        !redact(`${'"x":1,'.repeat(before / 6)}${inLine}${',"x":1'.repeat(20_000)}`).includes(secret),
      );
  });

  it('is the rest of a private key, too, where a text was cut within it', () => {
    for (const kind of ['EC PRIVATE KEY', 'PGP PRIVATE KEY BLOCK']) {
      const text = `left out …\nMIGH${'A'.repeat(60)}\n${'Zm9v'.repeat(10)}==\n-----END ${kind}-----\nafter`;
      const shown = redact(text);
      assert.ok(!shown.includes('Zm9v') && !shown.includes('MIGH'), shown);
      assert.match(shown, /left out …[\s\S]*after$/);
    }
  });

  it('and what is too long loses its middle, by whole lines', () => {
    const lines = Array.from({ length: 100 }, (_, index) => `password=${index}`).join('\n');
    for (let most = 100; most < 140; most++) {
      const [head, tail] = bounded(lines, most).split(/\n… \d+ characters left out …\n/);
      for (const line of [...head!.split('\n'), ...tail!.split('\n')]) assert.match(line, /^password=\d+$/);
    }
  });

  it('and what is too long loses its middle', () => {
    const text = `${'a'.repeat(500)}${'b'.repeat(500)}`;
    assert.equal(bounded(text, 1000), text);
    const cut = bounded(text, 100);
    assert.match(cut, /^a{25}\n… 900 characters left out …\nb{75}$/);
    assert.equal(bounded(text, 0), '\n… 1000 characters left out …\n');
  });
});
