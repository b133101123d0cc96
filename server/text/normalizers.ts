/**
 * The `normalizer` of tokenizer.json: what happens to a text before it is cut.
 *
 * In      its JSON
 * Out     a function from text to text, equal to Hugging Face tokenizers' (Rust), which @huggingface/tokenizers' only resembles
 * Limits  Unicode's tables are those of Node; the reference's are older for some forms (README.md)
 * Errors  CHECKPOINT_INVALID for a kind or field that is not known
 */
import { isObject } from '../../proto/is-object.js';
import { PrecompiledCharsmap } from './precompiled-charsmap.js';
import {
  bytesToLetters,
  compilePattern,
  invalidTokenizer,
  listOf,
  shown,
  textOf,
} from './tokenizer-json-parts.js';

export type Normalizer = (text: string) => string;

const same: Normalizer = (text) => text;

export function createNormalizer(json: unknown): Normalizer {
  if (json === null || json === undefined) return same;
  if (!isObject(json)) throw invalidTokenizer("'normalizer' is not an object");
  switch (json.type) {
    case 'Sequence': {
      const parts = listOf(json, 'normalizers').map(createNormalizer);
      return (text) => parts.reduce((done, part) => part(done), text);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD': {
      const form = json.type;
      return (text) => text.normalize(form);
    }
    case 'Lowercase':
      return lowercase;
    case 'Strip': {
      const left = json.strip_left === true ? /^\p{White_Space}+/u : null;
      const right = json.strip_right === true;
      return (text) => {
        const rest = left === null ? text : text.replace(left, '');
        return right ? trimEnd(rest) : rest;
      };
    }
    case 'StripAccents':
      return (text) => text.replace(/\p{M}/gu, '');
    case 'Prepend': {
      const prefix = textOf(json, 'prepend');
      return (text) => (text === '' ? '' : prefix + text);
    }
    case 'Replace': {
      const pattern = compilePattern(json.pattern);
      const content = textOf(json, 'content');
      // A function: `$` in the text of a replacement would mean something.
      return (text) => text.replace(pattern, () => content);
    }
    case 'BertNormalizer':
      return bertNormalizer(json);
    case 'Nmt':
      return (text) => text.replace(NMT_REMOVED, '').replace(NMT_SPACES, ' ');
    case 'Precompiled':
      return precompiled(json.precompiled_charsmap);
    case 'ByteLevel':
      return bytesToLetters;
    default:
      throw invalidTokenizer(`Unknown Normalizer type: ${shown(json.type)}`);
  }
}

/** Character by character: without the rule that makes a Σ at the end of a word a ς. */
const lowercase: Normalizer = (text) => text.replaceAll('Σ', 'σ').toLowerCase();

/** As a regular expression, `\p{White_Space}+$` would try every run of spaces of the text. */
function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && /\p{White_Space}/u.test(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end);
}

const BERT_REMOVED = /[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu;
const BERT_SPACES = /[\t\n\r\p{White_Space}]/gu;
/** Between the ranges that Unicode gives, as BERT's own code has them. */
const BERT_CHINESE =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

function bertNormalizer(json: Record<string, unknown>): Normalizer {
  const steps: Normalizer[] = [];
  if (json.clean_text === true)
    steps.push((text) => text.replace(BERT_REMOVED, '').replace(BERT_SPACES, ' '));
  if (json.handle_chinese_chars === true) steps.push((text) => text.replace(BERT_CHINESE, ' $& '));
  if (json.strip_accents ?? json.lowercase === true)
    steps.push((text) => text.normalize('NFD').replace(/\p{Mn}/gu, ''));
  if (json.lowercase === true) steps.push(lowercase);
  return (text) => steps.reduce((done, step) => step(done), text);
}

const NMT_REMOVED = /(?![\0\t\n\f\r\u0080-\u009f])\p{Cc}|[\u008f\u009f]/gu;
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/gu;

/** A cluster of more bytes is looked up character by character. */
const CLUSTER_BYTES = 6;

/** The reference looks a whole cluster up first and takes the SHORTEST prefix of it that is known, where SentencePiece takes the longest. */
function precompiled(base64: unknown): Normalizer {
  if (base64 === null || base64 === undefined || base64 === '') return same;
  if (typeof base64 !== 'string') throw invalidTokenizer("'precompiled_charsmap' is not a text");
  const charsmap = new PrecompiledCharsmap(Buffer.from(base64, 'base64'));
  const ofCluster = (cluster: string): string => {
    const bytes = Buffer.from(cluster, 'utf8');
    const whole = bytes.length < CLUSTER_BYTES ? charsmap.shortest(bytes) : null;
    if (whole !== null) return whole;
    let text = '';
    for (const character of cluster) text += charsmap.shortest(Buffer.from(character, 'utf8')) ?? character;
    return text;
  };
  const ascii = Array.from({ length: 128 }, (_, code) => ofCluster(String.fromCharCode(code)));
  const lineEnd = ofCluster('\r\n');
  return (text) => {
    let result = '';
    let done = 0;
    const addAscii = (end: number): void => {
      for (; done < end; done += 1) {
        if (text.startsWith('\r\n', done)) {
          result += lineEnd;
          done += 1;
        } else result += ascii[text.charCodeAt(done)] as string;
      }
    };
    for (const match of text.matchAll(MAY_CLUSTER)) {
      addAscii(match.index);
      for (const cluster of clustersOf(match[0])) result += ofCluster(cluster);
      done = match.index + match[0].length;
    }
    addAscii(text.length);
    return result;
  };
}

/** Characters beyond ASCII, and single printable ones between and around them: between two of ASCII a cluster ends, but in \r\n. */
const MAY_CLUSTER = /(?:[ -~]?[^\0-\u007f]+)+[ -~]?/gu;
const SEGMENTER = new Intl.Segmenter('en', { granularity: 'grapheme' });
const SEGMENT_UNITS = 1024;

/** Clusters of a text, window by window: V8 takes 15 s for 100 k characters in one. The last cluster of a window may be cut, so it is read again. */
function* clustersOf(text: string): Generator<string> {
  let units = SEGMENT_UNITS;
  for (let start = 0; start < text.length; ) {
    const clusters = Array.from(
      SEGMENTER.segment(text.slice(start, start + units)),
      ({ segment }) => segment,
    );
    const isLast = start + units >= text.length;
    if (!isLast && clusters.length === 1) {
      units *= 2;
      continue;
    }
    if (!isLast) clusters.pop();
    yield* clusters;
    start += clusters.reduce((sum, cluster) => sum + cluster.length, 0);
    units = SEGMENT_UNITS;
  }
}
