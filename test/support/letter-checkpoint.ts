/** A family's golden checkpoint with a tokenizer: a letter a token, so that texts are ids and golden tokens are a text. */
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { goldenFolder, readGolden } from './golden.js';

const FIRST_LETTER = 0x100;

export const lettersOf = (ids: readonly number[]): string =>
  ids.map((id) => String.fromCodePoint(FIRST_LETTER + id)).join('');

export interface LetterCheckpoint {
  /** Texts, and what transformers continues them with. */
  readonly cases: readonly { prompt: string; continued: string; newTokens: number }[];
  /** @param folder is made */
  write(folder: string): void;
}

export function letterCheckpoint(family: string): LetterCheckpoint {
  const { prompts, vocabSize } = readGolden(family);
  return {
    cases: prompts.map(({ greedyIds, ids }) => ({
      prompt: lettersOf(ids),
      continued: lettersOf(greedyIds),
      newTokens: greedyIds.length,
    })),
    write(folder) {
      mkdirSync(folder, { recursive: true });
      const names = readdirSync(goldenFolder(family)).filter(
        (name) => name === 'config.json' || name.startsWith('model'),
      );
      for (const name of names) cpSync(path.join(goldenFolder(family), name), path.join(folder, name));
      const vocab = Object.fromEntries(
        Array.from({ length: vocabSize }, (_, id): [string, number] => [lettersOf([id]), id]),
      );
      const tokenizer = {
        ...{ version: '1.0', truncation: null, padding: null, added_tokens: [] },
        ...{ normalizer: null, pre_tokenizer: null, post_processor: null, decoder: { type: 'Fuse' } },
        model: { type: 'BPE', vocab, merges: [], unk_token: null, byte_fallback: false },
      };
      writeFileSync(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
    },
  };
}
