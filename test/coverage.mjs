/**
 * Line coverage per folder, from the files that NODE_V8_COVERAGE made every process of a test run write.
 *
 * In      a folder of raw V8 coverage; dist/**.js with their source maps
 * Out     one line a folder on standard output, coverage/lcov.info for editors
 * Limits  a line counts when the compiler made code of it: comments, blank lines and types are neither covered nor missed.
 *         A process that ended by SIGKILL wrote nothing.
 * Source  c8 merges the processes and maps dist/*.js back to *.ts
 */
import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import path from 'node:path';
import { Report } from 'c8';

/** The one-based lines of the source that the compiled file has code of. */
function codeLines(root, sourceFile) {
  const compiled = path.join(root, 'dist', path.relative(root, sourceFile)).replace(/\.ts$/, '.js');
  const map = new SourceMap(JSON.parse(readFileSync(`${compiled}.map`, 'utf8')));
  const lines = new Set();
  readFileSync(compiled, 'utf8')
    .split('\n')
    .forEach((text, index) => {
      if (/^\s*(?:$|\/\/|\/\*|\*|[)}\]]+[;,]*$)/.test(text)) return;
      const entry = map.findEntry(index, text.search(/\S/));
      if (entry.generatedLine === index) lines.add(entry.originalLine + 1);
    });
  return lines;
}

/** Covered and all code lines of a file, from c8's one statement a line. */
function measure(root, fileCoverage) {
  const wanted = codeLines(root, fileCoverage.path);
  const missed = [];
  let total = 0;
  for (const [id, { start }] of Object.entries(fileCoverage.statementMap)) {
    if (!wanted.has(start.line)) continue;
    total += 1;
    if (fileCoverage.s[id] === 0) missed.push(start.line);
  }
  return { file: path.relative(root, fileCoverage.path), total, covered: total - missed.length, missed };
}

/** `[4,5,6,9]` as `4-6 9`, at most twelve ranges. */
function asRanges(lines) {
  const ranges = [];
  for (const line of lines) {
    const last = ranges.at(-1);
    if (last && line <= last[1] + 2) last[1] = line;
    else ranges.push([line, line]);
  }
  const text = ranges.slice(0, 12).map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`));
  return text.join(' ') + (ranges.length > 12 ? ' …' : '');
}

/**
 * Prints the coverage of each folder.
 *
 * @param rawFolder what NODE_V8_COVERAGE named
 * @param folders top-level folders to measure; a file that never ran counts as missed
 * @param minPercent a folder below it makes the result false
 */
export async function reportCoverage(root, rawFolder, folders, minPercent) {
  const outFolder = path.join(root, 'coverage');
  await new Report({
    tempDirectory: rawFolder,
    reportsDirectory: outFolder,
    reporter: ['json', 'lcovonly'],
    src: [root],
    all: true,
    include: folders.map((folder) => `dist/${folder}/**`),
    exclude: [],
    extension: ['.js'],
    excludeAfterRemap: false,
    excludeNodeModules: true,
    omitRelative: true,
    mergeAsync: true,
    resolve: '',
  }).run();
  const coverage = JSON.parse(readFileSync(path.join(outFolder, 'coverage-final.json'), 'utf8'));
  const files = Object.values(coverage).map((file) => measure(root, file));
  let enough = true;
  for (const folder of folders) {
    const inside = files.filter(({ file, total }) => file.startsWith(`${folder}/`) && total > 0);
    const total = inside.reduce((sum, file) => sum + file.total, 0);
    const covered = inside.reduce((sum, file) => sum + file.covered, 0);
    const percent = total === 0 ? 0 : (100 * covered) / total;
    console.log(`coverage ${folder}: ${percent.toFixed(1)} % of ${total} lines in ${inside.length} files`);
    for (const { file, missed } of inside.sort((a, b) => b.missed.length - a.missed.length).slice(0, 12)) {
      if (missed.length > 0) console.log(`  ${missed.length} lines missed in ${file}: ${asRanges(missed)}`);
    }
    if (percent < minPercent) {
      enough = false;
      console.log(`  ${folder} is under the bound of ${minPercent} %`);
    }
  }
  return enough;
}
