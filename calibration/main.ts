/**
 * Command line of the calibration: `calibrate DIR STORE` (run by the partitioner as a child where int4 asks for it).
 *
 * Out     the path of the file, one line on standard output
 * Errors  one line on standard error and exit code 1
 */
import { ServingError } from '../proto/errors.js';
import { calibrate } from './calibrate.js';

const abort = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => abort.abort(new ServingError('CANCELLED', `ended by ${signal}`)));
}
try {
  const [folder = '.', store = '.shards'] = process.argv.slice(2);
  process.stdout.write(`${await calibrate(folder, store, abort.signal)}\n`);
} catch (error) {
  const known = ServingError.from(error);
  process.stderr.write(`${JSON.stringify({ code: known.code, message: known.message })}\n`);
  process.exitCode = 1;
}
