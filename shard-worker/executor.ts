/**
 * Runs the manifest's program over the packed tokens of one step, one op at a time.
 *
 * In      a shard folder, its manifest, this rank; then per step the spans (which tokens of which sequence)
 * Out     what the manifest's program makes of the wanted rows: logits, float32 [rows, vocabPerRank], of this rank's vocabulary
 *         slice; or, of an embedding model, whole vectors, float32 [rows, dimensions]
 * Limits  maxStepTokens tokens and maxRows logit rows a step: the buffers are reserved for so many
 * Errors  SHARDS_INVALID: shards for another device, or for kernels that the device does not have; CollectiveError from an all-reduce; an Error from ONNX Runtime; assertions
 *
 * The ops are exposed one by one so that a test can run n ranks in one process in lockstep.
 */
import assert from 'node:assert/strict';
import { setImmediate as immediate } from 'node:timers/promises';
import { ServingError } from '../proto/errors.js';
import type { AttendOp, Manifest, ProgramOp, RunOp } from '../proto/manifest.js';
import type { Collective } from './collective/collective.js';
import { createHostAttention, createRemoteAttention, type StepAttends } from './create-attention.js';
import type { Device, Segment, SegmentBinding, TensorHandle } from './device/device.js';
import type { KvCache } from './kv-cache.js';
import { mergeProgram } from './merge-program.js';
import { pool } from './pooling.js';
import type { LoadModel } from './remote-attention.js';
import { RemoteKvCache } from './remote-kv-cache.js';
import { RemoteStepBuffers } from './remote-step-buffers.js';
import type { Sequence } from './sequence.js';
import { readSegment } from './shard-files.js';
import type { Span } from './span.js';
import { HostStepBuffers, type StepBuffers } from './step-buffers.js';
import { StepMemory } from './step-memory.js';

export interface ExecutorOptions {
  manifest: Manifest;
  shardFolder: string;
  rank: number;
  device: Device;
  collective: Collective;
  /** The device's kind. */
  kvCache: KvCache | RemoteKvCache;
  maxStepTokens: number;
  maxRows: number;
  /** Runs of small steps that come again are captured where the device can (default). */
  capturesRuns?: boolean;
}

/** Tensor handles and segment bindings for one (tokens, rows). */
interface Shape {
  key: string;
  tensors: TensorHandle[];
  /** By op index; null where the op is not a run. */
  bindings: (SegmentBinding | null)[];
  /** Steps that had it. */
  steps: number;
}

/** A span's token belongs to the second of two texts. */
const isSecondText = ({ position, sequence }: Span, index: number): boolean =>
  sequence.secondTextAt !== null && position + index >= sequence.secondTextAt;

/** What a run op runs. */
interface Run {
  segment: Segment;
  /** Its rows are wanted rows, not tokens. */
  makesRows: boolean;
}

const NO_KERNELS =
  'the shards are laid out for our own kernels, which this machine does not have (or SHARDSERVE_KERNELS=off says so); they are written anew where the server makes sure of them';

/** Shapes kept bound: decode steps alternate between few, prefill chunks come in many sizes. */
const MAX_BOUND_SHAPES = 64;
/** Runs are captured when a step of a shape comes for the second time, of up to so many tokens: decode steps do. */
const CAPTURED_STEP = 2;
const MAX_CAPTURED_TOKENS = 32;

export class Executor {
  readonly program: readonly ProgramOp[];
  /** Its rows are vectors of texts, no logits. */
  readonly makesVectors: boolean;
  readonly #options: ExecutorOptions;
  /** Graphs that are not the shards' own. */
  readonly #models: ReadonlyMap<string, Uint8Array>;
  readonly #segments = new Map<string, Segment>();
  /** By op index, null where the op is not a run. */
  #runs: readonly (Run | null)[] = [];
  readonly #shapes = new Map<string, Shape>();
  #buffers!: StepBuffers;
  #attention!: StepAttends;
  #stepMemory!: StepMemory;
  #shape: Shape | null = null;
  #step = 0;
  #spans: readonly Span[] = [];
  #tokens = 0;
  #rows = 0;

  constructor(options: ExecutorOptions) {
    this.#options = options;
    const { device, manifest, rank, shardFolder } = options;
    const merged = device.isRemote
      ? mergeProgram(manifest, (segment) => readSegment(shardFolder, rank, segment))
      : { program: manifest.program, models: new Map<string, Uint8Array>() };
    this.program = merged.program;
    this.#models = merged.models;
    this.makesVectors = options.manifest.model.embedding !== undefined;
  }

  /** Load every segment; `onSegment` is told after each, and what it sends can leave before the next. */
  async load(onSegment: (done: number, total: number) => void = () => {}): Promise<void> {
    const { device, manifest } = this.#options;
    if (manifest.deviceClass !== device.deviceClass) {
      const classes = `the shards are for ${manifest.deviceClass}, this rank computes on ${device.deviceClass}`;
      throw new ServingError('SHARDS_INVALID', classes);
    }
    const hasKernels = !device.isRemote && device.hasKernels;
    if (manifest.weightFormat.layout === 'panels' && !hasKernels) {
      throw new ServingError('SHARDS_INVALID', NO_KERNELS);
    }
    const setUp = this.#setUp(device);
    this.#stepMemory = new StepMemory({ ...this.#options, buffers: this.#buffers.tokenBuffers() });
    const wanted = this.program.filter((op): op is RunOp => op.op === 'run');
    const total = wanted.length + 1;
    let done = 0;
    for (const { inputs, outputs, segment } of wanted) {
      assert(!this.#segments.has(segment), `segment ${segment} occurs twice in the program`);
      const names = [Object.keys(inputs), Object.keys(outputs)] as const;
      this.#segments.set(segment, this.#loadSegment(segment, ...names, this.#options.capturesRuns !== false));
      onSegment(++done, total);
      this.#stepMemory.afterSegment(done, this.#options.shardFolder);
      await immediate();
    }
    this.#runs = this.program.map((op) => {
      if (op.op !== 'run') return null;
      const makesRows = Object.values(op.outputs).some((name) => this.#buffers.spec(name).first === 'rows');
      return { segment: this.#segment(op.segment), makesRows };
    });
    this.#attention = setUp();
    onSegment(++done, total);
  }

  /** Set the step up: ids, positions and wanted rows are written, shapes bound. */
  begin(step: number, spans: readonly Span[]): void {
    const { io } = this.#options.manifest;
    const ids = this.#buffers.int64(io.ids);
    const positions = this.#buffers.int64(io.positions);
    const rowIndex = this.#buffers.int64(io.rows);
    const kinds = io.kinds === undefined ? null : this.#buffers.int64(io.kinds);
    let tokens = 0;
    let rows = 0;
    for (const span of spans) {
      assert.equal(span.offset, tokens, 'spans lie side by side');
      const positionOffset = this.positionOffset(span.sequence);
      for (let index = 0; index < span.count; index++) {
        ids[tokens] = BigInt(span.sequence.idAt(span.position + index));
        positions[tokens] = BigInt(span.position + index + positionOffset);
        if (kinds !== null) kinds[tokens] = isSecondText(span, index) ? 1n : 0n;
        tokens++;
      }
      for (let row = tokens - span.outputRows; row < tokens; row++) rowIndex[rows++] = BigInt(row);
    }
    assert(tokens > 0 && tokens <= this.#options.maxStepTokens, `${tokens} tokens in a step`);
    assert(rows <= this.#options.maxRows, `${rows} logit rows in a step`);
    this.#step = step;
    this.#spans = spans;
    this.#tokens = tokens;
    this.#rows = rows;
    this.#shape = this.#bindShape(tokens, rows);
    // Here, since captured runs run: nothing of this step is in the buffers yet.
    if (++this.#shape.steps === CAPTURED_STEP && tokens <= MAX_CAPTURED_TOKENS) this.#capture(this.#shape);
    this.#buffers.send(io.ids, tokens);
    this.#buffers.send(io.positions, tokens);
    this.#buffers.send(io.rows, rows);
    if (io.kinds !== undefined) this.#buffers.send(io.kinds, tokens);
    this.#attention.begin?.(spans);
  }

  /** Run one op of the step. Ops run in order, each once. */
  runOp(index: number): void | Promise<void> {
    const op = this.program[index];
    assert(op, `op ${index} of ${this.program.length}`);
    switch (op.op) {
      case 'run':
        this.#run(index);
        return;
      case 'attend':
        this.#attend(op);
        return;
      case 'all-reduce':
        return this.#buffers.addRanks({ step: this.#step, op: index }, op.partial, op.sum, this.#tokens);
      case 'pool': {
        const { columns } = this.#buffers.spec(op.hidden);
        this.#buffers.fetch(op.hidden, this.#tokens);
        pool(
          op.poolings,
          this.#spans,
          this.#buffers.float32(op.hidden),
          this.#buffers.float32(op.pooled),
          columns,
        );
        this.#buffers.send(op.pooled, this.#rows);
        return;
      }
    }
  }

  /** All ops of the step. Returns the microseconds spent in all-reduces, waiting for the other ranks included. */
  async run(): Promise<number> {
    let collectiveNs = 0n;
    for (let index = 0; index < this.program.length; index++) {
      const op = this.program[index];
      if (op?.op !== 'all-reduce') {
        // The host pools.
        if (op?.op === 'pool') await this.#buffers.settle();
        this.runOp(index);
        continue;
      }
      const started = process.hrtime.bigint();
      const pending = this.runOp(index);
      if (pending) await pending;
      collectiveNs += process.hrtime.bigint() - started;
    }
    const settling = this.#buffers.settle();
    if (settling) await settling;
    const { output } = this.#options.manifest.io;
    this.#buffers.fetch(output, this.#buffers.spec(output).first === 'tokens' ? this.#tokens : this.#rows);
    this.#stepMemory.afterStep(this.#tokens);
    return Number(collectiveNs / 1000n);
  }

  /** What only loading needed goes back to the system: once, after the first steps. */
  trim(): void {
    const { manifest, shardFolder } = this.#options;
    this.#stepMemory.afterLoad(manifest, shardFolder);
  }

  /** Logits, or the vector, or its tokens' vectors, of one wanted row (span by span, in the order of their tokens): a view. */
  output(row: number): Float32Array {
    assert(row < this.#rows, `row ${row} of ${this.#rows}`);
    const { output } = this.#options.manifest.io;
    const { columns, first } = this.#buffers.spec(output);
    if (first === 'tokens') {
      const span = this.#spans.filter(({ outputRows }) => outputRows > 0)[row];
      assert(span);
      return this.#buffers
        .float32(output)
        .subarray(span.offset * columns, (span.offset + span.count) * columns);
    }
    return this.#buffers.float32(output).subarray(row * columns, (row + 1) * columns);
  }

  /** All of a buffer that has one row: a view. */
  row(name: string): Float32Array {
    assert(this.#buffers.spec(name).first === 'one', `${name} has more than a row`);
    return this.#buffers.float32(name);
  }

  /** Where a sequence's positions begin in the rotary tables: the same from its first step to its last. */
  positionOffset(sequence: Pick<Sequence, 'promptIds' | 'maxNewTokens'>): number {
    const { longContext } = this.#options.manifest;
    if (longContext === undefined) return 0;
    const most = sequence.promptIds.length + sequence.maxNewTokens;
    return most > longContext.after ? longContext.positionOffset : 0;
  }

  /** Buffers, by the device's kind. @returns how attention is made, once the program's segments are loaded */
  #setUp(device: Device): () => StepAttends {
    const { kvCache } = this.#options;
    const loadSegment = this.#loadSegment.bind(this);
    if (device.isRemote) {
      assert(kvCache instanceof RemoteKvCache);
      const buffers = new RemoteStepBuffers({ ...this.#options, device });
      this.#buffers = buffers;
      const { rank, shardFolder } = this.#options;
      const modelOf = (segment: string): Uint8Array => readSegment(shardFolder, rank, segment);
      const loadModel: LoadModel = (model, ...names) => device.loadSegment(model, shardFolder, ...names);
      const load = { loadSegment, modelOf, loadModel };
      return () => createRemoteAttention({ ...this.#options, device, kvCache, buffers, ...load });
    }
    assert(!(kvCache instanceof RemoteKvCache));
    const buffers = new HostStepBuffers({ ...this.#options, device });
    this.#buffers = buffers;
    return () => createHostAttention({ ...this.#options, device, kvCache, buffers, loadSegment });
  }

  #loadSegment(
    segment: string,
    inputs: readonly string[],
    outputs: readonly string[],
    mayCapture = false,
  ): Segment {
    const { device, rank, shardFolder } = this.#options;
    const model = this.#models.get(segment) ?? readSegment(shardFolder, rank, segment);
    return device.loadSegment(model, shardFolder, inputs, outputs, mayCapture);
  }

  /** The bindings for this shape: kept ones, or the least recently used ones bound anew. */
  #bindShape(tokens: number, rows: number): Shape {
    const key = `${tokens}/${rows}`;
    const kept = this.#shapes.get(key);
    if (kept) {
      this.#shapes.delete(key);
      this.#shapes.set(key, kept);
      return kept;
    }
    const shape = this.#recycledShape(key);
    const tensors = this.#buffers.tensors(tokens, rows);
    shape.tensors = [...tensors.values()];
    this.program.forEach((op, index) => {
      const binding = shape.bindings[index];
      if (op.op !== 'run' || !binding || (rows === 0 && this.#runs[index]?.makesRows)) return;
      Object.values(op.inputs).forEach((name, input) => {
        binding.setInput(input, tensors.get(name) ?? assert.fail(`input ${name}`));
      });
      Object.values(op.outputs).forEach((name, output) => {
        binding.setOutput(output, tensors.get(name) ?? assert.fail(`output ${name}`));
      });
    });
    this.#shapes.set(key, shape);
    return shape;
  }

  #recycledShape(key: string): Shape {
    const [oldestKey, oldest] = this.#shapes.entries().next().value ?? [];
    if (this.#shapes.size < MAX_BOUND_SHAPES || !oldest || oldestKey === undefined) {
      const bindings = this.program.map((op) =>
        op.op === 'run' ? this.#segment(op.segment).newBinding() : null,
      );
      return { key, tensors: [], bindings, steps: 0 };
    }
    this.#shapes.delete(oldestKey);
    for (const tensor of oldest.tensors) this.#options.device.releaseTensor(tensor);
    return { key, tensors: [], bindings: oldest.bindings, steps: 0 };
  }

  #capture({ bindings }: Shape): void {
    if (this.#options.capturesRuns === false) return;
    bindings.forEach((binding, index) => {
      const run = this.#runs[index];
      if (binding === null || !run || (run.makesRows && this.#rows === 0)) return;
      run.segment.capture?.(binding);
    });
  }

  #segment(name: string): Segment {
    const segment = this.#segments.get(name);
    assert(segment, `segment ${name}`);
    return segment;
  }

  #run(index: number): void {
    const run = this.#runs[index];
    assert(run);
    const rows = run.makesRows ? this.#rows : this.#tokens;
    // What makes rows of logits has nothing to do in a step that wants none.
    if (rows === 0) return;
    const binding = this.#shape?.bindings[index];
    assert(binding);
    run.segment.run(binding);
  }

  #attend(op: AttendOp): void {
    this.#attention.attendAll(this.#spans, op.layer, op.window, op.piece ?? null);
  }
}
