/**
 * Everything that is wrong with a configuration, said at once.
 *
 * Out     one CONFIG_INVALID with a line a problem; both each once
 */
import { ServingError } from '../../proto/errors.js';

/** More lines help nobody. */
const MAX_PROBLEMS = 20;

export class Problems {
  readonly #errors = new Set<string>();
  readonly #warnings = new Set<string>();

  error(message: string): void {
    this.#errors.add(message);
  }

  warn(message: string): void {
    this.#warnings.add(message);
  }

  get warnings(): readonly string[] {
    return [...this.#warnings];
  }

  /** @throws ServingError CONFIG_INVALID when there was any error */
  throwIfAny(): void {
    if (this.#errors.size === 0) return;
    const lines = [...this.#errors].slice(0, MAX_PROBLEMS);
    if (this.#errors.size > MAX_PROBLEMS) lines.push(`and ${this.#errors.size - MAX_PROBLEMS} more`);
    throw new ServingError('CONFIG_INVALID', lines.join('\n'));
  }
}
