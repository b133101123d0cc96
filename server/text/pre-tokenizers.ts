/**
 * The `pre_tokenizer` of tokenizer.json: cuts a normalized text into the pieces that the model sees one by one.
 *
 * In      its JSON
 * Out     a function from pieces to pieces, equal to Hugging Face tokenizers' (Rust): all five behaviours of a split, Unicode's digits,
 *         words and punctuation, where @huggingface/tokenizers knows ASCII's and two behaviours
 * Limits  patterns are the checkpoint's own: one that backtracks without end is not stopped
 * Errors  CHECKPOINT_INVALID for a kind or field that is not known
 */
import { isObject } from '../../proto/is-object.js';
import {
  bytesToLetters,
  compilePattern,
  invalidTokenizer,
  listOf,
  shown,
  someText,
  textOf,
} from './tokenizer-json-parts.js';

export interface Pieces {
  texts: string[];
  /** Whether the first piece stands at the start of the whole text. */
  atStart: boolean;
}

export type PreTokenizer = (pieces: Pieces) => Pieces;

type Behavior = 'Removed' | 'Isolated' | 'MergedWithPrevious' | 'MergedWithNext' | 'Contiguous';

const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}';
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu;
/** GPT-2's own, with Unicode's white space: JavaScript's \s knows no U+0085 and takes U+FEFF for a space. */
const GPT2 =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

export function createPreTokenizer(json: unknown): PreTokenizer {
  if (json === null || json === undefined) return (pieces) => pieces;
  if (!isObject(json)) throw invalidTokenizer("'pre_tokenizer' is not an object");
  switch (json.type) {
    case 'Sequence': {
      const parts = listOf(json, 'pretokenizers').map(createPreTokenizer);
      return (pieces) => parts.reduce((done, part) => part(done), pieces);
    }
    case 'ByteLevel':
      return byteLevel(json.add_prefix_space !== false, json.use_regex !== false);
    case 'Split':
      return splitter(compilePattern(json.pattern), behaviorOf(json.behavior), json.invert === true);
    case 'Digits':
      return splitter(/\p{N}/gu, json.individual_digits === true ? 'Isolated' : 'Contiguous');
    case 'Punctuation':
      return splitter(PUNCTUATION, behaviorOf(json.behavior ?? 'Isolated'));
    case 'Whitespace':
      return splitter(new RegExp(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`, 'gu'), 'Removed', true);
    case 'WhitespaceSplit':
      return splitter(/\p{White_Space}/gu, 'Removed');
    case 'CharDelimiterSplit':
      return splitter(compilePattern({ String: textOf(json, 'delimiter') }), 'Removed');
    case 'BertPreTokenizer': {
      const words = splitter(/\p{White_Space}/gu, 'Removed');
      const marks = splitter(PUNCTUATION, 'Isolated');
      return (pieces) => marks(words(pieces));
    }
    case 'Metaspace':
      return metaspace(json);
    default:
      throw invalidTokenizer(`Unknown PreTokenizer type: ${shown(json.type)}`);
  }
}

function behaviorOf(value: unknown): Behavior {
  const known: readonly Behavior[] = [
    'Removed',
    'Isolated',
    'MergedWithPrevious',
    'MergedWithNext',
    'Contiguous',
  ];
  const found = known.find((name) => name.toLowerCase() === shown(value).replaceAll('_', '').toLowerCase());
  if (found === undefined) throw invalidTokenizer(`Unknown behavior of a split: ${shown(value)}`);
  return found;
}

function byteLevel(addPrefixSpace: boolean, useRegex: boolean): PreTokenizer {
  const split = useRegex ? splitter(GPT2, 'Isolated') : (pieces: Pieces) => pieces;
  return (pieces) => {
    const texts = addPrefixSpace
      ? pieces.texts.map((text) => (text.startsWith(' ') ? text : ` ${text}`))
      : pieces.texts;
    const done = split({ ...pieces, texts });
    return { ...done, texts: done.texts.map(bytesToLetters) };
  };
}

function metaspace(json: Record<string, unknown>): PreTokenizer {
  const mark = json.replacement === undefined ? '▁' : someText(json, 'replacement');
  const scheme = json.prepend_scheme ?? (json.add_prefix_space === false ? 'never' : 'always');
  if (scheme !== 'always' && scheme !== 'first' && scheme !== 'never')
    throw invalidTokenizer(`Unknown prepend_scheme: ${shown(scheme)}`);
  const split =
    json.split === false
      ? (pieces: Pieces) => pieces
      : splitter(compilePattern({ String: mark }), 'MergedWithNext');
  return ({ texts, atStart }) =>
    split({
      atStart,
      texts: texts.map((text, index) => {
        const marked = text.replaceAll(' ', () => mark);
        const prepend = scheme === 'always' || (scheme === 'first' && atStart && index === 0);
        return prepend && !marked.startsWith(mark) ? mark + marked : marked;
      }),
    });
}

interface Span {
  start: number;
  end: number;
  isMatch: boolean;
}

function splitter(pattern: RegExp, behavior: Behavior, invert = false): PreTokenizer {
  return ({ texts, atStart }) => {
    const done: string[] = [];
    let firstAtStart = false;
    for (const [index, text] of texts.entries()) {
      const spans = behave(spansOf(text, pattern, invert), behavior);
      for (const { start, end } of spans) {
        if (done.length === 0) firstAtStart = atStart && index === 0 && start === 0;
        done.push(text.slice(start, end));
      }
    }
    return { texts: done, atStart: firstAtStart };
  };
}

function spansOf(text: string, pattern: RegExp, invert: boolean): Span[] {
  const spans: Span[] = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    const start = match.index;
    if (start > end) spans.push({ start: end, end: start, isMatch: invert });
    end = start + match[0].length;
    if (end > start) spans.push({ start, end, isMatch: !invert });
  }
  if (end < text.length) spans.push({ start: end, end: text.length, isMatch: invert });
  return spans;
}

function behave(spans: Span[], behavior: Behavior): Span[] {
  switch (behavior) {
    case 'Isolated':
      return spans;
    case 'Removed':
      return spans.filter((span) => !span.isMatch);
    case 'Contiguous':
      return merge(spans, (previous, span) => previous.isMatch === span.isMatch);
    case 'MergedWithPrevious':
      return merge(spans, (previous, span) => span.isMatch && !previous.isMatch);
    case 'MergedWithNext':
      return merge(spans, (previous, span) => previous.isMatch && !span.isMatch);
  }
}

/** Joins a span to the one before it where the two, as they were found, belong together. */
function merge(spans: Span[], together: (previous: Span, span: Span) => boolean): Span[] {
  const merged: Span[] = [];
  for (const [index, span] of spans.entries()) {
    const previous = spans[index - 1];
    const last = merged.at(-1);
    if (previous !== undefined && last !== undefined && together(previous, span)) last.end = span.end;
    else merged.push({ ...span });
  }
  return merged;
}
