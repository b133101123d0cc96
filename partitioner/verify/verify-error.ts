/** The one kind of error of `--verify`: ServingError SHARDS_INVALID. */
import { ServingError } from '../../proto/errors.js';

export const invalid = (what: string): ServingError => new ServingError('SHARDS_INVALID', what);
