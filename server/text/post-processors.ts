/**
 * The `post_processor` of tokenizer.json: what a tokenizer sets around the ids of a text: begin of text, [CLS] … [SEP].
 *
 * In      its JSON
 * Out     ids before and after a single text
 * Limits  MAX_FRAME_IDS, MAX_PROCESSORS; that they are ids of the vocabulary is checked by tokenizer-json.ts; pairs of texts are not made here
 * Errors  CHECKPOINT_INVALID for a kind or field that is not known
 */
import { isObject } from './checkpoint-text-file.js';
import { invalidTokenizer, listOf, shown } from './tokenizer-json-parts.js';

export interface Frame {
  before: readonly number[];
  after: readonly number[];
}

/** Before and after one text; those in use have one or two. */
export const MAX_FRAME_IDS = 64;

const NOTHING: Frame = { before: [], after: [] };

/** A Sequence and the Sequences in it have at most so many; those in use have two or three. */
const MAX_PROCESSORS = 64;

/** @throws ServingError CHECKPOINT_INVALID */
export function createFrame(json: unknown): Frame {
  checkCount(json);
  const frame = readFrame(json);
  const ids = frame.before.length + frame.after.length;
  if (ids > MAX_FRAME_IDS) {
    throw invalidTokenizer(`its post_processor sets ${ids} ids around a text, the limit is ${MAX_FRAME_IDS}`);
  }
  return frame;
}

function checkCount(json: unknown): void {
  let count = 0;
  const open: unknown[] = [json];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (!isObject(next)) continue;
    if (next.type !== 'Sequence') {
      count += 1;
      continue;
    }
    const parts = listOf(next, 'processors');
    count += parts.length === 0 ? 1 : 0;
    if (count + parts.length > MAX_PROCESSORS) {
      throw invalidTokenizer(
        `its post_processor has ${count + parts.length} parts, the limit is ${MAX_PROCESSORS}`,
      );
    }
    open.push(...parts);
  }
}

function readFrame(json: unknown): Frame {
  if (json === null || json === undefined) return NOTHING;
  if (!isObject(json)) throw invalidTokenizer("'post_processor' is not an object");
  switch (json.type) {
    case 'ByteLevel':
      return NOTHING;
    case 'Sequence':
      return listOf(json, 'processors')
        .map(readFrame)
        .reduce(
          (inner, outer) => ({
            before: [...outer.before, ...inner.before],
            after: [...inner.after, ...outer.after],
          }),
          NOTHING,
        );
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { before: [namedId(json, 'cls')], after: [namedId(json, 'sep')] };
    case 'TemplateProcessing':
      return template(json);
    default:
      throw invalidTokenizer(`Unknown PostProcessor type: ${shown(json.type)}`);
  }
}

function namedId(json: Record<string, unknown>, field: string): number {
  const pair = json[field];
  const id: unknown = Array.isArray(pair) ? pair[1] : undefined;
  if (!isId(id)) throw invalidTokenizer(`'${field}' of the post_processor is not a pair of token and id`);
  return id;
}

function isId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0;
}

function template(json: Record<string, unknown>): Frame {
  const before: number[] = [];
  const after: number[] = [];
  let sawText = false;
  for (const part of listOf(json, 'single')) {
    if (isObject(part) && isObject(part.Sequence)) {
      if (sawText || part.Sequence.id !== 'A')
        throw invalidTokenizer('a post_processor that repeats the text');
      sawText = true;
    } else if (isObject(part) && isObject(part.SpecialToken)) {
      for (const id of idsOf(json.special_tokens, part.SpecialToken.id)) (sawText ? after : before).push(id);
    } else {
      throw invalidTokenizer("an entry of the post_processor's 'single' is of no known kind");
    }
  }
  if (!sawText) throw invalidTokenizer('a post_processor without the text');
  return { before, after };
}

function idsOf(tokens: unknown, name: unknown): number[] {
  const isNamed = isObject(tokens) && typeof name === 'string' && Object.hasOwn(tokens, name);
  const entry = isNamed ? tokens[name] : undefined;
  const ids: unknown = isObject(entry) ? entry.ids : undefined;
  if (!Array.isArray(ids) || !ids.every(isId))
    throw invalidTokenizer(`the post_processor has no ids of ${shown(name)}`);
  return ids;
}
