/**
 * A refusal that names the field: what the validators of every dialect return.
 *
 * Errors  BAD_REQUEST
 */
import { ServingError } from '../../proto/errors.js';

/** A value of a request that breaks its schema. */
export class InvalidInput extends ServingError {
  /** Name of the field, as the client wrote it; null: the body as a whole. */
  readonly param: string | null;

  constructor(message: string, param: string | null) {
    super('BAD_REQUEST', message);
    this.param = param;
  }
}
