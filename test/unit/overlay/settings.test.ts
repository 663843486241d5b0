import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import pino from 'pino';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { Contest } from '../../../src/model/contest.ts';
import { TwillError } from '../../../src/model/error.ts';
import { NodeSettings } from '../../../src/overlay/settings.ts';

const log = pino({ level: 'silent' });

/** Settings in memory; those in `sealed` cannot be written. */
function sysctls(values: Record<string, string>, sealed: readonly string[] = []) {
  const write = (name: string, value: string): boolean => {
    const current = values[name];
    if (current === undefined) throw new TwillError('not-found', `the kernel has no sysctl ${name}`);
    if (current === value) return false;
    if (sealed.includes(name)) throw new TwillError('permission', `cannot set sysctl ${name}=${value}`);
    values[name] = value;
    return true;
  };
  return {
    read: (name: string) => values[name],
    list: (folder: string) => [
      ...new Set(
        Object.keys(values).flatMap((name) =>
          name.startsWith(`${folder}/`) ? (name.slice(folder.length + 1).split('/')[0] ?? []) : [],
        ),
      ),
    ],
    write,
    writeOwn: write,
  };
}

const all = (value: string): Record<string, string> => ({
  'net/ipv4/ip_forward': value,
  'net/ipv6/conf/all/forwarding': value,
  'net/bridge/bridge-nf-call-iptables': value,
  'net/bridge/bridge-nf-call-ip6tables': value,
});

describe('settings of the node', () => {
  it('are turned on for the families in use, and only for those', () => {
    const values = all('0');
    const settings = new NodeSettings(log, new Contest(), sysctls(values));
    settings.ensure([ipv4]);
    assert.deepEqual(values, {
      ...all('0'),
      'net/ipv4/ip_forward': '1',
      'net/bridge/bridge-nf-call-iptables': '1',
    });
    settings.ensure([ipv4, ipv6]);
    assert.deepEqual(values, all('1'));
    assert.deepEqual(settings.problems(), []);
    assert.equal(settings.repairs, 0);
  });

  it('interfaces go on listening to routers when IPv6 forwarding is turned on, those that did', () => {
    const of = (name: string, accept: string, forwards = '0'): Record<string, string> => ({
      [`net/ipv6/conf/${name}/accept_ra`]: accept,
      [`net/ipv6/conf/${name}/forwarding`]: forwards,
    });
    const values = { ...all('0'), ...of('eth0', '1'), ...of('eth1.5', '0'), ...of('eth2', '1', '1') };
    const settings = new NodeSettings(log, new Contest(), sysctls(values));
    settings.ensure([ipv4]);
    assert.equal(values['net/ipv6/conf/eth0/accept_ra'], '1');
    settings.ensure([ipv4, ipv6]);
    const accepting = ['eth0', 'eth1.5', 'eth2'].map((name) => values[`net/ipv6/conf/${name}/accept_ra`]);
    assert.deepEqual(accepting, ['2', '0', '1']);
    // Where it is on, the interfaces are as somebody wants them.
    values['net/ipv6/conf/eth0/accept_ra'] = '1';
    settings.ensure([ipv4, ipv6]);
    assert.equal(values['net/ipv6/conf/eth0/accept_ra'], '1');
  });

  it('no forwarding where the interfaces cannot be told first', () => {
    const values: Record<string, string> = {
      ...all('0'),
      'net/ipv6/conf/eth0/accept_ra': '1',
      'net/ipv6/conf/eth0/forwarding': '0',
    };
    const sealed = ['net/ipv6/conf/eth0/accept_ra'];
    const settings = new NodeSettings(log, new Contest(), sysctls(values, sealed));
    settings.ensure([ipv6]);
    assert.equal(values['net/ipv6/conf/all/forwarding'], '0');
    assert.match(settings.problems()[0]!.detail, /accept_ra/);
  });

  it('turned off by somebody are turned on again, and counted', () => {
    const values = all('1');
    const settings = new NodeSettings(log, new Contest(), sysctls(values));
    settings.ensure([ipv4]);
    values['net/ipv4/ip_forward'] = '0';
    settings.ensure([ipv4]);
    assert.equal(values['net/ipv4/ip_forward'], '1');
    assert.equal(settings.repairs, 1);
  });

  it('turned off by somebody are named, those that could never be turned on are not', () => {
    const values = all('0');
    const settings = new NodeSettings(log, new Contest(), sysctls(values, ['net/ipv4/ip_forward']));
    settings.ensure([ipv4]);
    assert.deepEqual(settings.undone(), []);
    values['net/bridge/bridge-nf-call-iptables'] = '0';
    assert.deepEqual(settings.undone(), ['net/bridge/bridge-nf-call-iptables']);
    delete values['net/bridge/bridge-nf-call-iptables'];
    assert.deepEqual(settings.undone(), [], 'a module that was taken away cannot be turned on');
  });

  it('forwarding of single devices: our own are turned on, and again; others are named', () => {
    const values: Record<string, string> = {
      ...all('1'),
      'net/ipv4/conf/flannel.1/forwarding': '0',
      'net/ipv4/conf/eth0/forwarding': '0',
      'net/ipv6/conf/eth0/forwarding': '1',
    };
    const settings = new NodeSettings(log, new Contest(), sysctls(values));
    const own = ['flannel.1', 'cni0'].map((name) => ({ name, families: [ipv4] }));
    const devices = { own, others: ['eth0'] };
    settings.ensure([ipv4]);
    settings.ensureDevices([ipv4, ipv6], devices);
    assert.equal(values['net/ipv4/conf/flannel.1/forwarding'], '1');
    assert.equal(values['net/ipv4/conf/eth0/forwarding'], '0');
    const [problem, ...rest] = settings.problems();
    assert.deepEqual(rest, []);
    assert.equal(problem?.state, 'warning');
    assert.match(problem?.detail ?? '', /net\/ipv4\/conf\/eth0\/forwarding is 0.*set it to 1/);
    values['net/ipv4/conf/flannel.1/forwarding'] = '0';
    values['net/ipv4/conf/eth0/forwarding'] = '1';
    settings.ensure([ipv4]);
    assert.deepEqual(settings.undone(), ['net/ipv4/conf/flannel.1/forwarding']);
    settings.ensureDevices([ipv4, ipv6], devices);
    assert.equal(values['net/ipv4/conf/flannel.1/forwarding'], '1');
    assert.equal(settings.repairs, 1);
    assert.deepEqual(settings.problems(), []);
    settings.ensureDevices([ipv4], { own: [], others: [] });
    values['net/ipv4/conf/flannel.1/forwarding'] = '0';
    assert.deepEqual(settings.undone(), [], 'a device that is not ours any more');
  });

  it('forwarding of an own device that cannot be turned on is named', () => {
    const name = 'net/ipv4/conf/flannel.1/forwarding';
    const settings = new NodeSettings(log, new Contest(), sysctls({ ...all('1'), [name]: '0' }, [name]));
    settings.ensureDevices([ipv4], { own: [{ name: 'flannel.1', families: [ipv4] }], others: [] });
    assert.match(settings.problems()[0]?.detail ?? '', /flannel\.1\/forwarding=1.*pods and those of other/);
    assert.equal(settings.problems()[0]?.state, 'failed');
  });

  it('of a family that is not in use any more are not looked at', () => {
    const values = all('0');
    const settings = new NodeSettings(log, new Contest(), sysctls(values));
    settings.ensure([ipv4, ipv6]);
    settings.ensure([ipv4]);
    Object.assign(values, all('0'));
    assert.deepEqual(settings.undone(), ['net/ipv4/ip_forward', 'net/bridge/bridge-nf-call-iptables']);
  });

  it('that somebody keeps turning off are turned on less and less often', () => {
    const values = all('1');
    const contest = new Contest();
    const settings = new NodeSettings(log, contest, sysctls(values));
    for (let time = 0; time < 6; time++) {
      settings.ensure([ipv4]);
      values['net/ipv4/ip_forward'] = '0';
    }
    assert.deepEqual(contest.contested(performance.now()), ['setting net/ipv4/ip_forward']);
  });

  it('without br_netfilter: a warning that says what to do, gone when the module is there', () => {
    const values: Record<string, string> = {
      'net/ipv4/ip_forward': '1',
      'net/ipv6/conf/all/forwarding': '1',
    };
    const settings = new NodeSettings(log, new Contest(), sysctls(values));
    settings.ensure([ipv4, ipv6]);
    const [problem, ...rest] = settings.problems();
    assert.deepEqual(rest, []);
    assert.equal(problem?.state, 'warning');
    assert.match(problem?.detail ?? '', /br_netfilter.*modprobe br_netfilter/);
    Object.assign(values, all('0'));
    settings.ensure([ipv4, ipv6]);
    assert.deepEqual(settings.problems(), []);
    assert.deepEqual(values, all('1'));
  });

  it('that cannot be written are named: forwarding makes the node not ready', () => {
    const values = all('0');
    const settings = new NodeSettings(log, new Contest(), sysctls(values, ['net/ipv4/ip_forward']));
    settings.ensure([ipv4]);
    const [problem] = settings.problems();
    assert.equal(problem?.state, 'failed');
    assert.match(problem?.detail ?? '', /net\/ipv4\/ip_forward=1.*pods of other nodes/);
  });
});
