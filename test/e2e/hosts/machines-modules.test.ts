// Modules of a kernel that has some: this machine's may have none.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runInMachine } from '../../lab/machine.ts';
import { podSpecOf, readManifests } from '../../lab/manifests.ts';

const modules = ['vxlan', 'br_netfilter', 'nf_conntrack'];

test('load-modules of daemonset.yaml loads nothing without SYS_MODULE, and all with nothing else', async () => {
  const pod = podSpecOf(readManifests('daemonset.yaml'), 'twill-agent');
  const {
    command = [],
    args = [],
    securityContext,
  } = pod.initContainers!.find(({ name }) => name === 'load-modules')!;
  assert.deepEqual(securityContext?.capabilities?.add, ['SYS_MODULE']);
  const quoted = [...command, ...args].map((word) => `'${word}'`).join(' ');
  // The machine's modprobe is in /run.
  const script = `
    PATH=/run:$PATH
    for rights in -all -all,+sys_module; do
      setpriv --no-new-privs --inh-caps=-all --bounding-set=$rights ${quoted} || exit 1
      for module in ${modules.join(' ')}; do
        [ -d /sys/module/$module ] && echo "with $rights: $module"
      done
    done
    true`;
  const said = await runInMachine(`echo ${Buffer.from(script).toString('base64')} | base64 -d | sh`);
  assert.deepEqual(
    Array.from(said.matchAll(/^with (\S+): (\S+?)\r?$/gm), ([, rights, module]) => `${rights} ${module}`),
    modules.map((module) => `-all,+sys_module ${module}`),
    said,
  );
});
