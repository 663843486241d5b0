import { after, before, suite, test } from 'node:test';
import { checks } from '../lab/checks.ts';
import { Lab } from '../lab/lab.ts';
import { playScenario, type Scenario } from '../lab/scenario.ts';

suite('a cluster of three nodes', () => {
  let lab: Lab;
  let scenario: Scenario;
  before(async () => {
    lab = await Lab.start({ nodes: 3 });
    scenario = await playScenario(lab);
  });
  after(async () => {
    await lab?.stop();
  });
  for (const { name, run } of checks)
    test(name, async (context) => {
      context.diagnostic(await run(scenario));
    });
});
