/**
 * What ends the jobs of one who asks.
 *
 * Out     an AbortController; any number of jobs may listen to its signal: 128 choices, a list of texts. Ten would bring a warning of Node's
 */
import { setMaxListeners } from 'node:events';

export function clientController(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}
