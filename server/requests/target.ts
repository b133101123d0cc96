/** Where a client's request goes, and what its transport knows of it: what a dialect adds its body to. Plain data. */
import type { GenerateRequest } from './generate-request.js';

export interface Target extends Pick<GenerateRequest, 'priority' | 'timeoutMs' | 'cacheSalt'> {
  requestId: string;
  model: string;
  version: string | null;
}
