/** One text of which an embedding model makes a vector, or a classifier scores: plain data, the same for every dialect. */
import type { AddressedRequest } from './addressed-request.js';
import type { Prompt } from './generate-request.js';

export interface EmbedRequest extends AddressedRequest {
  kind: 'embed';
  prompt: Exclude<Prompt, { kind: 'chat' }>;
  /** A second text beside it, of a classifier. Absent: none. */
  pair?: string;
  /** Labels' scores are wanted, of a classifier; a vector if false or absent. */
  scores?: boolean;
  /** Tokens beyond the model's limit are cut off (true) or refused (false); null: as the model's configuration says. */
  truncate: boolean | null;
  /** What the client's dialect does where nobody says. */
  truncateDefault: boolean;
  /** Tokens beyond these are cut off; null: no other limit than the model's. */
  maxTokens: number | null;
  /** Length of the vector; null: the model's. */
  dimensions: number | null;
}
