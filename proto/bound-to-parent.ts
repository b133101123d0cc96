/** Imported before a child's own program (bound-child.ts): from here on the kernel ends it with its parent. */
import { PARENT_PID } from './bound-child.js';
import { dieWithParent } from './die-with-parent.js';

// The parent ended between its call and this line.
if (!dieWithParent(Number(process.env[PARENT_PID]))) process.kill(process.pid, 'SIGKILL');
