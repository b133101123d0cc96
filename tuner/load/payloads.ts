/**
 * What is asked of one model: texts, tensors or a body, by the plan and by what the model says of itself.
 *
 * In      the plan of its requests; its inputs where the server tells them; its folder where it is at hand, for the tokenizer
 * Out     a payload by its index
 * Limits  POOL payloads are made and used in turns: making one may take longer than serving it. A trace makes each by its own lengths
 * Errors  Error naming what is missing
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import type { Payload } from '../dialects/dialect.js';
import type { RequestPlan } from '../plan/tune-plan.js';
import { type InputDescription, isTextModel } from '../target/model-description.js';
import type { TraceLine } from './arrivals.js';
import { Prompts } from './prompts.js';
import { RandomTensors, type TensorInput } from './random-tensors.js';

const POOL = 256;
/** In every vocabulary, and far from special tokens. */
const IDS = { first: 300, last: 900 };
const MAX_PROMPT_FILE_BYTES = 256 * 2 ** 20;
/** Ids of embeddings and masks: 0 and 1 are in every vocabulary. */
const USUAL_BELOW = 2;

export type PayloadMaker = (index: number, trace?: TraceLine) => Payload;

export interface PayloadOptions {
  plan: RequestPlan;
  /** null: not known, a text model is assumed. */
  inputs: readonly InputDescription[] | null;
  folder: string | null;
  seed: number;
}

export function payloadMaker({ folder, inputs, plan, seed }: PayloadOptions): PayloadMaker {
  if (plan.body !== null) {
    const body = readFileSync(plan.body.file);
    const payload: Payload = { kind: 'bytes', contentType: plan.body.contentType, body };
    return () => payload;
  }
  const isTensors = inputs === null ? plan.inputs.length > 0 : !isTextModel(inputs);
  if (isTensors) {
    const tensors = new RandomTensors(tensorInputs(plan, inputs ?? []), seed);
    return pooled((index) => tensors.payload(index));
  }
  const prompts = new Prompts({
    seed,
    promptTokens: plan.promptTokens,
    maxNewTokens: plan.outputTokens,
    sharedPrefixTokens: plan.sharedPrefixTokens,
    ids: plan.dialect === 'openai' ? IDS : null,
    countTokens: folder === null ? null : tokenCounter(folder),
    texts: plan.prompts === null ? null : readPrompts(plan.prompts),
  });
  const fromPool = pooled((index) => prompts.payload(index));
  return (index, trace) => (trace === undefined ? fromPool(index) : prompts.payload(index, trace));
}

function pooled(make: (index: number) => Payload): PayloadMaker {
  const pool = Array.from({ length: POOL }, (_, index) => make(index));
  return (index) => pool[index % POOL]!;
}

function tensorInputs(plan: RequestPlan, described: readonly InputDescription[]): TensorInput[] {
  const names =
    described.length > 0 ? described.map(({ name }) => name) : plan.inputs.map(({ name }) => name);
  const unknown = plan.inputs.find(({ name }) => !names.includes(name));
  if (unknown) throw new Error(`the model has no input ${unknown.name}; it has ${names.join(', ')}`);
  return names.map((name) => {
    const given = plan.inputs.find((one) => one.name === name);
    const told = described.find((one) => one.name === name);
    const datatype = given?.datatype ?? told?.datatype;
    if (datatype === undefined)
      throw new Error(`request.inputs: the datatype of ${name} is not known, give it`);
    const shape = given?.shape ?? told?.shape.map((size) => (size === -1 ? 1 : size));
    if (shape === undefined) throw new Error(`request.inputs: the shape of ${name} is not known, give it`);
    const isWhole = /INT|BOOL/.test(datatype);
    return { name, datatype, shape, below: given?.below ?? (isWhole ? USUAL_BELOW : 1) };
  });
}

/** null: there is no tokenizer.json. */
function tokenCounter(folder: string): ((text: string) => number) | null {
  const file = path.join(folder, 'tokenizer.json');
  if (!existsSync(file)) return null;
  const config = path.join(folder, 'tokenizer_config.json');
  const tokenizer = new Tokenizer(
    JSON.parse(readFileSync(file, 'utf8')),
    existsSync(config) ? JSON.parse(readFileSync(config, 'utf8')) : {},
  );
  return (text) => tokenizer.encode(text).ids.length;
}

function readPrompts(file: string): string[] {
  const content = readFileSync(file);
  if (content.length > MAX_PROMPT_FILE_BYTES) {
    throw new Error(`${file} has ${content.length} bytes, ${MAX_PROMPT_FILE_BYTES} may be`);
  }
  const lines = content
    .toString('utf8')
    .split('\n')
    .filter((line) => line.trim() !== '');
  if (lines.length === 0) throw new Error(`${file} has no prompt`);
  return lines.map((line, index) => {
    if (!line.startsWith('{')) return line;
    const value = JSON.parse(line) as { prompt?: unknown };
    if (typeof value.prompt === 'string' && value.prompt !== '') return value.prompt;
    throw new Error(`${file}:${index + 1} has no text \`prompt\``);
  });
}
