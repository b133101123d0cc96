/**
 * The HTTP listener: where the dialects meet a socket.
 *
 * In      what createHttpApp takes
 * Out     listen, close, setDraining
 * Limits  close() waits drain_timeout for running responses, then cuts them
 * Errors  CONFIG_INVALID when the address can't be listened on
 */
import { lstatSync, unlinkSync } from 'node:fs';
import { ServingError } from '../../proto/errors.js';
import { createHttpApp, type HttpDeps } from './http-app.js';

export interface HttpServer {
  /** Starts to listen; the address as a URL, with the real port where 0 was asked. */
  listen(): Promise<string>;
  /** Refuses new requests, waits for running responses (bounded), then stops listening and closes every connection. */
  close(): Promise<void>;
  /** Refuse new requests with 503; running ones go on. */
  setDraining(): void;
}

export async function createHttpServer(options: HttpDeps): Promise<HttpServer> {
  const { app, setDraining, idle } = await createHttpApp(options);
  const { inferenceAddress: address, drainTimeoutSeconds } = options.config;
  return {
    async listen() {
      try {
        if (address.kind === 'unix') {
          removeStaleSocket(address.path);
          await app.listen({ path: address.path });
          return `unix:${address.path}`;
        }
        return await app.listen({ host: address.host, port: address.port });
      } catch (error) {
        const where = address.kind === 'unix' ? address.path : `${address.host}:${address.port}`;
        const code = (error as NodeJS.ErrnoException).code ?? String(error);
        const reason = code === 'EADDRINUSE' ? 'the address is in use' : code;
        throw new ServingError('CONFIG_INVALID', `inference_address: cannot listen on ${where}: ${reason}`, {
          cause: error,
        });
      }
    },
    async close() {
      setDraining();
      let timer: NodeJS.Timeout | undefined;
      const timeout = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, drainTimeoutSeconds * 1000);
      });
      await Promise.race([idle(), timeout]);
      clearTimeout(timer);
      await app.close();
    },
    setDraining,
  };
}

/** A socket file that a killed server left; anything else at that path stays and makes listen fail. */
function removeStaleSocket(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(path);
}
