import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ipv4 } from '../../../../src/model/address.ts';
import { parseSaved, renderDocument, tableChange } from '../../../../src/services/iptables/plan/document.ts';
import { jumps, tables } from '../../../../src/services/iptables/plan/names.ts';
import { Ruleset } from '../../../../src/services/iptables/plan/ruleset.ts';
import { renderServicePort } from '../../../../src/services/iptables/plan/service-rules.ts';
import { serviceEntries } from '../../../../src/services/plan/table.ts';
import { ServiceTracker } from '../../../../src/services/plan/tracker.ts';
import { simulatedWorld, walk } from '../../../lab/packet-walker.ts';
import { renderOptionsFor } from '../../../lab/service-fixtures.ts';
import { nodeAddress, nodeName, ServiceModel } from '../../../lab/service-model.ts';
import { SimulatedIptables } from '../../../lab/simulated-iptables.ts';

const options = renderOptionsFor(ipv4, { nodeAddresses: [nodeAddress], localhostNodePorts: false });
const local = new Set([nodeAddress, '127.0.0.1']);

/** The proxy's pure parts bound together as the sync loop does, over simulated rules. */
class Machine {
  readonly rules = new SimulatedIptables();
  private readonly ruleset = new Ruleset(options);

  constructor() {
    this.rules.restore(this.document(jumps));
  }

  update(tracker: ServiceTracker, keys: Iterable<string>): void {
    for (const key of keys) {
      const entries = serviceEntries(tracker.state(key), ipv4, { name: nodeName });
      this.ruleset.setService(
        key,
        entries.map((entry) => renderServicePort(entry, options)),
      );
    }
    this.rules.restore(this.document([]));
  }

  private document(missing: typeof jumps): string {
    const changed = this.ruleset.flush();
    return renderDocument(
      tables.map((table) => {
        const installed = parseSaved(this.rules.save(table)).chains;
        const wanted = missing.filter((jump) => jump.table === table);
        return tableChange(
          table,
          changed[table],
          { desired: this.ruleset.chains[table], installed },
          { missing: wanted, surplus: [] },
        );
      }),
    );
  }
}

function run(setting: {
  services: number;
  batches: number;
  changesPerBatch: number;
  questions: number;
  seed: number;
  /** Ask about Services that are not there; where blocks of addresses are guarded they are dropped on purpose. */
  absentToo: boolean;
}): void {
  const model = new ServiceModel(setting.services, setting.seed);
  const tracker = new ServiceTracker();
  const machine = new Machine();
  for (let batch = 0; batch < setting.batches; batch++) {
    for (let change = 0; change < setting.changesPerBatch; change++) tracker.apply(model.change());
    machine.update(tracker, tracker.takeDirty().keys);
    const fresh = new Machine();
    fresh.update(tracker, tracker.keys());
    for (const table of tables) {
      assert.equal(machine.rules.save(table), fresh.rules.save(table), `table ${table} after batch ${batch}`);
    }
    const world = simulatedWorld(machine.rules, local);
    for (let question = 0; question < setting.questions; question++) {
      const { packet, endings } = model.question(setting.absentToo);
      const found = walk(packet, world);
      assert.deepEqual(found, endings, `batch ${batch}: ${JSON.stringify(packet)}`);
    }
  }
}

test('after 60,000 random changes in batches, few Services: rules of a fresh start, packets end where they should', () => {
  run({ services: 40, batches: 600, changesPerBatch: 100, questions: 25, seed: 1, absentToo: true });
});

test('after 40,000 random changes in batches, chains split: rules of a fresh start, packets end where they should', () => {
  run({ services: 1800, batches: 40, changesPerBatch: 1000, questions: 60, seed: 2, absentToo: false });
});
