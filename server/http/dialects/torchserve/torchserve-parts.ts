/** What TorchServe's dialects need besides what all dialects share. Made by the program that starts the server. */
import type { TokenKind } from '../../../access/token-file.js';
import type { TorchServeConfig } from '../../../config/torchserve/torchserve-config.js';

/** What an archive, a folder or a URL says of itself; null: it does not. */
export interface ArchiveFacts {
  readonly modelName: string | null;
  readonly modelVersion: string | null;
  readonly runtime: string | null;
  readonly minWorkers: number | null;
}

/** Where a model came from, as its registration said. */
export interface ModelRecord {
  /** File, folder or URL as given. */
  readonly url: string;
  readonly runtime: string;
}

export interface Tokens {
  isApiKey(given: string): boolean;
  renew(kind: TokenKind): void;
}

export interface TorchServeParts {
  readonly config: TorchServeConfig;
  readonly modelStore: string;
  /** null: none are asked for. */
  readonly tokens: Tokens | null;
  /** @throws ServingError */
  manifestOf(url: string): Promise<ArchiveFacts>;
  /** Bytes that a process holds; null: it is gone. */
  residentBytes(pid: number): number | null;
  /** A model was registered, scaled, unregistered or made the default one. */
  onChange(): void;
}
