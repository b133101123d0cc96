/**
 * Keys of a model that makes vectors of texts.
 *
 * Source  normalize: LMI, whose default it has; truncate_texts is ours
 */
import { type KeyRow, modelKey } from './key-row.js';
import { choice } from './value-types.js';

export const EMBEDDING_KEYS: readonly KeyRow[] = [
  modelKey(
    'option.truncate_texts',
    'truncateTexts',
    choice<boolean | null>({ auto: { value: null }, true: { value: true }, false: { value: false } }),
    null,
    "a text to embed that is longer than the model takes (max_seq_length): true: its end is cut off, false: it is refused; auto: cut by DJLServing's paths, refused by OpenAI's (ours)",
  ),
  modelKey(
    'option.normalize',
    'normalize',
    choice<boolean | null>({ true: { value: true }, false: { value: false }, auto: { value: null } }),
    true,
    "vectors of texts have length 1; auto: where the checkpoint's modules.json says so. false is refused of a checkpoint that does it itself",
  ),
];
