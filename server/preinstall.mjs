/**
 * The `preinstall` script of the package: keeps the package of ONNX Runtime from fetching 300 MB of CUDA libraries, which nothing here uses.
 *
 * In      script/install-metadata.js of the installed onnxruntime-node: npm unpacks everything before it runs the first script, and runs all
 *         `preinstall` scripts before the first `postinstall`
 * Out     that file with one line more, after which its `postinstall` asks for no file; ONNXRUNTIME_NODE_INSTALL, once set, decides as before
 * Limits  plain JavaScript on Node alone; nothing is done in a checkout, which forbids that script by `allowScripts`, nor where the package is
 *         laid out otherwise
 * Errors  never: an installation does not fail for this, it fetches more than it has to
 *
 * A setting of npm's would do, but a package cannot set one for whoever installs it. `shardserve gpu install` fetches what `cuda` needs.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const LINE =
  '\nif (process.env.ONNXRUNTIME_NODE_INSTALL === undefined) module.exports.requirements = {}; // shardserve: no CUDA libraries\n';

const around = path.dirname(fileURLToPath(new URL('..', import.meta.url)));
if (path.basename(around) === 'node_modules') keepFromFetching();

function keepFromFetching() {
  try {
    leaveOut();
  } catch {
    // See Errors above.
  }
}

function leaveOut() {
  const folder = path.dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
  const file = path.join(folder, 'script', 'install-metadata.js');
  if (!existsSync(file)) return;
  const text = readFileSync(file, 'utf8');
  if (text.includes(LINE)) return;
  // By renaming: the file may be a hard link into a package manager's store.
  writeFileSync(`${file}.shardserve`, text + LINE);
  renameSync(`${file}.shardserve`, file);
}
