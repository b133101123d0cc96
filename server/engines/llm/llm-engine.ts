/**
 * Language models and encoders, split over ranks: text in, tokens or a vector out.
 *
 * In      a checkpoint folder, or shards that are there
 * Out     Engine
 * Limits  admission.ts: what fits the context and the KV memory
 * Errors  of prepare: CHECKPOINT_INVALID, TENSOR_PARALLEL_INVALID, CONFIG_INVALID, …; of accept: BAD_REQUEST, PROMPT_TOO_LONG,
 *         NO_CHAT_TEMPLATE, CHAT_TEMPLATE_LIMIT, CANCELLED, REQUEST_TIMEOUT
 */
import { ServingError } from '../../../proto/errors.js';
import { kernelLibrary } from '../../../proto/kernel-library.js';
import type { ModelConfig } from '../../config/config.js';
import { systemClock } from '../../jobs/clock.js';
import type { GenerationJob, TokenConstraint } from '../../jobs/generation-job.js';
import { clientLeft } from '../../jobs/job.js';
import type { JobQueue } from '../../jobs/job-queue.js';
import type { MachineGpus } from '../../machine/machine-gpus.js';
import type { MemoryNeed } from '../../machine/memory-need.js';
import type { RankLauncher } from '../../machine/ranks/rank-launcher.js';
import type { AnswerFormat } from '../../requests/answer-format.js';
import type { EmbedRequest } from '../../requests/embed-request.js';
import type { GenerateRequest } from '../../requests/generate-request.js';
import type { ModelTokens } from '../../requests/model-tokens.js';
import type { JobRequest, Task } from '../../requests/service.js';
import type { TextLabels } from '../../requests/text-labels.js';
import type {
  Arrival,
  DeviceClaim,
  Engine,
  FittedModel,
  PreparedModel,
  PrepareOptions,
  Replica,
  ReplicaOptions,
} from '../engine.js';
import { makeGroupParts } from './group-parts.js';
import type { GroupSizes } from './group-sizes.js';
import { kvTypeOf, withKvType } from './kv-type.js';
import { LlmReplica } from './llm-replica.js';
import { makeJob } from './make-job.js';
import { sizesOfManifest } from './model-sizes.js';
import { modelTokens } from './model-tokens.js';
import { checkModel, type LlmFiles, prepareModel, type ShardTools } from './prepare-model.js';
import type { EncodedTexts, EncodeOptions } from './prompt-encoder.js';
import { sizesOnDevice } from './sizes-on-gpus.js';

export interface LlmEngineOptions extends ShardTools {
  /** Absent: there are none, and a model for them is refused. */
  gpus?: MachineGpus;
  launcher: RankLauncher;
}

type WorkerOptions = Pick<LlmEngineOptions, 'launcher' | 'gpus'>;

export class LlmEngine implements Engine {
  readonly #options: LlmEngineOptions;

  constructor(options: LlmEngineOptions) {
    this.#options = options;
  }

  /** Before others load: seconds, and nothing is written. @throws ServingError */
  check(config: ModelConfig, signal: AbortSignal): Promise<void> {
    return checkModel(config, { ...this.#options, signal });
  }

  async prepare(config: ModelConfig, options: PrepareOptions): Promise<PreparedModel> {
    const { onNeed, ...others } = options;
    const files = await prepareModel(config, {
      ...others,
      ...this.#options,
      onPlan: (sizes) =>
        onNeed((freeBytes) => sizesOnDevice(config, sizes, freeBytes, this.#options.gpus ?? null).need),
    });
    return new LlmModel(config, files, this.#options);
  }
}

const taskOf = ({ embedding }: LlmFiles['manifest']['model']): Task =>
  embedding === undefined
    ? 'text-generation'
    : embedding.labels === undefined
      ? 'text-embedding'
      : 'text-classification';

/** What no file of the model says, and was assumed. */
function assumptions(plan: LlmFiles['plan']): string[] {
  if (plan === undefined || plan.policy.assumed.length === 0) return [];
  return [
    `${plan.architecture} is no known family; assumed of its mathematics, which no file shows: ${plan.policy.assumed.join('; ')}. ` +
      'Where one is not so, its texts are wrong: injection_policy.json in its folder can say how it is built',
  ];
}

/** A language model whose files are there. */
export class LlmModel implements PreparedModel {
  readonly task: Task;
  readonly signature = null;
  readonly worldSize: number;
  readonly device: string;
  readonly unservedKeys: readonly string[];
  readonly takenFor?: string;
  readonly notes: readonly string[];
  readonly answerFormat: AnswerFormat | null;
  readonly labels: TextLabels | null;
  readonly #config: ModelConfig;
  readonly #files: LlmFiles;
  readonly #worker: WorkerOptions;

  constructor(config: ModelConfig, files: LlmFiles, worker: WorkerOptions) {
    this.#config = config;
    this.#files = files;
    this.#worker = worker;
    this.task = taskOf(files.manifest.model);
    this.labels = files.manifest.model.embedding?.labels ?? null;
    this.worldSize = files.manifest.worldSize;
    this.device = files.manifest.deviceClass;
    this.unservedKeys = files.unservedKeys ?? [];
    const { plan } = files;
    if (plan !== undefined) {
      const { summary, weights } = plan.policy;
      this.takenFor = `${plan.architecture}: ${summary}${weights === undefined ? '' : `; ${weights}`}`;
    }
    this.answerFormat = files.answerFormat ?? null;
    this.notes = [
      ...assumptions(plan),
      ...layoutNotes(config, files.manifest),
      ...lengthNotes(config, files.manifest),
    ];
  }

  fit(freeBytes: number): FittedModel {
    const { manifest } = this.#files;
    const ofModel = withKvType(sizesOfManifest(manifest), kvTypeOf(this.#config), manifest.perRank.headDim);
    const sizes = sizesOnDevice(this.#config, ofModel, freeBytes, this.#worker.gpus ?? null);
    return new FittedLlm(this.#config, this.#files, this.#worker, this.task, sizes);
  }

  async close(): Promise<void> {
    const { constrainer, encoder, lease } = this.#files;
    await Promise.all([encoder.close(), constrainer?.close(), lease?.giveBack()]);
  }
}

class FittedLlm implements FittedModel {
  readonly contextLength: number;
  readonly tokens: ModelTokens;
  readonly need: MemoryNeed;
  readonly mostReplicas?: number;
  readonly claimDevices?: () => DeviceClaim;
  readonly #config: ModelConfig;
  readonly #files: LlmFiles;
  readonly #worker: WorkerOptions;
  readonly #task: Task;
  readonly #sizes: GroupSizes;

  constructor(config: ModelConfig, files: LlmFiles, worker: WorkerOptions, task: Task, sizes: GroupSizes) {
    this.#config = config;
    this.#files = files;
    this.#worker = worker;
    this.#task = task;
    this.#sizes = sizes;
    this.contextLength = sizes.slotTokens;
    this.tokens = modelTokens(files, sizes.slotTokens);
    this.need = sizes.need;
    const { gpus } = worker;
    if (gpus === undefined || files.manifest.deviceClass !== 'cuda') return;
    const degree = files.manifest.worldSize;
    this.mostReplicas = gpus.groups(degree, config.gpus);
    this.claimDevices = () => gpus.claim(degree, config.gpus);
  }

  async accept(
    request: JobRequest,
    { jobId, receivedAtMs, signal }: Arrival,
  ): Promise<{ job: GenerationJob; promptTokens: number }> {
    const own = this.#ownKind(request);
    const { encoder, manifest } = this.#files;
    const { kvTokens, slotTokens } = this.#sizes;
    const room = own.kind === 'embed' ? slotTokens : Math.min(slotTokens, kvTokens);
    const options = { cutAt: this.#cutAt(own), keepLast: keptTokens(own, room), room, signal };
    const { ids: promptIds, secondTextAt } = await encodeRequest(encoder, own, options);
    if (signal.aborted) throw clientLeft();
    const badWords = await this.#badWords(own, signal);
    const constraint = await this.#constraint(own, signal);
    try {
      const job = makeJob({
        ...{ id: jobId, request: own, promptIds, secondTextAt, info: manifest.model, limits: this.#sizes },
        normalise: this.#config.normalize === true,
        reportCachedTokens: this.#config.reportCachedTokens,
        ...{ receivedAtMs, queuedAtMs: systemClock.nowMs(), badWords, constraint },
      });
      return { job, promptTokens: promptIds.length };
    } catch (error) {
      constraint?.release();
      throw error;
    }
  }

  /** With and without a space before, as vLLM takes them. */
  async #badWords(
    request: GenerateRequest | EmbedRequest,
    signal: AbortSignal,
  ): Promise<(readonly number[])[]> {
    const { encoder } = this.#files;
    const words = request.kind === 'generate' ? (request.sampling.badWords ?? []) : [];
    const texts = words.flatMap((word) => [word, ` ${word.trimStart()}`]);
    const lists = await Promise.all(texts.map((text) => encoder.encodePiece?.(text, signal) ?? []));
    return lists.filter((ids) => ids.length > 0);
  }

  /** @throws ServingError BAD_REQUEST */
  async #constraint(
    request: GenerateRequest | EmbedRequest,
    signal: AbortSignal,
  ): Promise<TokenConstraint | null> {
    if (request.kind !== 'generate' || request.constraint === undefined) return null;
    if (request.ignoreEndIds) {
      throw new ServingError(
        'BAD_REQUEST',
        'ignore_eos together with a form of the answer: it could not end',
      );
    }
    const { constrainer, manifest } = this.#files;
    if (constrainer === undefined || manifest.model.endIds.length === 0) {
      throw new ServingError(
        'BAD_REQUEST',
        'This model has no end token: an answer of a given form could not end',
      );
    }
    return constrainer.open(request.constraint, signal);
  }

  newReplica({ onIdle, queue, ...options }: ReplicaOptions): Replica {
    const parts = makeGroupParts({
      ...{ ...options, ...this.#worker, config: this.#config, model: this.#files, sizes: this.#sizes },
      // What accept() made is all there is in it.
      queue: queue as JobQueue<GenerationJob>,
    });
    return new LlmReplica(parts, onIdle);
  }

  /** @throws ServingError BAD_REQUEST */
  #ownKind(request: JobRequest): GenerateRequest | EmbedRequest {
    const asked =
      request.kind === 'generate'
        ? 'text-generation'
        : request.kind === 'embed'
          ? request.scores === true
            ? 'text-classification'
            : 'text-embedding'
          : null;
    if (request.kind !== 'predict' && request.kind !== 'invoke' && asked === this.#task) return request;
    const { name, version } = this.#config;
    const id = version === null ? name : `${name}:${version}`;
    const can = {
      'text-embedding':
        'is an embedding model: it makes vectors of texts (/v1/embeddings, or "inputs" alone), generates none and has no labels',
      'text-classification':
        'is a classifier: it scores labels (/classify, /score, /rerank, /pooling, or "inputs" alone), generates no text and makes no embeddings',
      'text-generation':
        asked === 'text-embedding'
          ? 'generates text and makes no embeddings: those need an encoder such as BERT (a prompt is "inputs", "prompt" or "messages", not "input")'
          : asked === 'text-classification'
            ? 'generates text and has no labels: those need a classifier such as BertForSequenceClassification'
            : 'generates text: it takes a prompt, no tensors',
      ...{ tensors: '', handler: '' },
    }[this.#task];
    throw new ServingError('BAD_REQUEST', `Model ${id} ${can}`);
  }

  /** Tokens after which a text is cut off; null: it is not. */
  #cutAt(request: GenerateRequest | EmbedRequest): number | null {
    if (request.kind !== 'embed') return null;
    const { maxTokens, truncate, truncateDefault } = request;
    const isCut = truncate ?? this.#config.truncateTexts ?? truncateDefault;
    if (!isCut) return maxTokens;
    return Math.min(maxTokens ?? Number.POSITIVE_INFINITY, this.#sizes.slotTokens);
  }
}

/** Tokens of a longer prompt, its last; null: all. */
function keptTokens(request: GenerateRequest | EmbedRequest, room: number): number | null {
  if (request.kind === 'embed' || request.keptPromptTokens === undefined) return null;
  const { keptPromptTokens, maxNewTokens } = request;
  return keptPromptTokens > 0 ? keptPromptTokens : Math.max(1, room - Math.max(1, maxNewTokens ?? 1));
}

/** The ids of a prompt, of a text, or of two beside each other. */
async function encodeRequest(
  encoder: LlmFiles['encoder'],
  request: GenerateRequest | EmbedRequest,
  options: EncodeOptions,
): Promise<EncodedTexts> {
  if (request.kind === 'generate' || request.pair === undefined) {
    return { ids: await encoder.encode(request.prompt, options), secondTextAt: null };
  }
  const { pair, prompt } = request;
  if (prompt.kind !== 'text' || encoder.encodePair === undefined) {
    throw new ServingError('BAD_REQUEST', 'Two texts beside each other must both be texts, not token ids');
  }
  return encoder.encodePair(prompt.text, pair, options);
}

/** What was asked for and cannot be had: positions that the model does not know. */
function lengthNotes({ maxModelLen }: ModelConfig, { model }: LlmFiles['manifest']): string[] {
  if (maxModelLen === null || maxModelLen <= model.contextLength) return [];
  return [
    `option.max_model_len is ${maxModelLen}, but the model has ${model.contextLength} positions: so many are served`,
  ];
}

/** Why weights are not where our own kernels read them. */
function layoutNotes(
  { dtype, kvCacheDtype, preemptionMode }: ModelConfig,
  manifest: LlmFiles['manifest'],
): string[] {
  const { deviceClass, weightFormat } = manifest;
  if (deviceClass !== 'cpu') {
    const swap =
      preemptionMode === 'swap'
        ? '; option.preemption_mode has no effect: a sequence has the memory of its full length there, and none is preempted'
        : '';
    return [
      `computed on ${deviceClass}, which was not yet run on hardware; weights are held as ${weightFormat.dtype}${swap}`,
    ];
  }
  if (kernelLibrary() !== null) return [];
  const kv = kvCacheDtype === 'fp16' || kvCacheDtype === 'int8' ? '; keys and values are held as fp32' : '';
  const held =
    dtype === weightFormat.dtype || dtype === 'auto'
      ? ''
      : `; dtype ${dtype} is held as ${weightFormat.dtype}`;
  return [
    `no kernels of our own on this machine (or SHARDSERVE_KERNELS=off): ONNX Runtime's operators run the model${held}${kv}`,
  ];
}
