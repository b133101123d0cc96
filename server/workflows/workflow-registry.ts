/**
 * Registered workflows: each with the models and functions it was registered with, which come and go with it.
 *
 * In      a URL; requests
 * Out     WorkflowService
 * Limits  MAX_WORKFLOWS; runs that have begun get DRAIN_MS when their workflow is unregistered
 * Errors  ALREADY_REGISTERED, MODEL_NOT_FOUND, BAD_REQUEST; those of the files and of loading: nothing is left then
 */

import { existsSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from '../../proto/errors.js';
import { lateImport } from '../../proto/late-import.js';
import type { ModelConfig, ModelRegistration } from '../config/config.js';
import type {
  NodeCall,
  NodeValue,
  WorkflowAnswer,
  WorkflowDescription,
  WorkflowRegistration,
  WorkflowService,
} from '../requests/workflows.js';
import { runWorkflow } from './run-workflow.js';
import { invalid, type WorkflowSpec } from './workflow-spec.js';

const MAX_WORKFLOWS = 256;
const DRAIN_MS = 30_000;
const REMOTE = /^(?!file:)[a-z][a-z0-9+.-]*:/i;
const NAME = /^[\w.-]{1,64}$/;

/** What the server gives. */
export interface WorkflowParts {
  /** @param byRequest within what a request may register. @throws ServingError */
  fetch(url: string, byRequest: boolean): Promise<{ folder: string; release(): Promise<void> }>;
  /** @throws ServingError BAD_REQUEST */
  nameOf(url: string): string;
  /** @throws ServingError CONFIG_INVALID */
  configure(registration: ModelRegistration, folder: string): ModelConfig;
  /** Loads a model until it is closed. @throws ServingError */
  attach(
    model: ModelConfig | (ModelRegistration & { name: string }),
    signal: AbortSignal,
  ): Promise<{ close(): Promise<void> }>;
  /** A model of that name is registered. */
  hasModel(name: string): boolean;
}

interface Workflow {
  name: string;
  url: string;
  spec: WorkflowSpec;
  byOperator: boolean;
  isReady: boolean;
  /** Registered model by what nodes use. */
  models: Map<string, string>;
  attached: { close(): Promise<void> }[];
  runs: Set<Promise<unknown>>;
  stop: AbortController;
  release(): Promise<void>;
}

export class WorkflowRegistry implements WorkflowService {
  readonly #parts: WorkflowParts;
  readonly #workflows = new Map<string, Workflow>();

  constructor(parts: WorkflowParts) {
    this.#parts = parts;
  }

  async register({ after, byOperator = false, name: given, url }: WorkflowRegistration) {
    // A file's URL is its folder's.
    const place = url.replace(/\/workflow\.(?:json|ya?ml)$/i, '') || '/';
    const suggested = this.#parts.nameOf(place);
    const { folder, release } = await this.#parts.fetch(place, !byOperator);
    try {
      const { readWorkflow } = await lateImport(() => import('./read-workflow.js'));
      const spec = readWorkflow(folder);
      const name = given ?? spec.name ?? suggested;
      if (!NAME.test(name))
        throw new ServingError(
          'BAD_REQUEST',
          `${name.slice(0, 64)} is no name: 1 … 64 of letters, digits, _, . and -`,
        );
      if (this.#workflows.has(name) || this.#parts.hasModel(name))
        throw new ServingError('ALREADY_REGISTERED', `Workflow ${name} is already registered.`);
      if (this.#workflows.size >= MAX_WORKFLOWS)
        throw new ServingError('BAD_REQUEST', `At most ${MAX_WORKFLOWS} workflows are registered`);
      const workflow: Workflow = {
        ...{ name, url, spec, release, byOperator, isReady: false, stop: new AbortController() },
        ...{ models: new Map(), attached: [], runs: new Set() },
      };
      this.#workflows.set(name, workflow);
      const ready = (async () => {
        try {
          await after;
          await this.#load(workflow, folder);
        } catch (error) {
          await this.#close(workflow);
          throw ServingError.from(error);
        }
      })();
      // Nobody need wait for it.
      ready.catch(() => {});
      return { name, ready };
    } catch (error) {
      await release();
      throw error;
    }
  }

  async unregister(name: string): Promise<void> {
    const workflow = this.#found(name);
    this.#workflows.delete(name);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, DRAIN_MS);
    });
    await Promise.race([Promise.allSettled(workflow.runs), late]);
    clearTimeout(timer);
    await this.#close(workflow);
  }

  /** The server ends: their models end with the work load manager, and what was unpacked of them is given back here. */
  async close(): Promise<void> {
    const all = [...this.#workflows.values()];
    this.#workflows.clear();
    for (const { stop } of all) stop.abort();
    await Promise.all(all.map((workflow) => workflow.release()));
  }

  find(name: string): WorkflowDescription | null {
    const workflow = this.#workflows.get(name);
    return workflow === undefined ? null : descriptionOf(workflow);
  }

  list(): readonly WorkflowDescription[] {
    return [...this.#workflows.values()].map(descriptionOf).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async run(name: string, request: NodeValue, call: NodeCall, signal: AbortSignal): Promise<WorkflowAnswer> {
    const workflow = this.#found(name);
    const { models, runs, spec, stop } = workflow;
    if (!workflow.isReady)
      throw new ServingError('MODEL_NOT_READY', `Model or workflow is not ready: ${name}`);
    const either = AbortSignal.any([signal, stop.signal]);
    const run = runWorkflow(request, {
      ...{ nodes: spec.nodes, outputs: spec.outputs, call, signal: either },
      modelOf: (uses) => models.get(uses)!,
    });
    return this.#counted(run, runs, either);
  }

  /** It runs until its stream has ended, too. */
  async #counted(
    run: Promise<WorkflowAnswer>,
    runs: Set<Promise<unknown>>,
    signal: AbortSignal,
  ): Promise<WorkflowAnswer> {
    let end = (): void => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    runs.add(ended);
    const leave = (): void => {
      runs.delete(ended);
      end();
    };
    let answer: WorkflowAnswer;
    try {
      answer = await run;
    } catch (error) {
      leave();
      throw error;
    }
    if (answer.kind !== 'stream') {
      leave();
      return answer;
    }
    // A stream that nobody has begun to read never ends by itself.
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    return { ...answer, chunks: untilEnd(answer.chunks, leave) };
  }

  async #load(workflow: Workflow, folder: string): Promise<void> {
    const { byOperator, models, name, spec, stop, url } = workflow;
    const ownName = (one: string): string => `${name}__${one}`.replace(/[^\w.-]/g, '_');
    const attach = async (uses: string, model: Parameters<WorkflowParts['attach']>[0]): Promise<void> => {
      workflow.attached.push(await this.#parts.attach(model, stop.signal));
      models.set(uses, model.name);
    };
    const where = `workflow ${name}`;
    // What came from another host names models as a request does, whoever named it.
    const isTrusted = byOperator && !REMOTE.test(url);
    for (const model of spec.models) {
      const registered = model.name.replace(/\W/g, '_');
      if (model.mayBeThere && this.#parts.hasModel(registered)) {
        models.set(model.name, registered);
        continue;
      }
      const { isOwn, place } = placeOf(folder, model.url);
      const registration = {
        name: ownName(model.name),
        version: null,
        url: place,
        where,
        byOperator: isTrusted,
        arguments: model.keys,
        workflow: { url, folder: isOwn ? folder : null },
      };
      await attach(model.name, registration);
    }
    for (const { exported, file, name: own } of spec.functions) {
      if (!existsSync(path.join(folder, file))) throw invalid(`there is no file ${file} in it`);
      const keys = { engine: 'Handler', 'option.entryPoint': `${file}:${exported}` };
      const registration = {
        name: ownName(own),
        version: null,
        url,
        where,
        byOperator: isTrusted,
        arguments: keys,
      };
      await attach(own, this.#parts.configure(registration, folder));
    }
    workflow.isReady = true;
  }

  async #close(workflow: Workflow): Promise<void> {
    workflow.stop.abort();
    if (this.#workflows.get(workflow.name) === workflow) this.#workflows.delete(workflow.name);
    await Promise.all(workflow.attached.splice(0).map((model) => model.close()));
    await workflow.release();
  }

  #found(name: string): Workflow {
    const workflow = this.#workflows.get(name);
    if (workflow === undefined)
      throw new ServingError('MODEL_NOT_FOUND', `Model or workflow not found: ${name}`);
    return workflow;
  }
}

/** @param end called once, also where the reader leaves early */
async function* untilEnd<T>(chunks: AsyncGenerator<T>, end: () => void): AsyncGenerator<T> {
  try {
    yield* chunks;
  } finally {
    end();
  }
}

/** A model that lies in the workflow's own folder is as the workflow is; any other is as if a request had named it. */
function placeOf(folder: string, url: string): { place: string; isOwn: boolean } {
  const given = url.replaceAll('{model_dir}', folder);
  if (/^[a-z][a-z0-9+.-]*:/i.test(given)) return { place: given, isOwn: false };
  const at = path.resolve(folder, given);
  const inside = path.relative(folder, at);
  const isInside = inside !== '' && !inside.startsWith('..') && !path.isAbsolute(inside);
  if (isInside && existsSync(at)) return { place: at, isOwn: true };
  return { place: given.startsWith('..') ? at : given, isOwn: false };
}

const descriptionOf = ({ models, name, spec, url }: Workflow): WorkflowDescription => ({
  ...{ name, url, version: spec.version, signature: spec.signature },
  nodes: spec.nodes.map((node) => ({
    ...{ name: node.name, model: models.get(node.uses) ?? '', timeoutMs: node.timeoutMs },
    attempts: node.attempts,
    after: [...new Set(node.inputs.flatMap(({ from }) => (from.node === null ? [] : [from.node])))],
  })),
});
