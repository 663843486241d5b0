import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deletion, ipvsSets, virtualServices } from '../../../src/services/plan/predecessor.ts';

test('virtual services are read as the kernel prints them, and deleted by name', () => {
  const text = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr 
  -> C0000207:192B      Masq    1      0          0         
UDP  0A60000A:0035 rr 
TCP  [fd00:0096:0000:0000:0000:0000:0000:000a]:0050 rr 
  -> [fd00:0244:0000:0000:0000:0000:0000:0005]:1F90      Masq    1      0          0         
FWM  00000001 rr 
`;
  const services = virtualServices(text);
  assert.deepEqual(services.map(deletion), [
    ['-D', '-t', '10.96.0.1:443'],
    ['-D', '-u', '10.96.0.10:53'],
    ['-D', '-t', '[fd00:0096:0000:0000:0000:0000:0000:000a]:80'],
  ]);
});

test('only kube-proxy’s own sets are meant', () => {
  const own = ['KUBE-LOOP-BACK', 'KUBE-6-CLUSTER-IP', 'KUBE-NODE-PORT-LOCAL-SCTP-HASH', 'KUBE-IPVS-IPS'];
  const others = ['KUBE-ROUTER-x', 'cali40all', 'KUBE-LOOP-BACK-2'];
  assert.deepEqual(ipvsSets([...own, ...others].join('\n')), own);
});
