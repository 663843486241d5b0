import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkAgreement } from '../../lab/trace-agreement.ts';

/** In all; `TWILL_TRACE_CASES=1000` asks more than there is time for in every run. */
const cases = Number(process.env.TWILL_TRACE_CASES ?? 100);

for (const [index, variant] of (['nft', 'legacy'] as const).entries())
  test(`${cases / 2} random packets, iptables-${variant}: endpoints, shares, deaths and masquerade are those of real connections`, async (t) => {
    const agreement = await checkAgreement({ variant, cases: Math.ceil(cases / 2), seed: 11 + index });
    t.diagnostic(JSON.stringify(agreement));
    assert.ok(agreement.ofLimit < 1, `shares differ: ${agreement.ofLimit} of what chance may do`);
    for (const kind of ['spread', 'died', 'masqueraded'] as const)
      assert.ok(agreement[kind] > 0, `no case of kind ${kind}`);
  });
