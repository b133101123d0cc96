/**
 * A traced pipeline: a graph of operators, run by the names of its feeds.
 *
 * In      nodes, outputs, examples
 * Out     `run`, for serving or for training; `profile`: the same with a trace in Chrome's format; `save`: a pack
 * Errors  ServingError BAD_REQUEST: a feed that is missing or unknown; what an operator throws, with the operator's name
 */
import { ServingError } from '../proto/errors.js';
import { stateOf } from './op.js';
import type { Value } from './pipeline-value.js';
import { chanceOf, type RunMode } from './run-mode.js';
import type { Node, Source } from './tracing.js';

export type Feeds = Readonly<Record<string, Value>>;
/** One answer, or several by name. */
export type Outputs =
  | { kind: 'one'; from: Source }
  | { kind: 'named'; from: Readonly<Record<string, Source>> };

/** An example, and the answer to it. */
export interface Golden {
  feeds: Feeds;
  output: Value;
}

/** A complete event of chrome://tracing. */
export interface ProfileEvent {
  name: string;
  ph: 'X';
  ts: number;
  dur: number;
  pid: number;
  tid: number;
}

export interface PipelineGraph {
  feeds: readonly string[];
  nodes: readonly Node[];
  outputs: Outputs;
}

type SavePack = (folder: string, graph: PipelineGraph, goldens: readonly Golden[]) => Promise<void>;

export class Pipeline {
  readonly graph: PipelineGraph;
  readonly #goldens: readonly Golden[];
  readonly #save: SavePack;

  /** @param save writes the pack: pack.ts knows how, and makes pipelines itself */
  constructor(graph: PipelineGraph, goldens: readonly Golden[], save: SavePack) {
    this.graph = graph;
    this.#goldens = goldens;
    this.#save = save;
  }

  /** @throws ServingError BAD_REQUEST */
  run(feeds: Feeds, how: RunMode = {}): Promise<Value> {
    return this.#run(feeds, how, null);
  }

  async profile(feeds: Feeds, how: RunMode = {}): Promise<{ output: Value; traceEvents: ProfileEvent[] }> {
    const traceEvents: ProfileEvent[] = [];
    return { output: await this.#run(feeds, how, traceEvents), traceEvents };
  }

  /** Makes the operators ready and runs the examples once. */
  async warmUp(): Promise<void> {
    for (const { feeds } of this.#goldens) await this.run(feeds);
  }

  /** @param folder which must not be there. @throws ServingError */
  save(folder: string): Promise<void> {
    return this.#save(folder, this.graph, this.#goldens);
  }

  async #run(feeds: Feeds, how: RunMode, events: ProfileEvent[] | null): Promise<Value> {
    const { feeds: names, nodes, outputs } = this.graph;
    for (const name of names)
      if (!Object.hasOwn(feeds, name))
        throw bad(`Feed ${name} is missing; the pipeline takes ${names.join(', ')}`);
    for (const name of Object.keys(feeds))
      if (!names.includes(name))
        throw bad(`There is no feed ${name}; the pipeline takes ${names.join(', ')}`);
    // Each begins when its arguments are there: branches run beside each other.
    const results: Promise<Value>[] = [];
    const answerOf = (source: Source): Value | Promise<Value> =>
      'feed' in source ? feeds[source.feed]! : 'node' in source ? results[source.node]! : source.value;
    for (const [index, { args, op }] of nodes.entries()) {
      const result = Promise.all(args.map(answerOf)).then(async (given) => {
        const { kind, ready } = stateOf(op);
        const work = await ready();
        const startedMs = performance.now();
        try {
          return await work(chanceOf(how, index), ...given);
        } catch (error) {
          if (error instanceof ServingError) throw error;
          const { message, stack } = error as Error;
          const failure = bad(`Operator ${index} (${kind.name}) failed: ${message}`);
          failure.stack = stack ?? message;
          throw failure;
        } finally {
          const endMs = performance.now();
          const times = { ts: Math.round(startedMs * 1000), dur: Math.round((endMs - startedMs) * 1000) };
          events?.push({ name: `${index} ${kind.name}`, ph: 'X', ...times, pid: process.pid, tid: index });
        }
      });
      // Whoever needs it is told; nobody may.
      result.catch(() => {});
      results.push(result);
    }
    await Promise.all(results);
    if (outputs.kind === 'one') return answerOf(outputs.from);
    const named = Object.entries(outputs.from).map(
      async ([name, from]) => [name, await answerOf(from)] as const,
    );
    return Object.fromEntries(await Promise.all(named));
  }
}

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
