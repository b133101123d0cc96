/**
 * Everything that is needed of a language model before its workers start: shards on disk, manifest, tokenizer, chat template.
 *
 * In      ModelConfig; where shards are kept; the partitioner's program
 * Out     LlmFiles
 * Errors  what the partitioner and the tokenizer report: CHECKPOINT_INVALID, TENSOR_PARALLEL_INVALID, …
 *
 * Degree `max`: a rank wants a GPU, or a core on the CPU, of its own, so the largest degree up to their number that splits
 * the heads evenly; where only 1 does, the largest that the model allows.
 */
import { ServingError } from '../../../proto/errors.js';
import { MAX_WORLD_SIZE } from '../../../proto/limits.js';
import type { Manifest } from '../../../proto/manifest.js';
import type { PartitionPlan } from '../../../proto/partition.js';
import type { TokenTexts } from '../../batching/token-texts.js';
import type { ModelConfig } from '../../config/config.js';
import type { MachineGpus } from '../../machine/machine-gpus.js';
import { usableCores } from '../../machine/machine-limits.js';
import { type PlannedShards, planThenShards, type ShardRequest } from '../../model-store/ensure-shards.js';
import { leaseShards, type ShardLease } from '../../model-store/shard-quota.js';
import type { AnswerFormat } from '../../requests/answer-format.js';
import type { ChatTemplateSource } from '../../text/chat-template.js';
import { Detokenizer } from '../../text/detokenizer.js';
import type { PrepareOptions } from '../engine.js';
import { answerFormatOf } from './answer-format.js';
import { ChatRenderer } from './chat-renderer.js';
import { Constrainer } from './constrainer.js';
import { deviceClassOf } from './device-class.js';
import { kvTypeOf, withKvType } from './kv-type.js';
import { type ModelSizes, sizesOfPlan } from './model-sizes.js';
import { PromptEncoder } from './prompt-encoder.js';
import { TokenizerProcess } from './tokenizer-process.js';

export interface LlmFiles {
  shardFolder: string;
  manifest: Manifest;
  /** What was checked had this text; absent: each rank checks it by itself. */
  manifestSha256?: string;
  texts: TokenTexts;
  encoder: Pick<PromptEncoder, 'encode' | 'close'> &
    Partial<Pick<PromptEncoder, 'encodePiece' | 'encodePair'>>;
  /** Absent: answers cannot be constrained. */
  constrainer?: Pick<Constrainer, 'open' | 'close'>;
  answerFormat?: AnswerFormat | null;
  /** How the model was recognised. */
  plan?: Pick<PartitionPlan, 'architecture' | 'policy'>;
  /** Keys of generation_config.json that would change a text elsewhere, and do nothing here. */
  unservedKeys?: readonly string[];
  /** Absent: nobody deletes them. */
  lease?: ShardLease;
}

/** Where shards are kept, and who makes them. */
export interface ShardTools {
  gpus?: Pick<MachineGpus, 'count' | 'groups'>;
  shardStore: string;
  /** All shards together; absent or 0: no limit. */
  shardStoreMaxBytes?: number;
  partitionerProgram: string;
}

export type LlmPrepareOptions = Omit<PrepareOptions, 'onNeed'> &
  ShardTools & {
    /** Called before anything is written; it may throw OUT_OF_MEMORY. */
    onPlan: (sizes: ModelSizes) => void;
  };

type PlanOptions = ShardTools & { signal: AbortSignal };

/** What can be said against a model before anything is written or loaded: its family, its degree, its task. @throws ServingError */
export async function checkModel(config: ModelConfig, options: PlanOptions): Promise<void> {
  const { plan, shards } = await planOf(config, options);
  shards.abandon();
  checkAsked(config, plan);
}

/** @throws ServingError */
export async function prepareModel(config: ModelConfig, options: LlmPrepareOptions): Promise<LlmFiles> {
  // Plan and tokenizer are processes that start: side by side. A missing tokenizer is told before minutes of partitioning.
  const planning = planOf(config, options);
  planning.catch(() => {});
  const abandon = (): Promise<unknown> =>
    planning.then(
      ({ shards }) => shards.abandon(),
      () => {},
    );
  let tokenizer: TokenizerProcess;
  try {
    tokenizer = await TokenizerProcess.start(config.folder, undefined, config.chatTemplate);
  } catch (error) {
    await abandon();
    throw error;
  }
  let starting: Promise<ChatRenderer> | null = null;
  try {
    const { template } = tokenizer.facts;
    starting = template === null ? null : ChatRenderer.start(template);
    return await prepareShards(config, options, { tokenizer, template, starting, planning });
  } catch (error) {
    await starting?.then(
      (renderer) => renderer.close(),
      () => {},
    );
    await Promise.all([tokenizer.close(), abandon()]);
    throw error;
  }
}

/** What a model is made ready with, side by side. */
interface Starting {
  tokenizer: TokenizerProcess;
  template: ChatTemplateSource | null;
  starting: Promise<ChatRenderer> | null;
  planning: Promise<ChosenPlan>;
}

async function prepareShards(
  config: ModelConfig,
  options: LlmPrepareOptions,
  { planning, starting, template, tokenizer }: Starting,
): Promise<LlmFiles> {
  const [{ plan, shards }, chatRenderer] = await Promise.all([planning, starting]);
  checkAsked(config, plan);
  options.onPlan(withKvType(sizesOfPlan(plan), kvTypeOf(config)));
  const { folder, manifest, manifestSha256 } = await shards.write();
  const { embedding, vocabSize } = manifest.model;
  const texts = new Detokenizer(tokenizer.facts.table);
  const encoder = new PromptEncoder({
    tokenizer,
    chatRenderer,
    vocabSize,
    embedding,
  });
  const { endToken, unservedKeys } = tokenizer.facts;
  const whole = withEndId(manifest, endToken === null ? null : texts.idOf(endToken));
  const { endIds } = whole.model;
  return {
    shardFolder: folder,
    manifest: whole,
    manifestSha256,
    texts,
    encoder,
    constrainer: new Constrainer({ table: tokenizer.facts.table, vocabSize, endIds }),
    answerFormat: await answerFormatOf(config, template, chatRenderer),
    plan,
    unservedKeys,
    // Last: nothing that follows can fail.
    lease: await leaseShards(folder, options.shardStoreMaxBytes ?? 0),
  };
}

/** The tokenizer's own end of text ends one too: chat models are often published with it in tokenizer_config.json alone. */
function withEndId(manifest: Manifest, endId: number | null): Manifest {
  const { model } = manifest;
  if (endId === null || endId >= model.vocabSize || model.endIds.includes(endId)) return manifest;
  return { ...manifest, model: { ...model, endIds: [...model.endIds, endId] } };
}

/** What the configuration asks of a checkpoint, against what it is. @throws ServingError CONFIG_INVALID */
function checkAsked(
  { name, normalize, task }: ModelConfig,
  { hasLabels, isNormalised, textTokens }: PartitionPlan,
): void {
  const own = textTokens === null ? 'text-generation' : hasLabels ? 'text-classification' : 'text-embedding';
  if (task !== null && task !== own) {
    throw new ServingError(
      'CONFIG_INVALID',
      `option.task of ${name} is ${task}, but its checkpoint is a model for ${own}`,
    );
  }
  if (normalize === false && isNormalised) {
    throw new ServingError(
      'CONFIG_INVALID',
      `option.normalize of ${name} is false, but its modules.json brings vectors to length 1`,
    );
  }
}

const shardRequest = (
  config: ModelConfig,
  tp: number,
  { partitionerProgram, shardStore, signal }: PlanOptions,
): ShardRequest => {
  const { activationBits, blockSize, dtype, eightBit, folder, reproducibleDegree, scales, symmetric } =
    config;
  return {
    program: partitionerProgram,
    partition: {
      folder,
      store: shardStore,
      tp,
      dtype,
      scales,
      reproducibleDegree,
      // Where nothing is asked for the partitioner knows best.
      ...(activationBits !== null && { activationBits }),
      ...(blockSize !== null && { blockSize }),
      ...(symmetric !== null && { symmetric }),
      ...(eightBit !== null && { eightBit: [...eightBit] }),
      device: deviceClassOf(config),
    },
    signal,
  };
};

/** Before anything is written for them. @throws ServingError UNSUPPORTED_PLATFORM, CONFIG_INVALID */
function checkGpus(
  { gpus: allowed, name, tensorParallelDegree }: ModelConfig,
  gpus: ShardTools['gpus'],
): void {
  if (gpus === undefined || gpus.count(null) === 0) {
    throw new ServingError(
      'UNSUPPORTED_PLATFORM',
      `option.device of ${name} is cuda, but NVIDIA's driver shows no GPU (the log's first lines say why)`,
    );
  }
  gpus.groups(tensorParallelDegree === 'max' ? 1 : tensorParallelDegree, allowed);
}

/** A plan, and the partitioner that would write its shards: it waits to be told, or to be abandoned. */
interface ChosenPlan {
  plan: PartitionPlan;
  shards: PlannedShards;
}

async function planOf(
  config: ModelConfig,
  options: PlanOptions & Pick<ShardRequest, 'onProgress'> & Pick<PrepareOptions, 'onNotice'>,
): Promise<ChosenPlan> {
  const atDegree = async (degree: number): Promise<ChosenPlan> => {
    const { onNotice, onProgress } = options;
    const request = {
      ...shardRequest(config, degree, options),
      onCalibration: () =>
        onNotice?.(
          'running the model over texts, once for a checkpoint, to see which inputs count when its weights are rounded',
        ),
      ...(onProgress && { onProgress }),
    };
    const shards = await planThenShards(request);
    return { plan: shards.plan, shards };
  };
  if (deviceClassOf(config) === 'cuda') checkGpus(config, options.gpus);
  if (config.tensorParallelDegree !== 'max') return atDegree(config.tensorParallelDegree);
  const most = deviceClassOf(config) === 'cuda' ? (options.gpus?.count(config.gpus) ?? 0) : usableCores();
  let uneven: Awaited<ReturnType<typeof atDegree>> | null = null;
  for (let degree = Math.min(most, MAX_WORLD_SIZE); degree > 1; degree--) {
    try {
      const found = await atDegree(degree);
      if (found.plan.isEven) {
        uneven?.shards.abandon();
        return found;
      }
      if (uneven === null) uneven = found;
      else found.shards.abandon();
    } catch (error) {
      if (error instanceof ServingError && error.code === 'TENSOR_PARALLEL_INVALID') continue;
      uneven?.shards.abandon();
      throw error;
    }
  }
  return uneven ?? atDegree(1);
}
