/**
 * What must be true before compiled code can run: the platform fits, packages are installed, dist/ is as new as the sources.
 *
 * In      the repository's own files: package-lock.json, node_modules/.package-lock.json, the *.ts sources, dist/
 * Out     an installed node_modules and a fresh dist/, or one sentence on standard error and `false`
 * Limits  plain JavaScript on Node alone, since it runs before anything is installed; < 150 ms when there is nothing to do
 * Errors  never thrown for what a user can mend: the functions return false after saying what is wrong
 *
 * Used by server/shardserve.mjs (the command line) and test/run.mjs.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's (or installed package's) root. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');

const MIN_NODE_MAJOR = 20;
/** The folders that tsconfig.json compiles. */
export const SOURCE_FOLDERS = [
  'proto',
  'pipeline',
  'partitioner',
  'shard-worker',
  'calibration',
  'server',
  'tuner',
  'bench',
  'test',
];
const BUILD_STAMP = path.join(ROOT, 'dist', '.build-stamp');

/**
 * Why Shardserve cannot run here, in one sentence, or null.
 *
 * @param facts what process tells; an argument so that a test can pretend to be elsewhere
 */
export function unsupportedPlatform(
  facts = {
    platform: process.platform,
    arch: process.arch,
    nodeVersion: process.versions.node,
    glibc: process.platform === 'linux' ? process.report.getReport().header.glibcVersionRuntime : undefined,
  },
) {
  const { platform, arch, nodeVersion, glibc } = facts;
  if (platform !== 'linux' || !['x64', 'arm64'].includes(arch)) {
    return `Shardserve runs on Linux x64 and arm64; this is ${platform} ${arch}.`;
  }
  if (!glibc) {
    return 'Shardserve needs Linux with glibc: ONNX Runtime has no build for musl (Alpine); use a Debian, Ubuntu or Red Hat based system.';
  }
  if (Number.parseInt(nodeVersion, 10) < MIN_NODE_MAJOR) {
    return `Shardserve needs Node ${MIN_NODE_MAJOR} or newer; this is Node ${nodeVersion}.`;
  }
  return null;
}

/**
 * Compares the lock file with npm's own record of what is in node_modules.
 *
 * @param needDev whether development packages must be there too (build from source, tests)
 * @returns a reason to install, or null
 */
export function staleInstall(root = ROOT, needDev = true) {
  const lockPath = path.join(root, 'package-lock.json');
  // A package from a registry carries no lock file: its dependencies were installed with it.
  if (!existsSync(lockPath)) return null;
  const recordPath = path.join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(recordPath)) return 'packages are not installed yet';
  const wanted = JSON.parse(readFileSync(lockPath, 'utf8')).packages;
  const present = JSON.parse(readFileSync(recordPath, 'utf8')).packages;
  for (const [name, entry] of Object.entries(wanted)) {
    if (name === '' || entry.optional || entry.devOptional || entry.peer || (entry.dev && !needDev)) continue;
    const found = present[name];
    if (!found) return `${name.replace(/^.*node_modules\//, '')} is missing`;
    if (found.version !== entry.version) {
      return `${name.replace(/^.*node_modules\//, '')} is ${found.version}, the lock file says ${entry.version}`;
    }
  }
  return null;
}

/** Installs what the lock file says, when something is missing. Returns whether all is there. */
export function ensureInstalled({ needDev = true } = {}) {
  const reason = staleInstall(ROOT, needDev);
  if (reason === null) return true;
  console.error(`Installing packages (${reason}) …`);
  const args = ['ci', '--no-audit', '--no-fund', ...(needDev ? ['--include=dev'] : ['--omit=dev'])];
  const result = spawnSync('npm', args, {
    cwd: ROOT,
    stdio: ['ignore', 2, 2],
    // Without this the install step of onnxruntime-node fetches some 300 MB of CUDA libraries on Linux x64.
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: process.env.ONNXRUNTIME_NODE_INSTALL ?? 'skip' },
  });
  if (result.status === 0) return true;
  console.error(
    result.error
      ? `npm could not be started: ${result.error.message}`
      : `npm ci failed with code ${result.status}; see its messages above.`,
  );
  return false;
}

/** Paths of the sources, from the root. */
function sourceFiles() {
  const under = (folder) =>
    readdirSync(path.join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
      const file = `${folder}/${entry.name}`;
      if (entry.name === 'node_modules') return [];
      if (entry.isDirectory()) return under(file);
      return entry.name.endsWith('.ts') ? [file] : [];
    });
  return SOURCE_FOLDERS.filter((folder) => existsSync(path.join(ROOT, folder))).flatMap(under);
}

/** Every file whose change asks for a build: path, time and size of each, hashed. */
function fingerprintOf(sources) {
  const hash = createHash('sha256');
  for (const file of [...sources, 'tsconfig.json', 'package.json']) {
    const { mtimeMs, size } = statSync(path.join(ROOT, file));
    hash.update(`${file} ${mtimeMs} ${size}\n`);
  }
  return hash.digest('hex');
}

/** tsc's own record says what it wrote once, not what is still there. */
function forgetMissingOutput(sources) {
  const isThere = (file) => existsSync(path.join(ROOT, 'dist', file.replace(/\.ts$/, '.js')));
  if (!sources.every(isThere)) rmSync(path.join(ROOT, 'dist', '.tsbuildinfo'), { force: true });
}

/** tsc leaves the output of deleted sources behind; a test among them would still run. */
function removeOrphans(folder) {
  for (const entry of readdirSync(path.join(ROOT, 'dist', folder), { withFileTypes: true })) {
    const file = path.posix.join(folder, entry.name);
    if (entry.isDirectory()) removeOrphans(file);
    else if (entry.name.endsWith('.js') && !existsSync(path.join(ROOT, `${file.slice(0, -3)}.ts`))) {
      rmSync(path.join(ROOT, 'dist', file));
      rmSync(path.join(ROOT, 'dist', `${file}.map`), { force: true });
    }
  }
}

/** Compiles dist/ by the local tsc. Returns whether it succeeded. */
export function build() {
  const tsc = path.join(ROOT, 'node_modules', '.bin', 'tsc');
  const sources = sourceFiles();
  const fingerprint = fingerprintOf(sources);
  forgetMissingOutput(sources);
  const result = spawnSync(tsc, ['-p', 'tsconfig.json'], { cwd: ROOT, stdio: ['ignore', 2, 2] });
  mkdirSync(path.join(ROOT, 'dist'), { recursive: true });
  removeOrphans('');
  if (result.status !== 0) {
    rmSync(BUILD_STAMP, { force: true });
    console.error('The build failed; see the messages of tsc above.');
    return false;
  }
  writeFileSync(BUILD_STAMP, `${fingerprint}\n`);
  return true;
}

/** Builds when a source is newer than dist/. Without sources or without tsc (an installed package) dist/ is taken as it is. */
export function ensureBuilt() {
  const built = existsSync(path.join(ROOT, 'dist', 'server', 'main.js'));
  const canBuild =
    existsSync(path.join(ROOT, 'tsconfig.json')) &&
    existsSync(path.join(ROOT, 'node_modules', '.bin', 'tsc'));
  if (!canBuild) {
    if (built) return true;
    console.error('dist/ is missing and typescript is not installed: run `npm ci`, then start again.');
    return false;
  }
  if (existsSync(BUILD_STAMP) && readFileSync(BUILD_STAMP, 'utf8').trim() === fingerprintOf(sourceFiles())) {
    return true;
  }
  console.error(built ? 'Sources have changed, building …' : 'Building …');
  return build();
}

/** Whether this is a checkout (sources to build) or an installed package (dist/ only). */
export function isCheckout() {
  return existsSync(path.join(ROOT, 'tsconfig.json')) && existsSync(path.join(ROOT, 'package-lock.json'));
}

/** Platform, packages, build: returns whether the compiled programs can be imported; says what is wrong otherwise. */
export function prepare() {
  const refusal = unsupportedPlatform();
  if (refusal) {
    console.error(refusal);
    return false;
  }
  // An image made with `npm ci --omit=dev` and a built dist/ needs no compiler.
  const needDev = isCheckout() && !builtWithoutCompiler();
  return ensureInstalled({ needDev }) && ensureBuilt();
}

function builtWithoutCompiler() {
  return (
    existsSync(path.join(ROOT, 'dist', 'server', 'main.js')) &&
    existsSync(path.join(ROOT, 'node_modules')) &&
    !existsSync(path.join(ROOT, 'node_modules', 'typescript'))
  );
}
