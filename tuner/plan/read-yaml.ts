/**
 * A YAML or JSON file as plain data.
 *
 * In      a file; YAML 1.2 core: data only, no tags that make anything
 * Out     its value
 * Limits  MAX_BYTES, MAX_ALIASES
 * Errors  Error naming file and line
 */
import { readFileSync, statSync } from 'node:fs';
import { parseDocument } from 'yaml';

const MAX_BYTES = 2 ** 20;
const MAX_ALIASES = 50;

export function readYaml(file: string): unknown {
  const { size } = statSync(file);
  if (size > MAX_BYTES) throw new Error(`${file} has ${size} bytes, ${MAX_BYTES} may be`);
  const document = parseDocument(readFileSync(file, 'utf8'), { schema: 'core', prettyErrors: true });
  const [problem] = [...document.errors, ...document.warnings];
  if (problem) throw new Error(`${file}: ${problem.message}`);
  return document.toJS({ maxAliasCount: MAX_ALIASES });
}
