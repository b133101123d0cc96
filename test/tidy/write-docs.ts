/** `npm run docs`: writes the parts of the documentation that are made from tables in the code. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { keyTableMarkdown } from '../../server/config/keys-markdown.js';
import { ERRORS_END, ERRORS_START, renderErrorTable } from './render-error-table.js';
import { ROOT, readText } from './repository.js';

writeFileSync(path.join(ROOT, 'server/config/KEYS.md'), keyTableMarkdown());

const readme = readText('README.md');
const [before, , after] = readme.split(new RegExp(`(?<=${ERRORS_START}\n)([\\s\\S]*?)(?=${ERRORS_END})`));
if (after === undefined) throw new Error(`README.md has no ${ERRORS_START} … ${ERRORS_END}`);
writeFileSync(path.join(ROOT, 'README.md'), `${before}${renderErrorTable()}${after}`);
