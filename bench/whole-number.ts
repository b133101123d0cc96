/**
 * A number among a bench's options.
 *
 * In      the option's name, what was given, the least that makes sense
 * Out     the number
 * Errors  Error that names the option, the limit and what was given
 */
export function wholeNumber(option: string, text: string, least: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
  throw new Error(`--${option} must be a whole number of at least ${least}, got "${text.slice(0, 40)}"`);
}
