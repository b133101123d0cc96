/**
 * How a checkpoint is read: by its injection policy, else as its family, else by the automatic policy.
 *
 * In      model folder, config.json; for the automatic policy also the checkpoint's headers
 * Out     ModelShape, and a report that says how it was come by, for the log and `--plan-only`
 * Errors  ServingError CHECKPOINT_INVALID: an injection policy that is wrong; a model that neither is known nor was recognised
 */
import type { ServingError } from '../../proto/errors.js';
import type { PartitionPolicy } from '../../proto/partition.js';
import { findFamily, unknownArchitecture } from '../architectures/registry.js';
import type { CheckpointConfig } from '../checkpoint/config-file.js';
import { checkpointError } from '../checkpoint/json-file.js';
import type { TensorSource } from '../checkpoint/tensor-source.js';
import type { ModelShape } from '../plan/model-shape.js';
import { automaticPolicy } from './automatic-policy.js';
import { type InjectionPolicy, POLICY_FILE, readInjectionPolicy } from './injection-policy.js';
import { whyNotGuessed } from './known-architectures.js';
import { policyShape } from './policy-shape.js';

export interface PolicyReport extends PartitionPolicy {
  recognised: readonly string[];
  /** Null for a family. Written to injection_policy.json it means the same. */
  policy: InjectionPolicy | null;
}

export interface RecognisedModel {
  shape: ModelShape;
  report: PolicyReport;
}

/**
 * @param openTensors the checkpoint's headers, closed again here; null when there is no checkpoint
 * @throws ServingError CHECKPOINT_INVALID
 */
export async function recogniseModel(
  config: CheckpointConfig,
  openTensors: () => TensorSource | null,
): Promise<RecognisedModel> {
  const policy = readInjectionPolicy(config.folder);
  if (policy !== null) {
    const summary = `as ${POLICY_FILE} says`;
    const report: PolicyReport = { kind: 'injection', summary, recognised: [], assumed: [], policy };
    return { shape: policyShape(policy, config), report };
  }
  const family = await findFamily(config);
  if (family !== null) {
    const summary = 'a known family, computed as transformers does';
    const report: PolicyReport = { kind: 'family', summary, recognised: [], assumed: [], policy: null };
    return { shape: family.shape(config), report };
  }
  const reason = whyNotGuessed(config);
  if (reason !== null) throw refused(config, reason);
  const source = openTensors();
  if (source === null) throw await unknownArchitecture(config);
  try {
    const automatic = automaticPolicy(config, source.tensors);
    const summary = 'no known family: recognised by the automatic policy';
    return {
      shape: policyShape(automatic.policy, config),
      report: { kind: 'automatic', summary, ...automatic, assumed: [...automatic.assumed] },
    };
  } finally {
    source.close();
  }
}

function refused(config: CheckpointConfig, reason: string): ServingError {
  const name = config.strings('architectures', [])[0] ?? config.string('model_type', 'this model');
  return checkpointError(
    config.where,
    `${name} is known, and not guessed by its tensors: ${reason}. If its block is one that ${POLICY_FILE} can say, write one into the folder`,
  );
}
