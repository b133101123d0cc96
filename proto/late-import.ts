/**
 * Imports of a running program: of code that most runs of it do without.
 *
 * In      the import
 * Out     what it gives
 * Errors  its own
 * How     Node 20 takes a path for resolved when it knows its folders and the last file that anybody looked at was a pipe or a socket
 *         (fs.realpathSync looks at the last stat of the process), as a log's is. Behind a symbolic link (pnpm's, npm link's) packages are
 *         then loaded a second time, by another name, and empty where they lead back to themselves. So a folder is looked at first
 */
import { statSync } from 'node:fs';

export function lateImport<T>(load: () => Promise<T>): Promise<T> {
  statSync('/');
  return load();
}
