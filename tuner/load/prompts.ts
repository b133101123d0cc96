/**
 * Prompts of given lengths, no two alike unless a shared beginning is asked for.
 *
 * In      lengths in tokens; a tokenizer that counts, where there is one; real texts, where they are given
 * Out     TextPayloads, the same for a seed
 * Limits  without a tokenizer a prompt is ids where the protocol takes ids, else words: then a length means words, and isCounted says so
 * Why     two prompts alike would be answered from a prefix cache, and nobody's users ask one question for ever
 */
import type { TextPayload } from '../dialects/dialect.js';
import { Random } from './random.js';
import { drawLength, type LengthDistribution } from './token-lengths.js';

export interface PromptOptions {
  seed: number;
  promptTokens: LengthDistribution;
  maxNewTokens: LengthDistribution;
  /** Every prompt begins with so many, the same in all. */
  sharedPrefixTokens: number;
  /** Ids without a tokenizer: drawn from [first, last]. */
  ids: { first: number; last: number } | null;
  /** Tokens of a text; null: not known. */
  countTokens: ((text: string) => number) | null;
  /** Real prompts in turns; lengths are then only those of answers. */
  texts: readonly string[] | null;
}

/** Common words: one token each in most vocabularies. */
const WORDS =
  'the and was to a he she it of in they said that had his with you for her on is as at so then but him up one day very big little saw went ball play park friend happy mom dog cat tree red box water home good want like look see help run'.split(
    ' ',
  );
/** Names a prompt so that it is like no other. */
const MARK_WORDS = 6;

export class Prompts {
  readonly isCounted: boolean;
  readonly #options: PromptOptions;
  readonly #prefix: string;
  readonly #prefixIds: number[];

  constructor(options: PromptOptions) {
    this.#options = options;
    this.isCounted = options.countTokens !== null || options.ids !== null || options.texts !== null;
    const random = new Random(options.seed, 'prefix');
    this.#prefix = this.#words(random, options.sharedPrefixTokens);
    this.#prefixIds = this.#ids(random, options.sharedPrefixTokens);
  }

  /** @param lengths of this one, where a trace gives them */
  payload(index: number, lengths: { promptTokens?: number; maxNewTokens?: number } = {}): TextPayload {
    const { countTokens, ids, maxNewTokens, promptTokens, seed, sharedPrefixTokens, texts } = this.#options;
    const random = new Random(seed, 'prompt', index);
    const wanted = lengths.promptTokens ?? drawLength(promptTokens, random);
    const newTokens = lengths.maxNewTokens ?? drawLength(maxNewTokens, random);
    const text = (prompt: string | number[], tokens: number | null): TextPayload => ({
      kind: 'text',
      prompt,
      promptTokens: tokens,
      maxNewTokens: newTokens,
    });
    if (texts !== null) {
      const given = texts[index % texts.length]!;
      return text(given, countTokens?.(given) ?? null);
    }
    const own = Math.max(1, wanted - sharedPrefixTokens);
    if (ids !== null && countTokens === null) {
      return text([...this.#prefixIds, ...this.#ids(random, own)].slice(0, Math.max(1, wanted)), wanted);
    }
    if (countTokens === null) {
      return text(join(this.#prefix, this.#words(random, own)), null);
    }
    const fitted = this.#fitted(random, wanted, countTokens);
    return text(fitted, countTokens(fitted));
  }

  /** Words until the tokenizer counts as many tokens; a word may be two, so it can be one short. */
  #fitted(random: Random, wanted: number, countTokens: (text: string) => number): string {
    let words = this.#words(random, wanted).split(' ');
    const textOf = (length: number) => join(this.#prefix, words.slice(0, length).join(' '));
    if (countTokens(textOf(words.length)) < wanted) {
      words = [...words, ...this.#words(random, wanted).split(' ')];
    }
    let least = 1;
    let most = words.length;
    while (least < most) {
      const middle = Math.ceil((least + most) / 2);
      if (countTokens(textOf(middle)) <= wanted) least = middle;
      else most = middle - 1;
    }
    return textOf(least);
  }

  #words(random: Random, length: number): string {
    const words = Array.from({ length }, () => random.choice(WORDS));
    // The first words differ in almost all prompts: 55^6 beginnings.
    return words.slice(0, Math.max(MARK_WORDS, length)).join(' ');
  }

  #ids(random: Random, length: number): number[] {
    const { first, last } = this.#options.ids ?? { first: 0, last: 0 };
    return Array.from({ length }, () => first + random.whole(last - first + 1));
  }
}

const join = (prefix: string, rest: string): string => (prefix === '' ? rest : `${prefix} ${rest}`);
