/**
 * A thread that serves the wheels of a folder as a Python package index, on a loopback port that it tells: whoever assembles an image blocks.
 *
 * In      workerData: the folder
 * Out     one message, the index's address
 * Source  PEP 503
 */
import { once } from 'node:events';
import { createReadStream, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { workerData as folder, parentPort } from 'node:worker_threads';

const wheels = readdirSync(folder).filter((name) => name.endsWith('.whl'));
const server = createServer((request, response) => {
  const name = decodeURIComponent(path.posix.basename(request.url ?? ''));
  if (wheels.includes(name)) createReadStream(path.join(folder, name)).pipe(response);
  else if (!request.url?.endsWith('/')) response.writeHead(404).end();
  else {
    response.setHeader('content-type', 'text/html');
    response.end(wheels.map((one) => `<a href="../${encodeURIComponent(one)}">${one}</a>`).join('\n'));
  }
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
parentPort.postMessage(`http://127.0.0.1:${server.address().port}/simple/`);
