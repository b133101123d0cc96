/** `npm run docs`: writes the parts of the documentation that are made from tables in the code. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { keyTableMarkdown } from '../../server/config/keys-markdown.js';
import { ACCESS_FILE, accessTables } from '../support/access-table.js';
import {
  ARCHITECTURES_END,
  ARCHITECTURES_FILE,
  ARCHITECTURES_START,
  renderArchitectureTable,
} from './render-architecture-table.js';
import { BODIES_END, BODIES_FILE, BODIES_START, renderBodyTable } from './render-body-table.js';
import { ERRORS_END, ERRORS_FILE, ERRORS_START, renderErrorTable } from './render-error-table.js';
import { FAMILIES_END, FAMILIES_FILE, FAMILIES_START, renderFamilyTable } from './render-family-table.js';
import { ROOT, readText } from './repository.js';

writeFileSync(path.join(ROOT, 'server/config/KEYS.md'), keyTableMarkdown());
writeBetween(ERRORS_FILE, ERRORS_START, ERRORS_END, renderErrorTable());
writeBetween(BODIES_FILE, BODIES_START, BODIES_END, renderBodyTable());
writeBetween(FAMILIES_FILE, FAMILIES_START, FAMILIES_END, await renderFamilyTable());
writeBetween(ARCHITECTURES_FILE, ARCHITECTURES_START, ARCHITECTURES_END, await renderArchitectureTable());
for (const [part, table] of Object.entries(await accessTables()))
  writeBetween(ACCESS_FILE, `<!-- ${part} -->`, `<!-- /${part} -->`, table);

function writeBetween(file: string, start: string, end: string, table: string): void {
  const [before, , after] = readText(file).split(new RegExp(`(?<=${start}\n)([\\s\\S]*?)(?=${end})`));
  if (after === undefined) throw new Error(`${file} has no ${start} … ${end}`);
  writeFileSync(path.join(ROOT, file), `${before}${table}${after}`);
}
