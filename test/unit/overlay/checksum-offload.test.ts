import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { spoilsChecksums, wantedChecksumOffload } from '../../../src/overlay/plan/checksum-offload.ts';

describe('checksum offload', () => {
  const releases: [release: string, spoils: boolean][] = [
    ['3.10.0-1127.8.2.el7.x86_64', true],
    ['4.14.180', true],
    ['4.14.181', false],
    ['4.18.0-193.el8.x86_64', true],
    ['4.19.122-flatcar', true],
    ['4.19.123-flatcar', false],
    ['5.3.18-default', true],
    ['5.4.0-150-generic', true],
    ['5.4.41', false],
    ['5.4.300-eks', false],
    ['5.6.12', true],
    ['5.6.13-arch1-1', false],
    ['5.7', false],
    ['5.7.0-rc1', false],
    ['5.15.0-1-amd64', false],
    ['6.1.0-13-cloud-amd64', false],
    ['10.0.1', false],
    ['unknown', false],
  ];
  for (const [release, spoils] of releases)
    it(`kernel ${release}: ${spoils ? 'off' : 'left as it is'}`, () => {
      assert.equal(spoilsChecksums(release), spoils);
      assert.equal(wantedChecksumOffload('auto', release), spoils ? false : undefined);
    });

  it('is what the user says, whatever the kernel', () => {
    for (const release of ['4.4.0', '6.8.0']) {
      assert.equal(wantedChecksumOffload('on', release), true);
      assert.equal(wantedChecksumOffload('off', release), false);
    }
  });
});
