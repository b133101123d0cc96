/**
 * The `post_processor` of tokenizer.json: what a tokenizer sets around the ids of a text: begin of text, [CLS] … [SEP].
 *
 * In      its JSON
 * Out     ids before and after a single text; those around and between two
 * Limits  MAX_FRAME_IDS, MAX_PROCESSORS; that they are ids of the vocabulary is checked by tokenizer-json.ts
 * Errors  CHECKPOINT_INVALID for a kind or field that is not known
 */
import { isObject } from '../../proto/is-object.js';
import { invalidTokenizer, listOf, shown } from './tokenizer-json-parts.js';

export interface Frame {
  before: readonly number[];
  after: readonly number[];
  /** What is set around two texts; null: nobody says, and they are not put beside each other. */
  pair: PairFrame | null;
}

export interface PairFrame {
  before: readonly number[];
  between: readonly number[];
  after: readonly number[];
  /** Where the second kind of token begins, counted from the end of the first text; null: all are of one kind. */
  secondAt: number | null;
}

/** Before and after one text; those in use have one or two. */
export const MAX_FRAME_IDS = 64;

const NOTHING: Frame = { before: [], after: [], pair: { before: [], between: [], after: [], secondAt: 0 } };

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
            pair: isNothing(inner) ? outer.pair : isNothing(outer) ? inner.pair : null,
          }),
          NOTHING,
        );
    case 'BertProcessing':
    case 'RobertaProcessing': {
      const [before, sep] = [[namedId(json, 'cls')], namedId(json, 'sep')];
      const pair =
        json.type === 'BertProcessing'
          ? { before, between: [sep], after: [sep], secondAt: 1 }
          : { before, between: [sep, sep], after: [sep], secondAt: null };
      return { before, after: [sep], pair };
    }
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
  return { before, after, pair: pairTemplate(json) };
}

const isNothing = ({ after, before }: Frame): boolean => before.length + after.length === 0;

/** null: it has none, or one that puts anything in another order. */
function pairTemplate(json: Record<string, unknown>): PairFrame | null {
  if (!Array.isArray(json.pair)) return null;
  const ids: Record<'before' | 'between' | 'after', number[]> = { before: [], between: [], after: [] };
  const texts: unknown[] = [];
  /** By what stands behind the first text: each id, the second text, each id. */
  const kinds: unknown[] = [];
  for (const part of json.pair as unknown[]) {
    const { Sequence: text, SpecialToken: special } = isObject(part) ? part : {};
    if (isObject(text)) {
      texts.push(text.id);
      if (texts.length === 2) kinds.push(text.type_id);
      continue;
    }
    if (!isObject(special)) return null;
    const made = idsOf(json.special_tokens, special.id);
    ids[texts.length === 0 ? 'before' : texts.length === 1 ? 'between' : 'after'].push(...made);
    if (texts.length > 0) kinds.push(...made.map(() => special.type_id));
  }
  if (texts.join() !== 'A,B' || ids.before.length + ids.between.length + ids.after.length > MAX_FRAME_IDS)
    return null;
  const secondAt = kinds.indexOf(1);
  const isRising = kinds.every((kind, at) => kind === (secondAt >= 0 && at >= secondAt ? 1 : 0));
  if (!isRising || secondAt > ids.between.length) return null;
  return { ...ids, secondAt: secondAt < 0 ? null : secondAt };
}

function idsOf(tokens: unknown, name: unknown): number[] {
  const isNamed = isObject(tokens) && typeof name === 'string' && Object.hasOwn(tokens, name);
  const entry = isNamed ? tokens[name] : undefined;
  const ids: unknown = isObject(entry) ? entry.ids : undefined;
  if (!Array.isArray(ids) || !ids.every(isId))
    throw invalidTokenizer(`the post_processor has no ids of ${shown(name)}`);
  return ids;
}
